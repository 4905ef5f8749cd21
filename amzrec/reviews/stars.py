"""What the numbers of a stars column mean: stars, marks for "not rated", counts, or the same for all."""

from __future__ import annotations

from typing import Any, NamedTuple

import ibis

from amzrec.errors import AmzrecError
from amzrec.reviews.engines.protocol import Column, Engine, Table
from amzrec.reviews.split import TRAIN

HIGHEST = 100  # of all scales of stars; more are counts
MARKS = (-1.0, -99.0, 99.0, 999.0)  # that people write for "not rated"
NUMBER = r"([+-]?(?:\d+(?:[.,]\d+)?|[.,]\d+))"
WRITTEN = (  # stars as text: what comes before and after the number
    rf"^\s*(?:rated\s+)?{NUMBER}\s*(?:(?:/|out of|von|sur|de|di|su)\s*\d+(?:[.,]\d+)?)?\s*"
    r"(?:%|\*|★|stars?|sternen?|étoiles?|estrellas?|stelle|points?|pts)?\s*$"
)
NOTHING = ("", "null", "none", "na", "n/a", "-", "?", "\\n", "unrated", "not rated")


def number_in(column: Column) -> Column:
    """Return the number that is written in a text: 4,5 and 4.0 out of 5 stars and 4/5 and 80% and ★★★★☆."""
    text = column.cast("string").strip().lower()
    found = text.re_extract(WRITTEN, 1).replace(",", ".").try_cast("float32")
    glyphs = text.length() - text.replace("★", "").length()
    drawn = ibis.cases((text.re_search(r"^★+[☆½ ]*$"), glyphs.cast("float32")), else_=ibis.null().cast("float32"))
    return ibis.coalesce(found, drawn)


def is_nothing(column: Column) -> Column:
    """Return whether a text stands for no stars at all."""
    return column.cast("string").strip().lower().isin(NOTHING)


class Sense(NamedTuple):
    """What the values of a stars column mean."""

    clicks: bool = False  # they say nothing: reviews are clicks
    unrated: tuple[float, ...] = ()
    note: str = ""


def unrated_of(text: str) -> tuple[float, ...]:
    """Return the values of --unrated; raises AmzrecError where they are no numbers."""
    if text.strip().lower() == "none":
        return ()
    try:
        return tuple(float(value) for value in text.split(","))
    except ValueError:
        raise AmzrecError(f"--unrated is {text!r}; allowed: numbers such as -1 or 0,99, or none") from None


def sense_of(counts: dict[float, int], column: str, asked: str | None, scaled: bool, certain: bool = False) -> Sense:
    """Tell what values of a stars column mean, from how often each occurs; `asked` is --unrated.

    `scaled`: the layout of the source says what stars there are; `certain`: the person says that they are stars.
    Raises AmzrecError for counts.
    """
    unrated = unrated_of(asked) if asked else ()
    note = ""
    stars = {value: n for value, n in counts.items() if value not in unrated}
    if not scaled and not asked:
        marks = tuple(value for value in stars if value in MARKS and is_detached(value, list(stars)))
        if marks and len(stars) - len(marks) > 1:
            unrated = marks
            n, rest = sum(stars[value] for value in marks), [value for value in stars if value not in marks]
            listed = ",".join(f"{value:g}" for value in marks)
            note = (
                f"{n:,} stars are {listed}, apart from the others ({min(rest):g} to {max(rest):g}): taken for not "
                f"rated, as --unrated {listed} says; --unrated none takes them for stars"
            )
            stars = {value: stars[value] for value in rest}
        elif is_zero_apart(stars):
            note = (
                f"{stars[0.0]:,} of {sum(stars.values()):,} stars are 0, below {min(v for v in stars if v):g} to "
                f"{max(stars):g}: if 0 means not rated, add --unrated 0"
            )
    if stars and len(stars) == 1 and sum(stars.values()) > 1 and not certain:
        (only,) = stars
        return Sense(True, unrated, f"all stars are {only:g}: taken as clicks; --stars-are stars takes them for stars")
    if not scaled and not certain and stars and max(stars) > HIGHEST:
        raise AmzrecError(
            f"column {column!r} holds numbers from {min(stars):g} to {max(stars):,g}, which look like counts (plays, "
            "hours), not stars: add --stars-are counts to take every row as a click that weighs log(1 + count), "
            "--stars-are clicks for clicks that all weigh the same, or name the stars column with "
            "--columns …,stars=COLUMN"
        )
    return Sense(False, unrated, note)


def weights_of(engine: Engine, reviews: Table) -> Table:
    """Return reviews whose stars are counts as clicks with a weight: log(1 + count), 1 on average over train.

    Raises AmzrecError where all counts of train are 0. The mean is rounded, so that every engine gives the same.
    """
    weight = (reviews.stars.cast("float64") + 1).ln()
    (found,) = engine.fetch(reviews.filter(reviews.part == TRAIN).agg(mean=weight.mean())).to_pylist()
    if not found["mean"]:
        raise AmzrecError("all counts are 0, so that no row weighs anything: add --stars-are clicks")
    mean = float(f"{found['mean']:.10g}")
    return reviews.mutate(stars=ibis.null().cast("float32"), weight=(weight / mean).cast("float32"))


def are_plain(lowest: float | None, highest: float | None, scaled: bool) -> bool:
    """Return whether stars between these are stars whatever they are: `sense_of` has nothing to tell of them."""
    if lowest is None or highest is None or highest - lowest < 0.001:  # rounded they may all be one
        return False
    return scaled or (lowest > 0 and highest < min(mark for mark in MARKS if mark > 0))


def is_detached(mark: float, values: list[float]) -> bool:
    """Return whether a value stands apart from the others: below a scale from 0 or 1, or far above its end."""
    others = [value for value in values if value not in MARKS]
    if not others:
        return False
    return min(others) >= 0 if mark < 0 else max(others) <= mark / 4


def is_zero_apart(stars: dict[float, int]) -> bool:
    """Return whether 0 is far more frequent than the value above it, as where it means "not rated"."""
    others = sorted(value for value in stars if value)
    if 0.0 not in stars or len(others) < 2 or others[0] < 0:
        return False
    gap = others[0] > 1.5 * (others[1] - others[0])
    return gap or (others[0] >= 1 and stars[0.0] > max(2 * stars[others[0]], 0.05 * sum(stars.values())))


def values_of(rows: list[dict[str, Any]]) -> dict[float, int]:
    """Return {stars: how many} of rows with the columns stars and n."""
    return {round(float(row["stars"]), 4): int(row["n"]) for row in rows if row["stars"] is not None}
