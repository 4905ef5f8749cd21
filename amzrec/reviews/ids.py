"""Customer and product ids as 64-bit hashes, and the tables of what the hashes stand for."""

from __future__ import annotations

from amzrec.reviews.engines.protocol import Engine, Table

CUSTOMER_IDS, PRODUCT_IDS = "customer_ids", "product_ids"  # tables: hash, id
PRODUCT_FACTS = "product_facts"  # table: hash, id, what reviews say of the product, how many do


def hashed(engine: Engine, reviews: Table) -> Table:
    """Add the columns customer and product: hashes of customer_id and product_id.

    Numbers are grouped and joined twice as fast as texts. Of 16 million ids two have one hash in one file of 140,000;
    `preparation` finds that out when it writes.
    """
    return reviews.mutate(customer=engine.hash(reviews.customer_id), product=engine.hash(reviews.product_id))


def keep_ids(engine: Engine, reviews: Table, columns: list[str]) -> None:
    """Make the tables CUSTOMER_IDS and PRODUCT_IDS of what the hashes stand for, and PRODUCT_FACTS.

    PRODUCT_FACTS has in `n` how many reviews agree about a product in these `columns`. `reviews` is as `hashed` gives.
    """
    grouped = reviews.group_by(["product", "product_id", *columns]).agg(n=reviews.count())
    facts = engine.create_table(PRODUCT_FACTS, grouped)
    engine.create_table(CUSTOMER_IDS, reviews.select("customer", "customer_id").distinct())
    engine.create_table(PRODUCT_IDS, facts.select("product", "product_id").distinct())


def with_ids(engine: Engine, reviews: Table) -> Table:
    """Join the texts customer_id and product_id to reviews that have the hashes only."""
    return reviews.join(engine.table(CUSTOMER_IDS), "customer").join(engine.table(PRODUCT_IDS), "product")
