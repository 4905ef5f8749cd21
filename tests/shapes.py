"""Whether output has the shape of the output that a document shows: the same words, any numbers, names and widths."""

from __future__ import annotations

import re

LEFT_OUT = "…"  # a line of its own: any lines stand here; at the end of a line: any text follows


def shape(line: str) -> str:
    """A line with its numbers as #, the cells of a table apart by |, and the words of a ranked row as names.

    `   2  Tarnwick Pedals   3.965  661865488` and `   1  Tent  -0.2  9` are both `#|name|#|#`.
    """
    cells = [cell for cell in re.split(r"\s{2,}", line.strip()) if cell]
    cells = ["rule" if re.fullmatch("-{2,}", cell) else number(cell) for cell in cells]
    if len(cells) > 1 and cells[0] == "#":  # a row that begins with its rank, or with the stars or reviews it counts
        cells = ["#", *("#" if cell == "#" else "name" for cell in cells[1:])]
    return "|".join(cells)


def number(cell: str) -> str:
    """A cell with each number as #; a missing figure, `-`, is a number too."""
    return "#" if cell == "-" else re.sub(r"[-+−]?\d[\d,]*(\.\d+)*(e[-+]?\d+)?", "#", cell)


def follows(found: str, shown: str) -> str | None:
    """None where the output has the shape of what is shown, else the first shown line that is missing."""
    lines = [shape(line) for line in found.splitlines() if line.strip()]
    place, anywhere = 0, False
    for line in (line for line in shown.splitlines() if line.strip()):
        if line.strip() == LEFT_OUT:
            anywhere = True
            continue
        wanted = shape(line.removesuffix(LEFT_OUT))
        cut = line.endswith(LEFT_OUT)
        rest = lines[place:] if anywhere else lines[place : place + 1]
        at = next((i for i, have in enumerate(rest) if have == wanted or (cut and have.startswith(wanted))), None)
        if at is None:
            return line
        place, anywhere = place + at + 1, False
    return None if anywhere or place == len(lines) else f"nothing after line {place}"
