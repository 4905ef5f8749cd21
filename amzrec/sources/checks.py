"""The cleaning that every source goes through: typed columns, and the reason why a row is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ibis
import pyarrow.parquet as pq

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.sources.relation import BROKEN, Part, Source

NO_CUSTOMER = "no customer"
NO_PRODUCT = "no product"
NO_TITLE = "no product title"
NO_STARS = "stars are no number"
OFF_SCALE = "stars off the scale"
MILLISECONDS = 100_000_000_000  # above: milliseconds (as seconds it would be the year 5138)


def checked(source: Source, part: Part, key: str) -> Any:
    """The reviews of one file, typed, with `reason` (null where the row is good) and `given` = False.

    Columns: customer_id str, product_id str (what the product key chose), product_title str, category str,
    stars float32, timestamp int64 unix seconds, given bool, undated bool (a timestamp
    that could not be read), reason str; as many rows as the part has.
    """
    raw = part.reviews
    empty = ibis.null().cast("string")

    def text(name: str) -> Any:
        return raw[name].cast("string").strip().nullif("") if name in raw.columns else empty

    product = text("product_id")
    if key == "parent":
        product = ibis.coalesce(text("product_parent"), product)
    elif key == "title" and not source.products:
        product = text("product_title")
    table = raw.select(
        customer_id=text("customer_id"),
        product_id=product,
        product_title=text("product_title"),
        category=text("category"),
        stars=number(raw["stars"]) if "stars" in raw.columns else ibis.null().cast("float64"),
        written=text("stars"),
        timestamp=seconds(raw["timestamp"]) if "timestamp" in raw.columns else ibis.null().cast("int64"),
        undated=text("timestamp").notnull(),
        broken=raw[BROKEN] if BROKEN in raw.columns else empty,
    )
    click = table.written.isnull() if source.clicks or "stars" not in raw.columns else ibis.literal(False)
    wrong = table.stars.isnull() | table.stars.isnan() | table.stars.isinf()
    cases = [
        (table.broken.notnull(), table.broken),
        (table.customer_id.isnull(), NO_CUSTOMER),
        (table.product_id.isnull(), NO_TITLE if key == "title" else NO_PRODUCT),
        (~click & wrong, NO_STARS),
    ]
    if source.scale:
        cases.append((~table.stars.between(*source.scale), OFF_SCALE))
    return table.mutate(
        stars=table.stars.cast("float32"),
        undated=table.undated & table.timestamp.isnull(),
        given=ibis.literal(False),
        reason=ibis.cases(*cases, else_=empty),
    ).drop("written", "broken")


def number(column: Any) -> Any:
    """A text or number column as float64, null where the text is no number."""
    return column.strip().try_cast("float64") if column.type().is_string() else column.cast("float64")


def seconds(column: Any) -> Any:
    """Unix seconds of a column of seconds, milliseconds, ISO dates or month/day/year; null where it is none."""
    if column.type().is_timestamp() or column.type().is_date():
        return column.cast("timestamp").epoch_seconds().cast("int64")
    if not column.type().is_string():
        return scaled(column.cast("int64"))
    column = column.strip()
    us = column.re_extract(r"^(\d{1,2})/(\d{1,2})/(\d{4})$", 0)
    month, day, year = (us.split("/")[i] for i in range(3))
    iso = ibis.cases((us != "", year.concat("-", month.lpad(2, "0"), "-", day.lpad(2, "0"))), else_=column)
    return ibis.coalesce(
        scaled(column.try_cast("int64")),
        iso.try_cast("timestamp").epoch_seconds().cast("int64"),
    )


def scaled(value: Any) -> Any:
    """Seconds, whether the number was seconds or milliseconds."""
    return ibis.cases((value.abs() > MILLISECONDS, (value / 1000).floor().cast("int64")), else_=value)


def enough(source: Source, config: PrepareConfig, read: int, rejected: dict[str, int], listed: Path) -> None:
    """Raise AmzrecError where nothing was read, nothing is left, or more than --max-rejects was refused.

    `listed` is rejects.parquet, which gives the examples.
    """
    if read == 0:
        raise AmzrecError(f"{source.name} has a header or nothing at all, but no reviews: name a file with rows in it")
    share = sum(rejected.values()) / read
    if share < 1 and share <= config.max_rejects:
        return
    table = pq.read_table(listed, columns=["line", "reason", "text"]).slice(0, 100_000).to_pylist()
    examples = {row["reason"]: row for row in reversed(table)}
    told = [
        f"{n:,} {reason} (line {examples[reason]['line']}: {examples[reason]['text'][:80]!r})" if reason in examples
        else f"{n:,} {reason}"
        for reason, n in list(rejected.items())[:3]
    ]  # fmt: skip
    column = source.columns.get("stars")
    if rejected.get(NO_STARS) == read:
        raise AmzrecError(
            f"no row of {source.name} has a number in its stars column {column!r}: {told[0]}. "
            "Name the right column with --columns …,stars=COLUMN, or leave stars out to take every row as a click"
        )
    remedy = "or raise --max-rejects" if share < 1 else "or say what it is with --format"
    raise AmzrecError(
        f"{share:.1%} of the {read:,} rows of {source.name} cannot be used (--max-rejects allows {config.max_rejects:.0%}): "
        f"{'; '.join(told)}. Mend the file, name its columns with --columns, {remedy}"
    )
