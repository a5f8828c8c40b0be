"""Doxygen's input filter for gptoss.h: prints the header with its plain comments as Doxygen's.

A comment before several declarations without an empty line between them belongs to each. A function that no comment
belongs to is an error.
"""

import re
import sys


def main(path: str) -> None:
    with open(path, encoding="utf-8") as file:
        text = re.sub(r"^/\* -{10,}.*\*/\n", "", file.read(), flags=re.MULTILINE)  # headings
    text = text.replace("/*", "/** @file\n *", 1)
    text = re.sub(r"(?<=[;,{])( *)/\* ", r"\1/**< ", text)
    text = re.sub(r"^( *)/\*(?=\s)", r"\1/**", text, flags=re.MULTILINE)

    blocks = []
    for block in text.split("\n\n"):
        comment = re.match(r"/\*\*.*?\*/\n", block, flags=re.DOTALL)
        declarations = re.split(r"(?<=;)\n(?=GPTOSS_ABI|typedef)", block)
        for declaration in declarations[1:] if comment else declarations:
            if declaration.startswith("GPTOSS_ABI") and not comment:
                sys.exit(f"{path}: no comment on {declaration}")
        blocks.append(("\n" + comment[0] if comment else "\n").join(declarations))
    print("\n\n".join(blocks))


main(sys.argv[1])
