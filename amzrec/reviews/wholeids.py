"""Ids that are whole numbers and were written as floats, as a column with holes has them: 17.0 and 1e+07."""

from __future__ import annotations

import dataclasses

import ibis

from amzrec.reviews.engines.protocol import Column, Engine, Table
from amzrec.reviews.relation import BROKEN, Part

# As C, Python and R write them (1e+07), and Java (1.0E7); 1e5 is an id of its own
EXPONENT = r"^\s*-?(\d(\.\d+)?[eE]\+\d\d+|\d\.\d+E\d+)\s*$"
POINT = r"^\s*(-?\d+)\.0+\s*$"
WHOLE = rf"{EXPONENT}|^\s*-?\d+(\.0+)?\s*$"
LARGEST = 2**63 - 1024  # the largest float that is a whole number of 64 bits


def with_whole(engine: Engine, part: Part, ids: list[str]) -> Part:
    """Return a part whose `ids` are written as whole numbers, those columns of which every value is one.

    `ids` are columns that are floats, or whose first values look like it; of text all values are looked at.
    """
    floats = [name for name in ids if part.reviews[name].type().is_floating()]
    names = floats + [name for name in ids if name not in floats and is_whole(engine, part.reviews, name)]
    if not names:
        return part
    reviews, in_order = (
        None if table is None else table.mutate(**{name: as_whole(table[name]) for name in names})
        for table in (part.reviews, part.in_order)
    )
    return dataclasses.replace(part, reviews=reviews, in_order=in_order)


def is_whole(engine: Engine, table: Table, name: str) -> bool:
    """Return whether all values of a text column are whole numbers, or nothing."""
    if BROKEN in table.columns:
        table = table.filter(table[BROKEN].isnull())
    text = table[name].cast("string")
    whole = ibis.coalesce(text.re_search(WHOLE) & whole_of(text.strip().try_cast("float64")).notnull(), False)
    other = table.filter((text.strip() != "") & ~whole).limit(1)
    return not engine.fetch(other.select(name)).to_pylist()


def as_whole(column: Column) -> Column:
    """Return a column of floats, or of text that is whole numbers, as whole numbers in text; NaN as null."""
    if column.type().is_floating():
        text = ibis.cases((column.isnan(), ibis.null().cast("string")), else_=column.cast("string"))
        return ibis.coalesce(whole_of(column).cast("string"), text)
    text = column.cast("string")
    number = whole_of(text.strip().try_cast("float64")).cast("string")
    return ibis.cases((text.re_search(EXPONENT), number), else_=text.re_replace(POINT, r"\1"))


def whole_of(number: Column) -> Column:
    """Return a float as a whole number of 64 bits, null where it is none."""
    nothing = ibis.null()
    number = number.cast("float64")
    number = ibis.cases((number.abs() <= LARGEST, number), else_=nothing.cast("float64"))
    whole = number.floor().cast("int64")
    return ibis.cases((whole.cast("float64") == number, whole), else_=nothing.cast("int64"))
