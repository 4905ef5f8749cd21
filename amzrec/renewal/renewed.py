"""A run after an update: its vectors with all that the new reviews change, and what became of each of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa

from amzrec.answers.recommender import LOOKED_AT
from amzrec.arrays import Array
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.renewal.arrivals import Arrivals
from amzrec.renewal.customers import customer_tables
from amzrec.renewal.ledger import Ledger
from amzrec.renewal.memory import remembered
from amzrec.renewal.products import Fitted, feature_arrays, product_tables, with_zeros
from amzrec.store.run import Run
from amzrec.store.vectors import Put, Vectors, as_made

STAGES = ("customers", "products", "memory")


@dataclasses.dataclass(frozen=True)
class Tally:
    """What became of the reviews of an update."""

    reviews: int  # pairs of a customer and a product that the run did not have
    replaced: int  # reviews of the run in whose place a later one came
    known: int  # reviews that the run had already, or later ones of the same pairs
    new_customers: int
    new_products: int
    undated: int  # reviews without a time, which count as written at the latest time known
    off_scale: int  # reviews with stars beyond the scale of the run, which count as its end
    frozen: tuple[str, ...] = ()  # what stayed as it was learned, beside what always does


def check_updatable(run: Run) -> None:
    """Raise AmzrecError where the vectors of a run cannot be computed from more reviews."""
    vectors, again = run.vectors, "train again, on all reviews"
    if vectors.head.history == "sequence" and vectors.attention is None:
        raise AmzrecError(
            f"run {run.path} was trained with --history sequence by an amzrec that did not keep what reads products in "
            f"order, so new reviews cannot enter its vectors: {again}"
        )
    if not np.any(vectors.history_bag[:LOOKED_AT]):
        raise AmzrecError(
            f"run {run.path} was trained with --features ids, whose vectors are made of no reviews, so new ones cannot "
            f"enter them: {again}, or with --features full"
        )
    in_order = vectors.recent_weights is not None or vectors.attention is not None
    if vectors.seen_time is None and (vectors.context is not None or in_order):
        raise AmzrecError(
            f"run {run.path} was trained by an amzrec that did not keep the times of reviews, which its popularity or "
            f"its order is computed from: {again}"
        )


def renewed(run: Run, arrivals: Arrivals, progress: Progress = SILENT, put: Put = as_made) -> tuple[Vectors, Tally]:
    """Return the vectors of a run after new reviews, and what became of those; without training.

    The vectors are the run's own where nothing changes. `put` is given each large array as soon as it is made, and
    returns what stands for it: `Writing.put` keeps none of them in memory.
    """
    vectors = run.vectors
    ledger = Ledger.of(vectors, arrivals, put)
    old = len(vectors.customer_ids), len(vectors.product_ids)
    new = len(arrivals.customer_ids) - old[0], len(arrivals.product_ids) - old[1]
    tally = Tally(
        len(ledger.added) - ledger.replaced,
        ledger.replaced,
        ledger.known,
        *new,
        arrivals.undated,
        arrivals.off_scale,
    )
    if not len(ledger.added):
        return vectors, tally
    size = len(arrivals.product_ids)
    fields: dict[str, Any] = dict(ledger.arrays())
    progress.step("update: customers", 0, len(STAGES))
    fields |= customer_tables(vectors, ledger, put)
    for name in ("rater_bag", "rater_residual"):
        table: Array | None = getattr(vectors, name)
        if table is not None:
            fields[name] = put(name, with_zeros(table, len(arrivals.customer_ids)))
    progress.step("update: products", 1, len(STAGES))
    fitted = Fitted.of(ledger, vectors.head.fit_tags)
    fields["customer_counts"] = fitted.lists.lengths
    fields |= product_tables(vectors, run.info, fitted, arrivals.new_products, put)
    everything = run.info.protocol is not None and run.info.protocol.catalogue == "all"
    listed = np.arange(size) > 0 if everything else fields["product_counts"] > 0
    fields["candidates"] = np.union1d(vectors.candidates, np.flatnonzero(listed & (np.arange(size) > 0))).astype(
        np.int32
    )
    progress.step("update: memory", 2, len(STAGES))
    memory, stays = remembered(vectors, run.info.memory, fitted.lists, fields["candidates"], arrivals.new_products)
    fields |= memory | names_of(vectors, arrivals, size)
    frozen = (("memory",) if stays else ()) + (() if vectors.product_base is not None else ("vectors of products",))
    return dataclasses.replace(vectors, **fields), dataclasses.replace(tally, frozen=frozen)


def names_of(vectors: Vectors, arrivals: Arrivals, size: int) -> dict[str, Any]:
    """Return the fields of Vectors that name customers and products, and list the features of products."""
    new = arrivals.new_products
    titles = pa.array(["" if title is None else title for title in new["title"].to_pylist()], pa.large_binary())
    features = [listed or [] for listed in new["features"].to_pylist()]
    return {
        "customer_ids": arrivals.customer_ids,
        "product_ids": arrivals.product_ids,
        "titles": vectors.titles.grown(titles),
        **feature_arrays(vectors, features),
    }
