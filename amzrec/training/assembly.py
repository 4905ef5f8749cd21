"""The vectors of a run, put together from the snapshots of both tasks."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from amzrec.arrays import Array, offsets_of
from amzrec.features.profiles import CUSTOMER_BIAS_SHRINKAGE
from amzrec.store.attention import Attention
from amzrec.store.dataset import PARTS, Dataset, Reviews, Scale
from amzrec.store.moment import Moment
from amzrec.store.strings import Strings, feature_lists
from amzrec.store.times import NO_TIME
from amzrec.store.vectors import Head, Layers, Put, Vectors, as_made
from amzrec.training.snapshot import MemorySnapshot, RatingSnapshot, RetrievalSnapshot


@dataclasses.dataclass(frozen=True)
class Learned:
    """The snapshots that the vectors of a run are put together from."""

    rating: RatingSnapshot
    retrieval: RetrievalSnapshot
    memory: MemorySnapshot | None = None
    moment: Moment | None = None
    attention: Attention | None = None  # whose vectors of products stand in `retrieval` already


def assemble(dataset: Dataset, learned: Learned, history: str, fit_parts: list[str], put: Put = as_made) -> Vectors:
    """Put the snapshots of both tasks together as the vectors of a run.

    Their dimensions stand side by side, retrieval first, so that each task keeps its own best epoch. `history` is how
    histories are read (bag, recent or sequence), `fit_parts` are the parts of the dataset that were fitted. `put` is
    given each array of a row or a review as soon as it is made, and returns what stands for it: `Writing.put` keeps
    it in its file, since all of them together may be larger than memory.
    """
    rating, retrieval, memory = learned.rating, learned.retrieval, learned.memory
    dims, ends = retrieval.queries.shape[1] - 1, dataset.info.stars or Scale(1.0, 5.0)
    head = Head(
        mean=float(rating.mean) if np.isfinite(rating.mean) else None,
        low=ends.min,
        high=ends.max,
        bias_weight=float(rating.customer_weight),
        bias_shrinkage=CUSTOMER_BIAS_SHRINKAGE,
        product_bias_weight=float(rating.product_weight),
        temperature=float(retrieval.temperature),
        retrieval_dims=dims,
        rating_start=dims,
        history=history,
        memory_fade=float(memory.fade) if memory else 1.0,
        memory_last=int(memory.last) if memory else 0,
        memory_per_log=float(memory.per_log) if memory else 0.0,
        moment=learned.moment,
        fit_tags=tuple(PARTS.index(name) for name in fit_parts),
    )
    arrays: dict[str, Any] = {
        name: put(name, side_by_side(name, rating, retrieval, np.float32))
        for name in ("query_base", "history_bag", "history_residual")
    }
    arrays |= seen_reviews(dataset, put) | context_arrays(rating, retrieval) | rater_arrays(rating, retrieval, put)
    if memory:
        weights = memory.weights.astype(np.float32)
        arrays |= {"memory_offsets": memory.offsets, "memory_items": memory.items, "memory_weights": weights}
    if learned.attention:
        arrays |= {f"attention_{name}": array for name, array in vars(learned.attention).items()}
    if len(retrieval.recent_weights):
        arrays["recent_weights"] = retrieval.recent_weights
    if listed := feature_lists(dataset.products["features"].to_pylist()):
        arrays |= {"features": listed[0], "feature_offsets": listed[1].offsets, "feature_items": listed[1].items}
    titles = ["" if title is None else title for title in dataset.products["title"].to_pylist()]
    return Vectors(
        **arrays,
        retrieval_query=put("retrieval_query", retrieval.queries.astype(np.float32)),
        retrieval_candidate=retrieval.candidates.astype(np.float32),
        candidates=retrieval.candidate_rows,
        product_counts=retrieval.product_counts.astype(np.int64),
        customer_counts=retrieval.customer_counts.astype(np.int64),
        rating_query=put("rating_query", rating.queries.astype(np.float32)),
        rating_candidate=rating.candidates.astype(np.float32),
        rating_weight=rating.weight.astype(np.float32),
        product_bias=rating.product_bias.astype(np.float32),
        layers=layers_of(rating),
        head=head,
        customer_ids=Strings.of(dataset.customers["customer_id"].to_pylist()),
        product_ids=Strings.of(dataset.products["product_id"].to_pylist()),
        titles=Strings.of(titles),
    )


def context_arrays(rating: RatingSnapshot, retrieval: RetrievalSnapshot) -> dict[str, Array]:
    """Return the fields of Vectors that say what the period of a query adds; none where there is one period."""
    if not len(retrieval.edges):
        return {}
    arrays: dict[str, Array] = {"context": retrieval.context.astype(np.float32), "context_edges": retrieval.edges}
    if rating.context.any():
        arrays["rating_context"] = rating.context.astype(np.float32)
    return arrays


def side_by_side(name: str, rating: RatingSnapshot, retrieval: RetrievalSnapshot, kind: type) -> Array:
    """Return the arrays of this name of both tasks, [R + 1, D], of this type of numbers."""
    return np.concatenate([getattr(retrieval, name), getattr(rating, name)], axis=1, dtype=kind)


def rater_arrays(rating: RatingSnapshot, retrieval: RetrievalSnapshot, put: Put) -> dict[str, Array]:
    """Return the fields of Vectors that make vectors of products anew; none where there are no histories."""
    if not (rating.rater_bag.any() or retrieval.rater_bag.any()):
        return {}
    kinds = {"rater_bag": np.float16, "rater_residual": np.float16, "product_base": np.float32}
    arrays: dict[str, Array] = {
        name: put(name, side_by_side(name, rating, retrieval, kind))
        for name, kind in (kinds | {"product_level": np.float32}).items()
    }
    return arrays | {"product_raters": rating.product_raters.astype(np.int64)}


def seen_reviews(dataset: Dataset, put: Put) -> dict[str, Array]:
    """Return the fields of Vectors that list all reviews by customer and time, each tagged with its part."""
    parts = [getattr(dataset, name) for name in PARTS]
    every = Reviews.concat(parts)
    part = np.repeat(np.arange(len(parts), dtype=np.uint8), [len(p) for p in parts])
    order = np.lexsort((every.product, every.timestamp, every.customer))
    columns: dict[str, Array] = {"seen_product": every.product, "seen_stars": every.stars, "seen_part": part}
    columns |= {"seen_time": every.timestamp} if bool((every.timestamp != NO_TIME).any()) else {}
    arrays = {name: put(name, column[order]) for name, column in columns.items()}
    return arrays | {"seen_offsets": offsets_of(np.bincount(every.customer, minlength=dataset.customers.num_rows))}


def layers_of(rating: RatingSnapshot) -> Layers:
    """Cut the flat array of a snapshot into the layers of its MLP: (kernel, bias) of each."""
    layers, start = [], 0
    for rows, columns in rating.shapes:
        end = start + rows * columns
        kernel = rating.layers[start:end].reshape(rows, columns)
        layers.append((kernel, rating.layers[end : end + columns]))
        start = end + columns
    return layers
