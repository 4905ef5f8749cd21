"""What every source becomes: relations of reviews as text, and what the source knows of products and customers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from amzrec.reviews.engines.protocol import Column, Table

# The columns that a relation of reviews may have; customer_id and product_id always
RAW = ("customer_id", "product_id", "product_parent", "product_title", "category", "stars", "timestamp")

# Columns that a reader may add
BROKEN = "amzrec:broken"  # why the line could not be read, else null
ODD = "amzrec:odd"  # whether the line has an odd number of quotes
POSITION = "amzrec:position"  # where the row stands, a number that grows as the file goes on
LINE = "amzrec:line"  # the text of the line

# Values of BROKEN, and reasons for what readers leave out
RAGGED = "not the number of fields of the header"
NOT_UTF8 = "not UTF-8"
NOT_JSON = "no JSON object"
BAD_RECORD = "quotes or number of fields do not fit"
UNBALANCED = "unbalanced quotes"
BLANK = "blank"  # nothing but delimiters: passed over as a blank line is

FIRST_TIMES = 5  # timestamps that tell whether all of them are looked at

Facts = dict[str, tuple[str | None, list[str]]]  # id → (title or None, features as "name=value")


@dataclasses.dataclass(frozen=True)
class Part:
    """The reviews of one file.

    Row i of `reviews` (or of `in_order`) in the order of the file is the i-th non-blank line after `header` lines.
    """

    file: Path
    reviews: Table  # RAW columns as text or numbers, and columns that the reader adds
    header: int = 0
    lines: bool = True  # False: the file has no lines of text (Parquet), row i is its row i
    in_order: Table | None = None  # the rows from a slower reader that keeps their order, where `reviews` does not
    json: bool = False  # JSON lines: a line that is not UTF-8 is a row too (a broken one)
    delimiter: str = ""  # of delimited text that is read line by line
    called: str = ""  # what rejects.parquet calls the file, where it is a copy of something else
    first_times: list[str] | None = None  # some of the timestamps as text, where opening the file showed them


@dataclasses.dataclass(frozen=True)
class Meaning:
    """What the values of the columns mean, as far as it is known."""

    time_format: str | None = None  # see reviews/times.py; None: ISO dates, 8/31/2015, or seconds and finer
    written_stars: bool = False  # stars are text with a number in it
    clicks: bool = False  # stars say nothing
    counts: bool = False  # stars are counts: how much each click weighs
    unrated: tuple[float, ...] = ()  # values of stars that mean "not rated"
    whole_ids: tuple[str, ...] = ()  # columns of ids that are whole numbers, some with an exponent


@dataclasses.dataclass(frozen=True)
class Source:
    """A source, opened: nothing but its first lines is read before the expressions run."""

    name: str  # as the person gave it
    format: str  # as --format takes it
    columns: dict[str, str]  # our column → the source's
    parts: tuple[Part, ...]
    scale: tuple[float, float] | None = None  # lowest and highest stars the layout allows; None: read from the data
    clicks: bool = False  # whether an empty stars field is a click (True) or a mistake (False)
    products: Facts = dataclasses.field(default_factory=dict)  # by product_id
    customers: Facts = dataclasses.field(default_factory=dict)  # by customer_id
    notes: tuple[str, ...] = ()  # what to tell the person: sentences
    meaning: Meaning = Meaning()
    fingerprint: str = ""  # of the content, where it does not lie in files of this machine

    @property
    def has(self) -> tuple[str, ...]:
        """The columns of RAW that the source has."""
        return tuple(name for name in RAW if name in self.parts[0].reviews.columns)


def added_by_reader(table: Table) -> dict[str, Column]:
    """Return the columns that the reader of a table added: BROKEN, ODD, POSITION, LINE, those that are there."""
    return {name: table[name] for name in (BROKEN, ODD, POSITION, LINE) if name in table.columns}


def in_order(columns: dict[str, str]) -> dict[str, str]:
    """Return these columns in the order of RAW."""
    return {ours: columns[ours] for ours in RAW if ours in columns}
