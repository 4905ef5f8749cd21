"""The k-core of reviews: every customer and product that stays has at least k of them."""

from __future__ import annotations

from amzrec.errors import AmzrecError
from amzrec.reviews.engines.protocol import Engine, Table
from amzrec.reviews.repeats import PAIR

TABLES = ("core_0", "core_1")  # of even and odd rounds


def kcore(engine: Engine, reviews: Table, k: int) -> tuple[Table, int]:
    """Remove the reviews of customers and products with fewer than k, until nobody has fewer; and count them.

    Raises AmzrecError where nothing is left. k of 0 or 1 removes nothing.
    """
    before = left = engine.size(reviews)
    rounds = 0
    while k > 1:
        kept = reviews
        for name in PAIR:
            enough = reviews.group_by(name).agg(n=reviews.count()).filter(lambda counts: counts.n >= k)
            kept = kept.semi_join(enough, name)
        reviews = engine.create_table(TABLES[rounds % 2], kept, overwrite=True)
        now = engine.size(reviews)
        if not now:
            raise AmzrecError(f"--min-reviews {k} leaves none of the {before:,} reviews: take a smaller number")
        if now == left:
            break
        left, rounds = now, rounds + 1
    return reviews, before - left
