"""Reviews that came after a run, as the test part of a dataset in the rows of that run: what it can be measured on."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa

from amzrec.arrays import Array
from amzrec.config import PrepareConfig
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.renewal.arrivals import Arrivals
from amzrec.renewal.customers import grown_rows
from amzrec.renewal.ledger import Entries, Ledger, entries_at
from amzrec.renewal.products import with_zeros
from amzrec.renewal.reading import new_reviews
from amzrec.store.dataset import Dataset, DatasetInfo, Reviews, Scale
from amzrec.store.run import Run
from amzrec.store.vectors import Vectors

LATER = "later"  # the split of such a dataset


def reviews_after(run: Run, reviews: Any, progress: Progress = SILENT) -> tuple[Dataset, Vectors]:
    """Return `later` of reviews of any source; raises AmzrecError as `prepare` does, too."""
    with new_reviews(run, reviews, PrepareConfig(), progress) as dataset:
        return later(run, dataset)


def later(run: Run, dataset: Dataset) -> tuple[Dataset, Vectors]:
    """Return a dataset with the fitted reviews of a run as train and those of `dataset` that it does not have as test.

    Also the vectors of the run with a row for each customer and product of the test: those that are new to the run are
    answered as unknown ones, and their products cannot be found. Reviews of pairs that the run has in whatever part
    are left out. Raises AmzrecError where none is left.
    """
    vectors = run.vectors
    arrivals = Arrivals.of(vectors, dataset)
    added = Ledger.of(vectors, arrivals)
    old = entries_at(vectors, slice(None), vectors.seen.owners.astype(np.int32))
    fresh = without(added.added, added.removed)
    if not len(fresh):
        raise AmzrecError(
            f"all {len(arrivals):,} reviews of {dataset.info.source} are in the run {run.path} already, so none is "
            "left to measure it on: name reviews that came later"
        )
    head = vectors.head
    scale = None if head.mean is None else Scale(head.low, head.high)
    tables = (
        pa.table({"customer_id": arrivals.customer_ids.as_arrow()}),
        pa.table({"product_id": arrivals.product_ids.as_arrow()}),
    )
    protocol = dataclasses.replace(dataset.protocol, split=LATER, test=1.0, valid=0.0)
    info: DatasetInfo = dataclasses.replace(dataset.info, protocol=protocol, stars=scale)
    found = Dataset(dataset.path, info, *tables)
    fit = old.take(np.isin(old.part, head.fit_tags))
    nothing = reviews_of(fit.take(np.zeros(0, np.int64)))
    found.__dict__.update(train=reviews_of(fit), valid=nothing, test=reviews_of(fresh))
    return found, with_rows(vectors, *(table.num_rows for table in tables))


def without(entries: Entries, others: Entries) -> Entries:
    """Return the reviews whose customer and product are none of the pairs of the others."""
    size = int(max(entries.product.max(initial=0), others.product.max(initial=0))) + 1
    mine, theirs = (each.customer.astype(np.int64) * size + each.product for each in (entries, others))
    return entries.take(~np.isin(mine, theirs))


def reviews_of(entries: Entries) -> Reviews:
    """Return reviews as a dataset has them."""
    return Reviews(entries.customer, entries.product, entries.stars, entries.time)


def with_rows(vectors: Vectors, customers: int, products: int) -> Vectors:
    """Return vectors with so many rows of customers, those behind the last one as the unknown one, and of products.

    Only what answers are computed from has these rows, not the names.
    """
    tables: dict[str, Any] = {
        name: grown_rows(getattr(vectors, name), customers)
        for name in ("query_base", "retrieval_query", "rating_query")
    }
    for name in ("retrieval_candidate", "rating_candidate", "history_bag", "history_residual", "product_bias"):
        tables[name] = grown_rows(getattr(vectors, name), products)
    tables["customer_counts"] = with_zeros(vectors.customer_counts, customers)
    tables["product_counts"] = with_zeros(vectors.product_counts, products)
    tables["seen_offsets"] = lengthened(vectors.seen_offsets, customers + 1)
    if vectors.memory_offsets is not None:
        tables["memory_offsets"] = lengthened(vectors.memory_offsets, products + 1)
    if vectors.context is not None:
        tables["context"] = np.pad(vectors.context, ((0, 0), (0, products - vectors.context.shape[1])))
    return dataclasses.replace(vectors, **tables)


def lengthened(offsets: Array, length: int) -> Array:
    """Return the offsets of lists with empty lists behind the last one, so that there are `length` offsets."""
    return np.concatenate([offsets, np.full(length - len(offsets), offsets[-1], np.int64)])
