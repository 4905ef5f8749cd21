"""Who is tested on what: expressions that give every kept review its part, and give all engines one answer."""

from __future__ import annotations

import ibis

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews.engines.protocol import Column, Engine, Table
from amzrec.reviews.ids import with_ids
from amzrec.store.times import few

TRAIN, VALID, TEST = 0, 1, 2  # positions in dataset.PARTS
BY_REVIEW = ("random", "given")  # splits that look at one review alone


def digits_of(reviews: Table, config: PrepareConfig) -> Column:
    """Return the hex digits of the md5 of customer id, product id and seed, equal on every engine.

    The first 8 decide about test, the next 8 about valid, so that neither row order nor parallelism matters.
    """
    return reviews.customer_id.concat("\x1f", reviews.product_id, f"\x1f{config.seed}").hexdigest("md5")


def part_at_once(reviews: Table, config: PrepareConfig) -> Column:
    """Return the part (int8) of reviews with ids, where the split looks at one review alone; else 0 for all.

    `reviews` has customer_id, product_id, is_test. Done before any other work, ids need not be joined again for it.
    """
    if config.split not in BY_REVIEW:
        return ibis.literal(TRAIN, "int8")
    digits = digits_of(reviews, config)
    valid = ibis.cases((digits.substr(8, 8) < below(config.valid), VALID), else_=TRAIN)
    test = reviews.is_test if config.split == "given" else digits < below(config.test)
    return ibis.cases((test, TEST), else_=valid).cast("int8")


def below(share: float) -> str:
    """Return 8 hex digits: uniform ones are below them with probability `share`, as are texts that begin with those."""
    return f"{min(round(share * 2**32), 2**32 - 1):08x}"


def with_part(engine: Engine, reviews: Table, config: PrepareConfig) -> Table:
    """Return the kept reviews with their final `part` (int8: 0 train, 1 valid, 2 test).

    `reviews` has the hashes customer and product, timestamp (int64 or null), and the part that `part_at_once` gave.
    Raises AmzrecError where the split needs times that are not there.
    """
    if config.split in BY_REVIEW:
        return reviews
    reviews = reviews.drop("part")
    if config.split in ("temporal", "leave-last-out"):
        check_times(engine, reviews, config.split)
    if config.split == "temporal":
        return temporal(engine, reviews, config)
    reviews = with_ids(engine, reviews).mutate(digits=lambda named: digits_of(named, config))
    reviews = reviews.drop("customer_id", "product_id")
    within_customer = leave_last_out if config.split == "leave-last-out" else per_customer
    return within_customer(reviews, config).drop("digits")


def check_times(engine: Engine, kept: Table, split: str) -> None:
    """Raise AmzrecError where more than a few reviews have no timestamp, which a split by time needs."""
    missing, total = engine.size(kept.filter(kept.timestamp.isnull())), engine.size(kept)
    if missing > few(total):
        raise AmzrecError(
            f"--split {split} needs the time of every review: {missing:,} of {total:,} have none. "
            "Take --split random, or a source with timestamps"
        )


def per_customer(kept: Table, config: PrepareConfig) -> Table:
    """Draw round(n · test) of the n reviews of each customer for test, but never all, then valid from the rest."""
    window = ibis.window(group_by=kept.customer, order_by=[kept.digits, kept.product])
    n = kept.count().over(ibis.window(group_by=kept.customer))
    ranked = kept.mutate(rank=ibis.row_number().over(window), n=n)
    tests = ibis.least((ranked.n * config.test + 0.5).floor(), ranked.n - 1)
    ranked = ranked.mutate(tests=tests.cast("int64"))
    rest = ranked.n - ranked.tests
    valids = ibis.least((rest * config.valid + 0.5).floor(), rest - 1).cast("int64")
    part = ibis.cases(
        (ranked["rank"] < ranked.tests, TEST), (ranked["rank"] < ranked.tests + valids, VALID), else_=TRAIN
    )
    return ranked.mutate(part=part.cast("int8")).drop("rank", "n", "tests")


def temporal(engine: Engine, kept: Table, config: PrepareConfig) -> Table:
    """Take the latest share for test, then the latest of the rest for valid; equal times stay together.

    The few reviews without a time (see `check_times`) stay in train.
    """
    rest, cases = kept.filter(kept.timestamp.notnull()), []
    if config.test:
        test_from = boundary(engine, rest.timestamp, config.test, "test")
        rest = rest.filter(rest.timestamp < test_from)
        cases.append((kept.timestamp >= test_from, TEST))
    if config.valid:
        valid_from = boundary(engine, rest.timestamp, config.valid, "valid")
        cases.append((kept.timestamp >= valid_from, VALID))
    part = ibis.cases(*cases, else_=TRAIN) if cases else ibis.literal(TRAIN)
    return kept.mutate(part=part.cast("int8"))


def boundary(engine: Engine, times: Column, share: float, what: str) -> int:
    """Find the time from which the latest `share` of the reviews begins: of the two sides of a tie, the nearer one."""
    reviews = times.name("t").as_table()
    table = reviews.group_by("t").agg(n=reviews.count())
    table = table.mutate(
        later=table.n.sum().over(ibis.cumulative_window(order_by=table.t.desc()))
    )  # reviews at t or after
    table = table.filter(table.t > table.t.min())
    total = engine.size(reviews)
    near = engine.fetch(table.mutate(gap=(table.later - total * share).abs()).order_by(["gap", "t"]).limit(1))
    if not near.num_rows:
        raise AmzrecError(
            f"--split temporal finds no earlier and later reviews for {what}: all {total:,} have the same time. "
            "Take --split random"
        )
    return int(near["t"][0].as_py())


def leave_last_out(kept: Table, config: PrepareConfig) -> Table:
    """Take the last review of each customer for test and the one before it for valid; one review stays in train.

    With two reviews there is no valid one. Where the test share is 0, the last review is the valid one, and there is
    no test. Reviews of the same time are ordered by their digits; those without a time come before all others.
    """
    order = [kept.timestamp.desc(nulls_first=False), kept.digits, kept.product]
    window = ibis.window(group_by=kept.customer, order_by=order)
    n = kept.count().over(ibis.window(group_by=kept.customer))
    ranked = kept.mutate(rank=ibis.row_number().over(window), n=n)
    held_out = [part for part, share in ((TEST, config.test), (VALID, config.valid)) if share]  # the last one first
    cases = [((ranked["rank"] == i) & (ranked.n >= i + 2), part) for i, part in enumerate(held_out)]
    part = ibis.cases(*cases, else_=TRAIN) if cases else ibis.literal(TRAIN)
    return ranked.mutate(part=part.cast("int8")).drop("rank", "n")
