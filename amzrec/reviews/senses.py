"""What the columns of a source mean, seen after a first reading: the format of its times, and what its stars are."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews import stars, times, wholeids
from amzrec.reviews.checks import NO_STARS
from amzrec.reviews.engines.protocol import Engine, Table
from amzrec.reviews.relation import FIRST_TIMES, Meaning, Part, Source

if TYPE_CHECKING:
    from amzrec.reviews.preparation import RowCounts

MOST_TIMES = 100_000  # different times that tell how they are written
MOST_STARS = 1_000  # different values of stars


WRITTEN = "stars of {!r} are partly text (such as 4,5 or 4 out of 5 stars): the number in it is taken"


class Reading(NamedTuple):
    """What the columns mean, and what to tell of it."""

    meaning: Meaning
    notes: list[str]


def asked(config: PrepareConfig) -> Meaning:
    """Return what the flags say; raises AmzrecError where they do not make sense."""
    return Meaning(
        time_format=times.check_format(config.time_format) if config.time_format else None,
        clicks=config.stars_are == "clicks",
        counts=config.stars_are == "counts",
        unrated=stars.unrated_of(config.unrated) if config.unrated else (),
    )


def counted(source: Source) -> str:
    """Say how counts are taken; raises AmzrecError where no column holds them."""
    if "stars" not in source.columns:
        raise AmzrecError(
            f"--stars-are counts: nothing says which column of {source.name} holds them: add stars=COLUMN to --columns"
        )
    return (
        f"counts of {source.columns['stars']!r}: every row is a click that weighs log(1 + count) in the loss of "
        "retrieval, divided by the mean over train; --stars-are clicks lets all weigh the same"
    )


def name_of(source: Source) -> str | None:
    """Return what the stars column was taken for, as --stars-are has it; None where there is none."""
    if "stars" not in source.columns:
        return None
    return "clicks" if source.meaning.clicks else "counts" if source.meaning.counts else "stars"


def reading_of(
    engine: Engine, source: Source, parts: list[Part], rows: Table, counts: RowCounts, config: PrepareConfig
) -> Reading:
    """Tell what the columns mean where the first reading found something odd, else what was meant so far."""
    meaning, notes = source.meaning, []
    old = counts.oldest is not None and counts.oldest < times.OLD
    young = counts.newest is not None and counts.newest >= times.LAST
    odd = bool(counts.undated) or old or young
    if not config.time_format and "timestamp" in source.columns and (odd or doubtful(engine, parts)):
        found = times.found(values_of(engine, parts))
        meaning = dataclasses.replace(meaning, time_format=found.format)
        notes += [found.note] if found.note else []
    if counts.exponents:
        meaning = dataclasses.replace(meaning, whole_ids=whole_ids(engine, source, parts))
    if counts.refused.get(NO_STARS):
        meaning = dataclasses.replace(meaning, written_stars=True)
    elif sense := stars_sense(engine, source, rows, counts, config):
        meaning = dataclasses.replace(meaning, clicks=sense.clicks, unrated=sense.unrated)
        notes += [sense.note] if sense.note else []
    return Reading(meaning, notes)


def whole_ids(engine: Engine, source: Source, parts: list[Part]) -> tuple[str, ...]:
    """Return the columns of ids in which all values of all files are whole numbers, however they are written."""
    return tuple(
        name for name in ("customer_id", "product_id", "product_parent")
        if name in source.has and all(wholeids.is_whole(engine, part.reviews, name) for part in parts)
    )  # fmt: skip


def stars_sense(
    engine: Engine, source: Source, rows: Table, counts: RowCounts, config: PrepareConfig
) -> stars.Sense | None:
    """Tell what the stars of checked rows mean; None where there are none.

    They are counted, which is one more look at all rows, only where the lowest and highest tell that
    they may be more than plain stars.
    """
    if "stars" not in source.columns or source.meaning.clicks or source.meaning.counts:
        return None
    if not (config.unrated or source.meaning.unrated) and stars.are_plain(
        counts.lowest, counts.highest, source.scale is not None
    ):
        return stars.Sense()
    good = rows.filter(rows.reason.isnull() & rows.stars.notnull())
    counted = engine.fetch(good.group_by("stars").agg(n=good.count()).limit(MOST_STARS + 1)).to_pylist()
    values = stars.values_of(counted)
    unrated = ",".join(f"{value:g}" for value in source.meaning.unrated)
    return stars.sense_of(
        values,
        source.columns["stars"],
        config.unrated or unrated or None,
        scaled=source.scale is not None,
        certain=config.stars_are == "stars",
    )


def values_of(engine: Engine, parts: list[Part]) -> list[str]:
    """Return different values of the timestamp columns as text."""
    values: list[str] = []
    for part in parts:
        column = part.reviews.select(value=part.reviews["timestamp"].cast("string")).distinct().limit(MOST_TIMES)
        values += [value for value in engine.fetch(column)["value"].to_pylist() if value is not None]
    return values


def doubtful(engine: Engine, parts: list[Part]) -> bool:
    """Return whether the first times have an offset from UTC, or days and months whose order must be found out."""
    column = parts[0].reviews["timestamp"]
    if not column.type().is_string():
        return False
    first = parts[0].first_times
    if first is None:
        first = engine.fetch(parts[0].reviews.select(value=column).limit(FIRST_TIMES))["value"].to_pylist()
    return any(value and ("/" in value or "+" in value or value.count("-") > 2) for value in first)
