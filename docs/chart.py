#!/usr/bin/env python3
"""Draws docs/speed.svg from the table "Beside llama.cpp" in examples/BENCHMARKS.md: docs/chart.py"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROW = re.compile(r"^\| (\S+) \| (prefill|decode)[^|]*\| ([\d.]+)[^|]*\| ([\d.]+)[^|]*\| ([\d.]+) \|$")
WIDTH, LEFT, BAR, GAP = 760, 190, 18, 30


def rows():
    """(label, ours, theirs) in tokens/s, of each row of the table."""
    text = (ROOT / "examples/BENCHMARKS.md").read_text()
    section = text.split("## Beside llama.cpp")[1].split("\n## ")[0]
    found = [ROW.match(line) for line in section.splitlines()]
    table = [(f"{m[2]}, {m[1]} weights", float(m[3]), float(m[4])) for m in found if m]
    if not table:
        sys.exit("examples/BENCHMARKS.md has no table beside llama.cpp")
    return table


def bar(y, value, scale, colour, label):
    width = max(2, value * scale)
    return (f'<rect x="{LEFT}" y="{y}" width="{width:.0f}" height="{BAR}" rx="3" fill="{colour}"/>'
            f'<text x="{LEFT + width + 8:.0f}" y="{y + BAR - 5}">{label}</text>')


def main():
    table = rows()
    scale = (WIDTH - LEFT - 170) / max(ours for _, ours, _ in table)
    parts, y = [], 44
    for label, ours, theirs in table:
        parts.append(f'<text x="{LEFT - 12}" y="{y + BAR + 4}" text-anchor="end">{label}</text>')
        parts.append(bar(y, ours, scale, "#2f7d5b", f"libgptoss {ours:.1f}, {ours / theirs:.0f} times"))
        parts.append(bar(y + BAR + 3, theirs, scale, "#9aa0a6", f"llama.cpp {theirs:.1f}"))
        y += 2 * BAR + GAP
    style = "text{font:13px system-ui,sans-serif;fill:#3c4043}@media(prefers-color-scheme:dark){text{fill:#e8eaed}}"
    title = "Tokens a second beside llama.cpp's Vulkan backend, both on the software device of one 2-core machine"
    svg = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img"><title>{title}</title>'
           f'<style>{style}</style><text x="0" y="20">{title}</text>{"".join(parts)}</svg>\n')
    (ROOT / "docs/speed.svg").write_text(svg)


if __name__ == "__main__":
    main()
