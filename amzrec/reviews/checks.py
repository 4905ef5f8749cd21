"""The cleaning that every source goes through: typed columns, and the reason why a row is refused."""

from __future__ import annotations

from pathlib import Path

import ibis
import pyarrow.parquet as pq

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews import stars, times, wholeids
from amzrec.reviews.engines.protocol import Column, Table
from amzrec.reviews.relation import BROKEN, ODD, Meaning, Part, Source

NO_CUSTOMER = "no customer"
NO_PRODUCT = "no product"
NO_TITLE = "no product title"
NO_STARS = "stars are no number"
OFF_SCALE = "stars off the scale"
NO_COUNT = "count is no number from 0 on"
# A larger count is of milliseconds (of seconds it would be the year 5138); 1000 times that: of micro-, then nanoseconds
FINER = 100_000_000_000
AMERICAN = r"^(\d{1,2})[/ ](\d{1,2})(?:/|, )(\d{4})$"  # 8/31/2015, and 02 26, 2014 of the Amazon JSON lines


def checked(source: Source, part: Part, key: str, titles: Table | None = None) -> Table:
    """Return the reviews of one file, typed, with `reason` (null where the row is good) and, if there, `position`.

    Columns: customer_id str, product_id str (what the product key chose), product_title str, category str, stars
    float32, timestamp int64 unix seconds, undated bool (a timestamp that could not be read), odd bool (see ODD), reason
    str; as many rows as the part has. `key` is id, title or parent; `titles` (id, title) is the catalogue that key
    `title` looks in.
    """
    raw = part.reviews
    empty = ibis.null().cast("string")

    def text(name: str) -> Column:
        if name not in raw.columns:
            return empty
        whole = name in source.meaning.whole_ids
        return filled(wholeids.as_whole(raw[name]) if whole else raw[name].cast("string"))

    product, title = text("product_id"), text("product_title")
    if titles is not None:
        raw = raw.mutate(review_title=title, key=product).left_join(titles, [("key", "id")])
        product, title = raw.key, ibis.coalesce(raw.title, raw.review_title)
    if key == "parent":
        product = ibis.coalesce(text("product_parent"), product)
    elif key == "title":
        product = title
    table = raw.select(
        customer_id=text("customer_id"),
        product_id=product,
        product_title=title,
        category=text("category"),
        **stars_in(raw, source.meaning),
        timestamp=times_in(raw, source.meaning),
        dated=text("timestamp").notnull(),
        broken=raw[BROKEN] if BROKEN in raw.columns else empty,
        odd=raw[ODD] if ODD in raw.columns else ibis.literal(False),
        **({"position": raw.position} if "position" in raw.columns else {}),
    )
    allowed = source.clicks or "stars" not in raw.columns or source.meaning.clicks or source.meaning.unrated
    click = ~table.rated if allowed else ibis.literal(False)
    no_number = table.stars.isnull() | table.stars.isnan() | table.stars.isinf()
    cases = [
        (table.broken.notnull(), table.broken),
        (table.customer_id.isnull(), NO_CUSTOMER),
        (table.product_id.isnull(), NO_TITLE if key == "title" else NO_PRODUCT),
        (no_number | (table.stars < 0), NO_COUNT) if source.meaning.counts else (~click & no_number, NO_STARS),
    ]
    if source.scale and not source.meaning.counts:
        cases.append((~click & ~table.stars.between(*source.scale), OFF_SCALE))
    return table.mutate(
        undated=table.dated & table.timestamp.isnull(),
        reason=ibis.cases(*cases, else_=empty),
    ).drop("rated", "dated", "broken")


def stars_in(raw: Table, meaning: Meaning) -> dict[str, Column]:
    """Return the columns stars (float32), and rated: whether something stands there that should be stars."""
    nothing = ibis.null().cast("float32")
    if "stars" not in raw.columns or meaning.clicks:
        return {"stars": nothing, "rated": ibis.literal(False)}
    column = raw["stars"]
    rated = filled(column.cast("string")).notnull()
    value = number(column)
    if meaning.written_stars and column.type().is_string():
        empty = ibis.coalesce(stars.is_nothing(column), True)
        value = ibis.cases((empty, nothing), else_=ibis.coalesce(value, stars.number_in(column)))
        rated &= ~empty
    if meaning.unrated:
        marked = ibis.coalesce(value.isin(meaning.unrated), False)
        value, rated = ibis.cases((marked, nothing), else_=value), rated & ~marked
    return {"stars": value, "rated": rated}


def times_in(raw: Table, meaning: Meaning) -> Column:
    """Return the unix seconds of the timestamp column."""
    if "timestamp" not in raw.columns:
        return ibis.null().cast("int64")
    if meaning.time_format in (None, times.ORDER):
        return seconds(raw["timestamp"])
    return times.seconds_of(raw["timestamp"], meaning.time_format)


def stripped(column: Column) -> Column:
    """Return text without blanks around it; trimming only what has some is 3 times as fast."""
    return ibis.cases((column.startswith(" ") | column.endswith(" "), column.strip()), else_=column)


def filled(column: Column) -> Column:
    """Return text without blanks around it, null where nothing is left; one case spares good values a comparison."""
    blank = (column == "") | column.startswith(" ") | column.endswith(" ")
    return ibis.cases((blank, column.strip().nullif("")), else_=column)


def number(column: Column) -> Column:
    """Return a text or number column as float32, null where the text is no number, or one beyond all stars."""
    return column.try_cast("float32")


def seconds(column: Column) -> Column:
    """Return unix seconds of a column of counts, ISO dates or American dates; null for other text."""
    if column.type().is_timestamp() or column.type().is_date():
        return column.cast("timestamp").truncate("s").epoch_seconds().cast("int64")
    if not column.type().is_string():
        return scaled(column.try_cast("int64"))
    column = stripped(column)
    count = column.try_cast("int64")  # slow for text that is no number
    american = column.re_replace(AMERICAN, r"\3-0\1-0\2").re_replace(r"-0(\d\d)", r"-\1")
    return ibis.cases((column[4] == "-", epoch(column)), (count.notnull(), scaled(count)), else_=epoch(american))


def epoch(column: Column) -> Column:
    """Return unix seconds of ISO dates."""
    return column.try_cast("timestamp").truncate("s").epoch_seconds().cast("int64")


def scaled(value: Column) -> Column:
    """Return seconds, whether a count was of seconds, milli-, micro- or nanoseconds."""
    cases = [
        (
            (value > FINER * 1000**step) | (value < -FINER * 1000**step),
            (value / 1000 ** (step + 1)).floor().cast("int64"),
        )
        for step in (2, 1, 0)
    ]
    return ibis.cases(*cases, else_=value)


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
    shares = [
        f"{n:,} {reason} (line {examples[reason]['line']}: {examples[reason]['text'][:80]!r})" if reason in examples
        else f"{n:,} {reason}"
        for reason, n in list(rejected.items())[:3]
    ]  # fmt: skip
    column = source.columns.get("stars")
    if rejected.get(NO_STARS) == read:
        raise AmzrecError(
            f"no row of {source.name} has a number in its stars column {column!r}: {shares[0]}. "
            "Name the right column with --columns …,stars=COLUMN, or leave stars out to take every row as a click"
        )
    remedy = "or raise --max-rejects" if share < 1 else "or say what it is with --format"
    raise AmzrecError(
        f"{share:.1%} of the {read:,} rows of {source.name} cannot be used (--max-rejects allows "
        f"{config.max_rejects:.0%}): {'; '.join(shares)}. Mend the file, name its columns with --columns, {remedy}"
    )
