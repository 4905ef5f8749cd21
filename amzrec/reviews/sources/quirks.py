"""Quirks of text tables that other programs write: lines above the header, headers one name short, quotes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from amzrec.errors import AmzrecError
from amzrec.reviews.sources import shape

LOOKED_AT = 200  # lines
DEEPEST = 20  # lines that may stand above the header
EVEN = 0.9  # share of lines of one width from which lines are a table
SEPARATOR = re.compile(r"sep=.\r?$", re.IGNORECASE)  # the first line of CSV that Excel writes
NETFLIX = re.compile(r"\d+:\s*\n\d+,[1-5],\d{4}-\d\d-\d\d\s*\n")  # how the files of the Netflix Prize begin


class Top(NamedTuple):
    """What stands at the top of a text table."""

    above: int  # lines above the header that are no part of the table
    comments: int  # of those, the ones that begin with #, and blank ones
    missing: str = ""  # "first" or "last": which name the header lacks
    delimiter: str = ""


def top_of(text: str, delimiter: str | None = None) -> Top:
    """Find where the header of the table in this text stands, and whether it lacks the name of a column."""
    lines = text.split("\n")[:LOOKED_AT]
    marked = comments(lines)
    begin = marked + bool(lines[marked:] and SEPARATOR.match(lines[marked]))
    numbers = [n for n in range(begin, len(lines)) if lines[n].strip()]
    rest = [lines[n].rstrip("\r") for n in numbers]
    choices = (delimiter,) if delimiter and delimiter != shape.BLANKS else shape.DELIMITERS
    if len(rest) < 4:
        return Top(begin, marked)
    if even(rest, choices)[0] >= 0.5:
        _, d = even(rest, choices)
        skipped = titles_above(rest, d)
        return Top(numbers[skipped] if skipped else begin, marked, delimiter=d)
    for n in range(1, min(DEEPEST, len(rest) // 2)):
        share, d = even(rest[n:], choices)
        if share >= EVEN:
            if lacks := missing_name(rest[n - 1 :], d):
                return Top(numbers[n - 1] if n > 1 else begin, marked, lacks, d)
            if any(len(shape.fields(line, other)) > 2 for line in rest[:n] for other in choices):
                break  # that may be a header
            return Top(numbers[n], marked, delimiter=d)
    return Top(begin, marked)


def refuse(name: str, text: str) -> None:
    """Raise AmzrecError for the files of the Netflix Prize, whose products stand on lines above their reviews."""
    if NETFLIX.match(text.replace("\r", "")):
        raise AmzrecError(
            f"{name} is of the Netflix Prize: products stand on lines above their reviews. Write them beside, with: "
            'awk -F, \'/:/ {sub(":.*", ""); movie = $0; next} {print movie "," $0}\' FILE > reviews.csv, and name that '
            "with --columns product=0,customer=1,stars=2,timestamp=3"
        )


def even(lines: list[str], delimiters: Iterable[str]) -> tuple[float, str]:
    """Return the largest share of lines that a delimiter parts as the first one, and that delimiter."""
    shares = [(max(shape.evenness(lines, delimiter)), delimiter) for delimiter in delimiters]
    return max(shares, key=lambda one: one[0])


def titles_above(lines: list[str], delimiter: str) -> int:
    """Count the lines at the top of a wide table that hold one text alone, such as a title."""
    filled = [sum(bool(field.strip()) for field in shape.fields(line, delimiter)) for line in lines[:DEEPEST]]
    header = next((n for n, count in enumerate(filled) if count > 1), 0)
    names = shape.fields(lines[header], delimiter)
    return header if len(names) > 2 and not any(map(shape.number_like, names)) else 0


def missing_name(lines: list[str], delimiter: str) -> str:
    """Tell which name a header lacks that is one column shorter than its rows: "last", "first" (row numbers), or ""."""
    header, *rows = (shape.fields(line, delimiter) for line in lines)
    rows = [row for row in rows if len(row) == len(header) + 1]
    if len(header) < 2 or len(rows) < EVEN * (len(lines) - 1) or any(map(shape.number_like, header)):
        return ""
    if not any(row[-1].strip() for row in rows):
        return "last"
    numbers = [row[0].strip().strip('"') for row in rows]
    return "first" if all(number.isdigit() for number in numbers) and len({*numbers}) == len(numbers) else ""


def comments(lines: list[str]) -> int:
    """Count the lines that begin with # above the header, blank ones between them included.

    A single line that begins with # and has the columns of those after it is the header.
    """
    count = next((n for n, line in enumerate(lines) if line.strip() and not line.startswith("#")), 0)
    marked = [line for line in lines[:count] if line.startswith("#")]
    if len(marked) == 1 and shape.same_width(marked[0], lines[count]):
        return 0
    return count if marked else 0


def without_top(pieces: Iterator[str], top: Top) -> Iterator[str]:
    """Replace lines above the header by blank ones, so that the number of a line stays its number; mend the header."""
    lines = next(pieces, "").split("\n")
    lines[: top.above] = [""] * top.above
    header = next((n for n, line in enumerate(lines) if line.strip()), 0)
    if top.missing == "first":
        lines[header] = top.delimiter + lines[header]
    elif top.missing:
        lines[header] = lines[header].rstrip("\r") + top.delimiter
    yield "\n".join(lines)
    yield from pieces


def has_backslashes(text: str) -> bool:
    r"""Return whether quotes within quoted text are written \" in this text, as Spark and MySQL write them."""
    lines = [line for line in text.splitlines() if line.strip()][:LOOKED_AT]
    if not any('\\"' in line for line in lines):
        return False
    quoted = list(doubled(lines))
    return even(quoted, shape.QUOTING)[0] > even(lines, shape.QUOTING)[0]


def doubled(lines: Iterable[str]) -> Iterator[str]:
    r"""Write \" as "" and \\ as \ in each line."""
    return (re.sub(r'\\(["\\])', lambda found: '""' if found[1] == '"' else "\\", line) for line in lines)


def single_quoted(text: str) -> str | None:
    """Return the delimiter of a text whose fields stand in single quotes, in the same columns of each line; else None.

    A header needs none.
    """
    lines = [line.rstrip("\r") for line in text.split("\n") if line.strip()][:LOOKED_AT]
    for delimiter in ",;\t|":
        rows = [fields_in_quotes(line, delimiter) for line in lines]
        kinds = {tuple(field.startswith("'") for field in row) for row in rows[1:] if row}
        if len(lines) > 1 and all(rows[1:]) and len(kinds) == 1 and len(kind := kinds.pop()) > 1 and any(kind):
            return delimiter
    return None


def fields_in_quotes(line: str, delimiter: str) -> list[str]:
    """Part a line into fields of which some stand in single quotes, which stay; nothing where it is not such a line."""
    one = rf"'(?:[^']|'')*'|[^'\"{re.escape(delimiter)}]*"
    if not re.fullmatch(rf"(?:{one})(?:{re.escape(delimiter)}(?:{one}))*", line):
        return []
    return re.findall(rf"(?:^|{re.escape(delimiter)})({one})", line)


def double_quoted(lines: Iterable[str], delimiter: str) -> Iterator[str]:
    """Write fields in single quotes with double quotes where they need some; other lines stay as they are."""
    for line in lines:
        fields = fields_in_quotes(line.rstrip("\r"), delimiter)
        inner = [field[1:-1].replace("''", "'") if field.startswith("'") else field for field in fields]
        if delimiter in shape.QUOTING:
            inner = ['"' + text.replace('"', '""') + '"' if {delimiter, '"'} & {*text} else text for text in inner]
        elif any(delimiter in text for text in inner):  # which only quotes could tell
            fields = []
        yield delimiter.join(inner) if fields else line
