"""Who is tested on what: expressions that give every kept review its part, the same on every engine."""

from __future__ import annotations

from typing import Any

import ibis

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews.engines.engine import fetched, size

TRAIN, VALID, TEST = 0, 1, 2  # positions in dataset.PARTS


def draw(rows: Any, config: PrepareConfig) -> Any:
    """The hex digits of the md5 of customer id, product id and seed, equal on every engine.

    The first 8 decide about test, the next 8 about valid, so that neither row order nor parallelism matters.
    """
    return rows.customer_id.concat("\x1f", rows.product_id, f"\x1f{config.seed}").hexdigest("md5")


def early(rows: Any, config: PrepareConfig) -> Any:
    """The part (int8) of reviews with ids for the splits that look at one review only, before any other work.

    `rows` has customer_id, product_id, given. For other splits 0, so that ids need not be joined again just for this.
    """
    if config.split not in ("random", "given"):
        return ibis.literal(TRAIN, "int8")
    digits = draw(rows, config)
    valid = ibis.cases((digits.substr(8, 8) < below(config.valid), VALID), else_=TRAIN)
    test = rows.given if config.split == "given" else digits < below(config.test)
    return ibis.cases((test, TEST), else_=valid).cast("int8")


def drawn(con: Any, rows: Any, config: PrepareConfig) -> Any:
    """The reviews with `draw`, for the splits that draw within a customer."""
    named = rows.join(con.table("customer_ids"), "customer").join(con.table("product_ids"), "product")
    return named.select(*rows.columns, draw=draw(named, config))


def below(share: float) -> str:
    """8 hex digits: uniform ones are below them with probability `share`, and so is a text that begins with those."""
    return f"{min(round(share * 2**32), 2**32 - 1):08x}"


def parts(con: Any, kept: Any, config: PrepareConfig) -> Any:
    """The reviews with their final `part` (int8: 0 train, 1 valid, 2 test).

    `kept` has customer and product (int), timestamp (int64 or null), given (bool) and the part that `early` gave.
    """
    if config.split in ("random", "given"):
        return kept
    kept = kept.drop("part")
    if config.split in ("temporal", "leave-last-out"):
        check_times(kept, config.split)
    if config.split == "temporal":
        return temporal(kept, config)
    kept = drawn(con, kept, config)
    return (leave_last_out if config.split == "leave-last-out" else per_customer)(kept, config).drop("draw")


def check_times(kept: Any, split: str) -> None:
    """Raise AmzrecError where a review has no timestamp, which a split by time needs."""
    missing, total = size(kept.filter(kept.timestamp.isnull())), size(kept)
    if missing:
        raise AmzrecError(
            f"--split {split} needs the time of every review: {missing:,} of {total:,} have none. "
            "Take --split random, or a source with timestamps"
        )


def per_customer(kept: Any, config: PrepareConfig) -> Any:
    """Of each customer with n reviews, round(n · test) drawn at random are test, but never all of them."""
    window = ibis.window(group_by=kept.customer, order_by=[kept.draw, kept.product])
    n = kept.count().over(ibis.window(group_by=kept.customer))
    ranked = kept.mutate(place=ibis.row_number().over(window), n=n)
    tests = ibis.least((ranked.n * config.test + 0.5).floor(), ranked.n - 1)
    ranked = ranked.mutate(tests=tests.cast("int64"))
    rest = ranked.n - ranked.tests
    valids = ibis.least((rest * config.valid + 0.5).floor(), rest - 1).cast("int64")
    part = ibis.cases((ranked.place < ranked.tests, TEST), (ranked.place < ranked.tests + valids, VALID), else_=TRAIN)
    return ranked.mutate(part=part.cast("int8")).drop("place", "n", "tests")


def temporal(kept: Any, config: PrepareConfig) -> Any:
    """The latest `test` share is test, the latest `valid` share of the rest is valid; equal times stay together."""
    test_from = boundary(kept.timestamp, config.test, "test")
    rest = kept.filter(kept.timestamp < test_from)
    part = ibis.cases((kept.timestamp >= test_from, TEST), else_=TRAIN)
    if config.valid:
        valid_from = boundary(rest.timestamp, config.valid, "valid")
        part = ibis.cases((kept.timestamp >= test_from, TEST), (kept.timestamp >= valid_from, VALID), else_=TRAIN)
    return kept.mutate(part=part.cast("int8"))


def boundary(times: Any, share: float, what: str) -> int:
    """The time from which the latest `share` of the reviews begins: of the two sides of a tie, the nearer one."""
    table = times.name("t").as_table().group_by("t").agg(n=lambda t: t.count())
    table = table.mutate(
        later=table.n.sum().over(ibis.cumulative_window(order_by=table.t.desc()))
    )  # reviews at t or after
    table = table.filter(table.t > table.t.min())
    total = size(times.name("t").as_table())
    near = fetched(table.mutate(gap=(table.later - total * share).abs()).order_by(["gap", "t"]).limit(1))
    if not near.num_rows:
        raise AmzrecError(
            f"--split temporal finds no earlier and later reviews for {what}: all {total:,} have the same time. "
            "Take --split random"
        )
    return int(near["t"][0].as_py())


def leave_last_out(kept: Any, config: PrepareConfig) -> Any:
    """Of each customer, the last review is test and the one before it valid; one review stays in train.

    With two reviews there is no valid one. Reviews of the same time are ordered by their draw.
    """
    order = [kept.timestamp.desc(), kept.draw, kept.product]
    window = ibis.window(group_by=kept.customer, order_by=order)
    n = kept.count().over(ibis.window(group_by=kept.customer))
    ranked = kept.mutate(place=ibis.row_number().over(window), n=n)
    cases = [((ranked.place == 0) & (ranked.n >= 2), TEST)]
    if config.valid:
        cases.append(((ranked.place == 1) & (ranked.n >= 3), VALID))
    return ranked.mutate(part=ibis.cases(*cases, else_=TRAIN).cast("int8")).drop("place", "n")
