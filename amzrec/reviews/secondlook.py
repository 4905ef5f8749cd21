"""What a first reading shows of how files are written, where lines were refused for it; the files are then read again.

Looking at every line of every file beforehand would take as long as reading them, and hardly any file needs it.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from amzrec.config import PrepareConfig
from amzrec.reviews.relation import NOT_JSON, NOT_UTF8, RAGGED, UNBALANCED, Part
from amzrec.reviews.sources import encoding, loosejson
from amzrec.reviews.sources.plain import Writing
from amzrec.reviews.sources.shape import fields
from amzrec.reviews.textfile import open_bytes

WINDOW, WINDOWS = 2_000, 20  # lines after one with an open quote, and how many such places are looked at
CERTAIN = 4  # records that fit and whose lines do not, before quotes group text between tabs
BAD_LINES = 50  # lines that are no JSON that are tried as loose JSON


def writings(
    parts: Iterable[Part], refused: Mapping[str, int], odd: bool, known: Mapping[str, Writing], config: PrepareConfig
) -> dict[str, Writing]:
    """Return how files are written that were read wrongly, by name; none where all is as it should be.

    `refused` counts lines by the reason why they were refused, `odd` says whether some have an odd number of quotes.
    Files that are in `known` have been looked at.
    """
    better: dict[str, Writing] = {}
    asked = Writing(config.encoding, config.delimiter)
    for part in parts:
        name = part.called or str(part.file)
        if name in known or name in better:
            continue
        writing = asked
        if (part.json or part.lines) and not config.encoding and (refused.get(NOT_UTF8) or refused.get(NOT_JSON)):
            code = encoding.of_lines(part.file)
            writing = dataclasses.replace(writing, encoding=None if code == encoding.UTF8 else code)
        if len(part.delimiter) == 1 and (odd or refused.get(RAGGED) or refused.get(UNBALANCED)):
            writing = dataclasses.replace(writing, spanning=goes_over_lines(part.file, part.delimiter))
        if part.json and refused.get(NOT_JSON):
            writing = dataclasses.replace(writing, loose=is_loose(part.file))
        if writing != asked:
            better[name] = writing
    return better


def goes_over_lines(path: Path, delimiter: str) -> bool:
    """Return whether quoted text of a delimited file goes over line ends: more records than lines then fit the header.

    Looked at are the lines after each of those with an odd number of quotes.
    """
    lines = (line.decode("utf-8", "replace").rstrip("\r\n") for line in lines_of(path))
    first = next((line for line in lines if line.strip()), "")
    by_line = by_record = 0  # how many are as wide as the first
    for _ in range(WINDOWS):
        opening = next((line for line in lines if line.count('"') % 2), None)
        if opening is None:
            break
        window = [first, opening, *itertools.islice(lines, WINDOW)]
        if sum(line.count('"') for line in window[1:]) % 2:  # the last record ends behind the window
            window += itertools.takewhile(lambda line: line.count('"') % 2 == 0, lines)
        try:
            records = list(csv.reader((line + "\n" for line in window if line), delimiter=delimiter))
        except csv.Error:  # a field without end
            continue
        by_line += sum(len(fields(line, delimiter)) == len(records[0]) for line in window if line)
        by_record += sum(len(record) == len(records[0]) for record in records)
    # a stray quote swallows lines, so that fewer fit; between tabs quotes are hardly ever more than letters
    return by_record > by_line + (CERTAIN if delimiter == "\t" else 0)


def is_loose(path: Path) -> bool:
    """Return whether lines that are no JSON objects are objects all the same: dicts of Python, with commas behind."""
    texts = (text for line in lines_of(path) if (text := line.decode("utf-8", "replace").strip()))
    bad = itertools.islice((line for line in texts if not loosejson.is_object(line)), BAD_LINES)
    return any(loosejson.loose_object(line) is not None for line in bad)


def lines_of(path: Path) -> Iterator[bytes]:
    """Yield the lines of a plain or gzip file, with their ends."""
    with open_bytes(path) as file:
        yield from file
