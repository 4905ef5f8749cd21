"""The vectors of customers whose reviews changed, computed as fold-in computes them, many at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from amzrec.answers.folding import Pasts, folded
from amzrec.arrays import Array, Lists, Rows, give_back, offsets_of
from amzrec.parallel import ahead
from amzrec.renewal.ledger import Ledger
from amzrec.store.vectors import Put, Vectors, as_made

AT_ONCE = 1 << 16  # reviews whose vectors are added up at a time


def grown_rows(table: Array, rows: int) -> Array:
    """Return a copy of a table with so many rows; the rows behind its last one are copies of row 0, the unknown one."""
    more = np.repeat(table[:1], rows - len(table), axis=0)
    grown: Array = np.concatenate([table, more])
    give_back(table)
    return grown


def customer_tables(vectors: Vectors, ledger: Ledger, put: Put = as_made) -> dict[str, Array]:
    """Return query_base, retrieval_query and rating_query with the reviews of the ledger folded in.

    Rows of customers whose reviews did not change stay as they are; a new customer begins as the unknown one. What a
    product adds to a history (`history_bag`, `history_residual`, `product_bias`) is as it was learned; a new product
    adds nothing. `put` is given each table as soon as it is made. See answers/folding.py.
    """
    rows = len(ledger.products)
    tables = {"query_base": put("query_base", grown_rows(vectors.query_base, rows))}
    moving = {name: grown_rows(getattr(vectors, name), rows) for name in ("retrieval_query", "rating_query")}
    for customers, (retrieval, rating) in ahead(
        lambda block: (block[0], folded(vectors, *block)), pasts_of(vectors, ledger)
    ):
        moving["retrieval_query"][customers] = retrieval
        moving["rating_query"][customers] = rating
    for name in list(moving):
        tables[name] = put(name, moving.pop(name))
    return tables


def pasts_of(vectors: Vectors, ledger: Ledger) -> Iterator[tuple[Rows, Pasts]]:
    """Yield the customers that changed, and their fitted reviews, in blocks of AT_ONCE reviews or of one customer."""
    products, touched = ledger.products, ledger.touched
    ends = offsets_of(products.offsets[touched + 1] - products.offsets[touched])
    start = 0
    while start < len(touched):
        stop = max(int(np.searchsorted(ends, ends[start] + AT_ONCE, side="right")) - 1, start + 1)
        block = touched[start:stop]
        slots = products.slots(block)
        fitted = np.isin(ledger.part[slots], vectors.head.fit_tags)
        owner = np.repeat(np.arange(len(block)), products.offsets[block + 1] - products.offsets[block])[fitted]
        slots, offsets = slots[fitted], offsets_of(np.bincount(owner, minlength=len(block)))
        yield block, Pasts(Lists(offsets, products.items[slots]), ledger.stars[slots], np.ones(len(slots)))
        start = stop
