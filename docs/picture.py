#!/usr/bin/env python3
"""Draws docs/chat.svg: runs the chat in a terminal, asks it a question and keeps what the screen shows.

    docs/picture.py BUILD_FOLDER
Needs tmux.
"""

import html
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUESTION, ANSWER = "What is 15 × 23?", "345"
COLUMNS, LINES = 76, 14
COLOURS = {31: "#f28b82", 32: "#81c995", 33: "#fdd663", 34: "#8ab4f8", 35: "#c58af9", 36: "#78d9ec"}


def tmux(*words):
    return subprocess.run(["tmux", "-L", "picture", *words], check=True, capture_output=True, text=True).stdout


def screen(build):
    """The lines of the terminal once the answer stands there, with their escape sequences."""
    tmux("new-session", "-d", "-x", str(COLUMNS), "-y", str(LINES), f"cd '{ROOT}' && '{build}/examples/chat' 2>&1")
    try:
        for text, wanted in (("", "\n>"), (QUESTION + "\n", ANSWER)):
            if text:
                tmux("send-keys", "-l", text.rstrip("\n"))
                tmux("send-keys", "Enter")
            deadline = time.monotonic() + 60
            while wanted not in "\n" + tmux("capture-pane", "-p") and time.monotonic() < deadline:
                time.sleep(0.2)
        time.sleep(1)
        return tmux("capture-pane", "-p", "-e").rstrip("\n").split("\n")
    finally:
        subprocess.run(["tmux", "-L", "picture", "kill-server"], check=False)


def rows(lines):
    """Each line as SVG text spans: colours, bold and dim, which last until they are reset, over line ends too."""
    style = ""
    for line in lines:
        out = []
        for part in re.split(r"(\x1b\[[\d;]*m)", line):
            if part.startswith("\x1b["):
                for code in (int(c or 0) for c in part[2:-1].split(";")):
                    if code in (0, 39):
                        style = ""
                    style += {1: "font-weight:bold;", 2: "fill:#80868b;"}.get(code, "")
                    style += f"fill:{COLOURS[code]};" if code in COLOURS else ""
            elif part:
                out.append(f'<tspan style="{style}">{html.escape(part)}</tspan>')
        yield "".join(out)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    lines = screen(pathlib.Path(sys.argv[1]).resolve())
    text = "".join(f'<text x="14" y="{28 + 18 * i}" xml:space="preserve">{row}</text>' for i, row in enumerate(rows(lines)))
    width, height = COLUMNS * 8 + 28, 28 + 18 * len(lines)
    (ROOT / "docs/chat.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"<title>The chat, asked {QUESTION}</title>"
        "<style>text{font:13px ui-monospace,monospace;fill:#e8eaed}</style>"
        f'<rect width="{width}" height="{height}" rx="8" fill="#202124"/>{text}</svg>\n')


if __name__ == "__main__":
    main()
