"""Text files as engines read them: unpacked, in UTF-8, with line feeds, one JSON object per line, one tab per blank.

Most files are so already, and are read where they are. Of the others a copy is made, line for line.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from amzrec.errors import AmzrecError
from amzrec.reviews.sources import encoding, foreign, loosejson, packing, quirks, shape
from amzrec.reviews.textfile import LONGEST, check_gzip, may_have_longer_lines, open_bytes

START = 1 << 18  # bytes that tell how a file is written
PARQUET = b"PAR1"
CONTROLS = [chr(code) for code in range(32) if chr(code) not in "\x01\t\n\r\f"]  # that text has none of
HIVE = "\x01"  # what Hive writes between fields

LONGER = "a_line_of_{}_bytes_which_is_too_long"  # in place of one

Rewrite = Callable[[Iterator[str]], Iterable[str]]  # pieces of text → other pieces


@dataclasses.dataclass(frozen=True)
class TextFile:
    """One file of a source, as a person knows it and as it can be read."""

    name: str  # what errors and rejects.parquet call it
    path: Path  # where it can be read, perhaps a copy
    constants: dict[str, str | None] = dataclasses.field(default_factory=dict)  # columns that its folders name
    named: bool = False  # by itself, among several sources: it is not passed over


@dataclasses.dataclass(frozen=True)
class Writing:
    """How a text file is written, where that is known."""

    encoding: str | None = None  # None: UTF-8 unless its first bytes say something else
    delimiter: str | None = None  # one of shape.DELIMITERS, shape.BLANKS, any other character; None: found
    loose: bool = False  # JSON lines that are none, somewhere in the file
    spanning: bool = False  # quoted text that goes over line ends, somewhere in the file


def made_plain(file: TextFile, scratch: Path, writing: Writing) -> tuple[TextFile, list[str]]:
    """Return the file as engines read it, and what to tell the person of it: sentences.

    Raises AmzrecError where it is damaged, or no table but something known.
    """
    check_gzip(file.path)
    path = packing.unpacked(file.path, scratch)
    notes: list[str] = []
    with open_bytes(path) as stream:
        start = stream.read(START)
    if start.startswith(PARQUET):
        return dataclasses.replace(file, path=path), notes
    foreign.refuse(file.name, start)
    code = encoding.known(writing.encoding) if writing.encoding else encoding.at_first_sight(start) or encoding.UTF8
    text = start.decode(code, "replace")
    marked, text = text.startswith("\ufeff"), text.removeprefix("\ufeff")
    if text.count("\0") * 100 > len(text) or sum(map(text.count, CONTROLS)) * 20 > len(text):
        raise AmzrecError(f"{file.name} is no text and no Parquet: name a table (CSV, TSV, JSON lines, Parquet)")
    rewrites = rewrites_of(file.name, text, writing, notes, marked)
    if not writing.encoding and code == encoding.UTF8 and (rewrites or "\ufffd" in text):
        code = encoding.of_lines(path)
    if code != encoding.UTF8:
        notes.append(f"{file.name} is read as {code}; --encoding names another one")
    if rewrites or code != encoding.UTF8 or may_have_longer_lines(path):
        rewrites.append(without_longer_lines)
    if not rewrites:
        return dataclasses.replace(file, path=path), notes
    pieces = encoding.decoded(path, code)
    for rewrite in rewrites:
        pieces = iter(rewrite(pieces))
    copy = packing.free_name(scratch, "plain")
    with copy.open("w", encoding="utf-8", errors=encoding.KEPT, newline="") as target:
        target.writelines(pieces)
    return dataclasses.replace(file, path=copy), notes


def rewrites_of(name: str, text: str, writing: Writing, notes: list[str], marked: bool = False) -> list[Rewrite]:
    """Choose what has to be done to a file that begins with this text; `notes` gets what to tell of it.

    `marked`: a byte order mark stands before the text. Raises AmzrecError for what is no table, but something known.
    """
    rewrites: list[Rewrite] = []
    if "\r" in text and "\n" not in text:
        rewrites.append(with_line_feeds)
        text = text.replace("\r", "\n")
    if re.match(r"\[\s*(\[|\]\s*$)", text):
        raise AmzrecError(
            f"{name} is a JSON array without objects: write one object per review, such as "
            '{"user_id": …, "item_id": …}'
        )
    form = loosejson.form_of(text)
    if form == "objects":
        notes.append(f"{name} is JSON over several lines: its objects are read one by one")
        return [*rewrites, json_objects]
    if form == "loose" or writing.loose:
        notes.append(
            f"lines of {name} are not strict JSON (Python's dicts, commas at their end): they are read as JSON"
        )
        return [*rewrites, json_lines]
    if form:
        return rewrites or ([unchanged] if marked else [])
    if HIVE in text.lstrip().partition("\n")[0] and text[:4096].count(HIVE) > 1 and "\t" not in text:
        rewrites.append(tabs_of_hive)
        text = text.replace(HIVE, "\t")
    quirks.refuse(name, text)
    if quirks.has_backslashes(text):
        rewrites.append(without_backslashes)
        text = "\n".join(quirks.doubled(text.split("\n")))
    if delimiter := quirks.single_quoted(text):
        rewrites.append(functools.partial(without_single_quotes, delimiter=delimiter))
        text = "\n".join(quirks.double_quoted(text.split("\n"), delimiter))
        notes.append(f"fields of {name} stand in single quotes, and are read without them")
    top = quirks.top_of(text, writing.delimiter)
    if top.above or top.missing:
        rewrites.append(functools.partial(quirks.without_top, top=top))
        text = "".join(quirks.without_top(iter([text]), top))
        notes += told_of(top, name)
    lines = [line for line in text.splitlines() if line.strip()][:200]
    if writing.delimiter == shape.BLANKS or (not writing.delimiter and shape.is_blank_separated(lines)):
        rewrites.append(tab_separated)
    return rewrites


def told_of(top: quirks.Top, name: str) -> list[str]:
    """Return what to tell of the top of a table: lines that are passed over, a header that is one name short."""
    told = [f"the header of {name} has no name for its {top.missing} column"] if top.missing else []
    if top.above > top.comments:
        told.append(f"above the header of {name} stand lines of something else ({top.above}), which are passed over")
    return told


def unchanged(pieces: Iterator[str]) -> Iterator[str]:
    """Copy the text, without the mark at its start: the reader of JSON does not pass over one."""
    return pieces


def without_longer_lines(pieces: Iterator[str]) -> Iterator[str]:
    """Replace lines longer than LONGEST by a text that says so and is no review, which is then refused and listed.

    Other lines go through in pieces: nothing but the line that a piece ends with is kept.
    """
    rest, length = list[str](), 0  # an unfinished line, and its bytes
    for piece in pieces:
        first, end, others = piece.partition("\n")
        length += bytes_of(first)
        rest = [*rest, first] if length <= LONGEST else []
        if not end:
            continue
        yield from [*rest, end] if length <= LONGEST else [LONGER.format(length), end]
        middle, end, last = others.rpartition("\n")
        if bytes_of(middle) > LONGEST:
            sizes = map(bytes_of, lines := middle.split("\n"))
            middle = "\n".join(line if n <= LONGEST else LONGER.format(n) for line, n in zip(lines, sizes, strict=True))
        yield middle + end
        rest, length = [last], bytes_of(last)
    yield from rest if length <= LONGEST else [LONGER.format(length)]


def bytes_of(text: str) -> int:
    """Count the bytes that a text has in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", encoding.KEPT))


def tabs_of_hive(pieces: Iterator[str]) -> Iterator[str]:
    """Replace the delimiter of Hive, a control character, by tabs."""
    return (piece.replace(HIVE, "\t") for piece in pieces)


def with_line_feeds(pieces: Iterator[str]) -> Iterator[str]:
    """Replace carriage returns by line feeds, one for the two that end lines of Windows."""
    decoder = io.IncrementalNewlineDecoder(None, translate=True)
    yield from (decoder.decode(piece) for piece in pieces)
    yield decoder.decode("", final=True)


def json_objects(pieces: Iterator[str]) -> Iterator[str]:
    """Put each object on a line of its own."""
    return (line + "\n" for line in loosejson.objects(pieces))


def json_lines(pieces: Iterator[str]) -> Iterator[str]:
    """Make loose JSON strict, line for line."""
    return (line + "\n" for line in loosejson.strict_lines(lines_of(pieces)))


def without_backslashes(pieces: Iterator[str]) -> Iterator[str]:
    r"""Write quotes behind backslashes as doubled quotes."""
    return (line + "\n" for line in quirks.doubled(lines_of(pieces)))


def without_single_quotes(pieces: Iterator[str], delimiter: str) -> Iterator[str]:
    """Write fields in single quotes as fields in double quotes, or in none."""
    return (line + "\n" for line in quirks.double_quoted(lines_of(pieces), delimiter))


def tab_separated(pieces: Iterator[str]) -> Iterator[str]:
    """Replace runs of blanks by one tab."""
    return (re.sub(r"[ \t]+", "\t", line.strip(" \t\r")) + "\n" for line in lines_of(pieces))


def lines_of(pieces: Iterator[str]) -> Iterator[str]:
    """Yield the lines of a text that comes in pieces, without their ends."""
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        yield from lines
    if rest:
        yield rest
