"""One review per customer and product: exact duplicates and repeats go, and are counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import ibis

from amzrec.reviews.engines.protocol import Column, Engine, Table

PAIR = ["customer", "product"]
COLUMNS = [*PAIR, "stars", "timestamp", "is_test", "part"]
REPEATED_PAIRS, REPEATED, SINGLE = "repeated_pairs", "repeated_reviews", "single_reviews"  # tables


class Single(NamedTuple):
    """The reviews that stay, and how many went."""

    reviews: Table  # the table SINGLE, with COLUMNS
    duplicates: int  # equal to another one in every column
    repeats: int  # further reviews of the same customer and product


def one_per_pair(engine: Engine, reviews: Table, part: Callable[[Table], Column]) -> Single:
    """Keep one review per customer and product: given test reviews before others, the latest, the highest stars.

    `reviews` has the hashes customer and product, stars, timestamp, is_test, and what `part` needs to say which part a
    review belongs to. Few pairs come twice, so that only those are sorted. The reviews that did are left in the table
    REPEATED for `in_test_and_others`.
    """
    reviews = reviews.mutate(pair=reviews.customer ^ reviews.product)  # of equal pairs equal; hardly ever of others
    twice = reviews.group_by("pair").agg(n=reviews.count()).filter(lambda pairs: pairs.n > 1)
    twice = engine.create_table(REPEATED_PAIRS, twice.select("pair"))
    again = reviews.semi_join(twice, "pair")
    again = engine.create_table(REPEATED, again.mutate(part=part(again)).select(COLUMNS))
    distinct = again.distinct()
    best = first_of_pairs(distinct)
    total, different, left = (engine.size(table) for table in (again, distinct, best))
    once = reviews.anti_join(twice, "pair")
    once = once.mutate(part=part(once)).select(COLUMNS)
    best = best.cast({"part": once.part.type()})  # Spark's files have int32 for int8
    single = engine.create_table(SINGLE, once.union(best))
    engine.drop(REPEATED_PAIRS)
    return Single(single, total - different, different - left)


def first_of_pairs(reviews: Table) -> Table:
    """Return the first review of each customer and product in the order that `one_per_pair` says."""
    order = [
        reviews.is_test.desc(),
        reviews.timestamp.desc(nulls_first=False),
        reviews.stars.desc(nulls_first=False),
    ]
    window = ibis.window(group_by=PAIR, order_by=order)
    return reviews.mutate(rank=ibis.row_number().over(window)).filter(lambda table: table["rank"] == 0).drop("rank")


def in_test_and_others(engine: Engine) -> int:
    """Count the pairs that stand among the given test reviews and among the others, after `one_per_pair`."""
    again = engine.table(REPEATED)
    pairs = again.group_by(PAIR).agg(in_test=again.is_test.any(), in_others=(~again.is_test).any())
    return engine.size(pairs.filter(pairs.in_test & pairs.in_others))
