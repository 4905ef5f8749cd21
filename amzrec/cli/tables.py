"""Aligned tables for people: columns of numbers to the right, words to the left, long titles cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from amzrec.errors import printable


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Set rows under a header; a column whose cells are all numbers stands to the right, and None shows as -."""
    cells = [[text(value) for value in row] for row in rows]
    columns = [list(column) for column in zip(*cells, strict=True)] or [[] for _ in header]
    widths = [max(map(len, [name, *column])) for name, column in zip(header, columns, strict=True)]
    right = [bool(column) and all(is_number(cell) for cell in column) for column in columns]

    def line(row: Sequence[str]) -> str:
        parts = zip(row, widths, right, strict=True)
        return "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in parts
        ).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, cells)])


def used_columns(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Set a table without the columns that have no value in any row; the first column always stays."""
    used = [0] + [i for i in range(1, len(header)) if any(row[i] is not None for row in rows)]
    return table([header[i] for i in used], [[row[i] for i in used] for row in rows])


def text(value: Any) -> str:
    """Write a cell: whole numbers with thousands separators, other numbers with three decimals, None as -."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return printable(str(value)).replace("\n", "\\n")  # as wide as it is shown


def is_number(cell: str) -> bool:
    """Whether a cell shows a number, or none at all."""
    return cell == "-" or cell.replace(",", "").replace(".", "", 1).lstrip("-").isdigit()


def span(low: float, high: float) -> str:
    """Write the bin of a histogram: `1` where it holds one number, else `3 to 4`."""
    if isinstance(low, int):
        return f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{low:g}" if low == high else f"{low:.3g} to {high:.3g}"


def cut(title: str | None, room: int) -> str | None:
    """Shorten a title to `room` characters, with an ellipsis where it was cut."""
    return title if title is None or len(title) <= room else title[: room - 1].rstrip() + "…"
