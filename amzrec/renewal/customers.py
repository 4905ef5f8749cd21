"""The vectors of customers whose reviews changed, computed as fold-in computes them, many at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from amzrec.answers.folding import Pasts, folded
from amzrec.arrays import Array, Floats, Lists, Rows, offsets_of
from amzrec.parallel import ahead
from amzrec.renewal.ledger import Ledger
from amzrec.store.vectors import Vectors

AT_ONCE = 1 << 16  # reviews whose vectors are added up at a time


def grown_rows(table: Array, rows: int) -> Array:
    """Return a copy of a table with so many rows; the rows behind its last one are copies of row 0, the unknown one."""
    more = np.repeat(table[:1], rows - len(table), axis=0)
    return np.concatenate([table, more])


def customer_tables(vectors: Vectors, ledger: Ledger) -> dict[str, Floats]:
    """Return query_base, retrieval_query and rating_query with the reviews of the ledger folded in.

    Rows of customers whose reviews did not change stay as they are; a new customer begins as the unknown one. What a
    product adds to a history (`history_bag`, `history_residual`, `product_bias`) is as it was learned; a new product
    adds nothing. See answers/folding.py.
    """
    rows = len(ledger.products)
    names = ("query_base", "retrieval_query", "rating_query")
    tables = {name: grown_rows(getattr(vectors, name), rows) for name in names}
    for customers, (retrieval, rating) in ahead(
        lambda block: (block[0], folded(vectors, *block)), pasts_of(vectors, ledger)
    ):
        tables["retrieval_query"][customers] = retrieval
        tables["rating_query"][customers] = rating
    return tables


def pasts_of(vectors: Vectors, ledger: Ledger) -> Iterator[tuple[Rows, Pasts]]:
    """Yield the customers that changed, and their fitted reviews, in blocks of AT_ONCE reviews, or of one customer."""
    slots = ledger.products.slots(ledger.touched)
    owner = np.repeat(np.arange(len(ledger.touched)), ledger.products.lengths[ledger.touched])
    fitted = np.isin(ledger.entries.part[slots], vectors.head.fit_tags)
    slots, offsets = slots[fitted], offsets_of(np.bincount(owner[fitted], minlength=len(ledger.touched)))
    start = 0
    while start < len(ledger.touched):
        stop = max(int(np.searchsorted(offsets, offsets[start] + AT_ONCE, side="right")) - 1, start + 1)
        part = slots[offsets[start] : offsets[stop]]
        lists = Lists(offsets[start : stop + 1] - offsets[start], ledger.entries.product[part])
        yield ledger.touched[start:stop], Pasts(lists, ledger.entries.stars[part], np.ones(len(part)))
        start = stop
