"""Times that lie far outside those of all other reviews, such as 9999-12-31, 2099 or the 1970 of an empty field."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from amzrec.arrays import Array
from amzrec.reviews.engines.protocol import Engine, Table
from amzrec.store.times import few

DAY = 86_400  # seconds
NEAR = 365  # days beyond all but a few reviews that are never far


class Span(NamedTuple):
    """The times that the reviews of a source may have, and how many lie outside."""

    first: int  # unix seconds
    end: int  # unix seconds after the last one
    outside: int  # reviews
    said: str  # the sentence that tells a person of it


def span_of(days: Array, reviews: Array) -> Span | None:
    """Find the span of the times of reviews, without a few of them that lie far outside; None where none does.

    `days` [n] are days since 1970, `reviews` [n] how many have each. Aside are, at each end, as many as
    are `few`. What remains has a length; far is what lies further outside than that length, and than a year.
    """
    order = np.argsort(days)
    days, reached = days[order], np.cumsum(reviews[order])
    total = int(reached[-1]) if len(reached) else 0
    aside = few(total)
    if not aside:
        return None
    low, high = (int(days[np.searchsorted(reached, place, side="right")]) for place in (aside, total - 1 - aside))
    reach = max(high - low, NEAR)
    inside = (days >= low - reach) & (days <= high + reach)
    outside = total - int(reviews[order][inside].sum())
    if not outside:
        return None
    far = days[~inside]
    furthest = max((far[0], far[-1]), key=lambda day: max(low - day, day - high))
    said = (
        f"{outside:,} timestamps lie far outside the others and count as missing: such as {date(furthest)}, where "
        f"all but a few are from {date(low)} to {date(high)}"
    )
    return Span((low - reach) * DAY, (high + reach + 1) * DAY, outside, said)


def date(day: int) -> str:
    """Return a number of days since 1970 as a date."""
    return str(np.datetime64(int(day), "D"))


def without_outliers(engine: Engine, rows: Table) -> tuple[Table, Span | None]:
    """Return checked rows with times far outside made null, and the span of the others; None where there are none.

    One look at the days of all good rows: their counts are exact, so that all engines find the same span.
    """
    good = rows.filter(rows.reason.isnull() & rows.timestamp.notnull())
    day = (good.timestamp / DAY).floor().cast("int64").name("day")
    counted: pa.Table = engine.fetch(good.group_by(day).agg(n=good.count()))
    span = span_of(counted["day"].to_numpy(), counted["n"].to_numpy())
    if span is None:
        return rows, None
    inside = (rows.timestamp >= span.first) & (rows.timestamp < span.end)
    return rows.mutate(timestamp=inside.ifelse(rows.timestamp, None)), span
