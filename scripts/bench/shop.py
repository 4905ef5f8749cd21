"""A run folder of a shop: as many products and customers as are wanted, with a history, a memory and categories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from amzrec.store.manifest import new_identity, write_manifest
from amzrec.store.ownership import RUN_FOLDER
from amzrec.store.run import RUN, Run, RunInfo, open_run
from amzrec.store.strings import Strings
from amzrec.store.vectors import Head, Vectors, write_vectors

REVIEWS, NEIGHBOURS, CATEGORIES = 3, 10, 50  # of each customer; that each product votes for; of the shop


def shop(folder: Path, customers: int, products: int, dims: int) -> Run:
    """Write a finished run with made-up vectors.

    What a dimension of a learned vector says falls off from the first to the last, which is what an approximate index
    lives on: here as (1 + j)^-½. Popularity falls with the root of the row. Customers are the sum of 3 products, those
    of their history, and noise. All 64 dimensions retrieve and rate.
    """
    rng = np.random.default_rng(1)
    spectrum = (1 / np.sqrt(1 + np.arange(dims))).astype(np.float32)
    candidate = np.empty((products + 1, dims + 1), np.float32)
    candidate[:, :dims] = rng.standard_normal((products + 1, dims), np.float32) * spectrum
    candidate[:, dims] = -0.5 * np.log1p(np.arange(products + 1))
    seen = rng.integers(1, products + 1, (customers, REVIEWS), np.int32)
    query = np.ones((customers + 1, dims + 1), np.float32)
    query[0, :dims] = 0
    query[1:, :dims] = rng.standard_normal((customers, dims), np.float32) * spectrum
    for review in range(REVIEWS):
        query[1:, :dims] += candidate[seen[:, review], :dims]
    voters = np.arange(products + 1, dtype=np.int64)
    arrays: dict[str, Any] = {
        "retrieval_query": query,
        "retrieval_candidate": candidate,
        "rating_query": 0.1 * rng.standard_normal((customers + 1, dims + 2), np.float32),
        "rating_candidate": 0.1 * rng.standard_normal((products + 1, dims + 2), np.float32),
        "rating_weight": rng.standard_normal(dims, np.float32),
        "product_counts": np.ones(products + 1, np.int64),
        "customer_counts": np.ones(customers + 1, np.int64),
        "candidates": np.arange(1, products + 1, dtype=np.int32),
        "seen_offsets": np.maximum(REVIEWS * np.arange(-1, customers + 1), 0),
        "seen_product": seen.ravel(),
        "seen_stars": np.full(seen.size, 5, np.float32),
        "seen_part": np.zeros(seen.size, np.uint8),
        "product_bias": np.zeros(products + 1, np.float32),
        "query_base": query[:, :dims] * np.float32(0.5),
        "history_bag": candidate[:, :dims].copy(),
        "history_residual": np.zeros((products + 1, dims), np.float32),
        "memory_offsets": NEIGHBOURS * np.arange(products + 2, dtype=np.int64),
        "memory_items": rng.integers(1, products + 1, NEIGHBOURS * len(voters), np.int32),
        "memory_weights": rng.random(NEIGHBOURS * len(voters), np.float32),
        "feature_offsets": np.arange(products + 2, dtype=np.int64),
        "feature_items": rng.integers(0, CATEGORIES, products + 1, np.int32),
    }
    layers = [
        (0.1 * rng.standard_normal((3 * dims + 2, 64), np.float32), np.zeros(64, np.float32)),
        (rng.standard_normal((64, 1), np.float32), np.zeros(1, np.float32)),
    ]
    strings: dict[str, Any] = {
        "customer_ids": Strings.of(["", *(f"A{n:013}" for n in range(customers))]),
        "product_ids": Strings.of(["", *(f"B{n:09}" for n in range(products))]),
        "titles": Strings.of(["", *(f"A product of the catalogue, number {n:07}" for n in range(products))]),
        "features": Strings.of([f"category={n}" for n in range(CATEGORIES)]),
    }
    head = Head(mean=4.0, retrieval_dims=dims, rating_start=0, memory_per_log=0.5)
    folder.mkdir(parents=True)
    write_vectors(folder, Vectors(**arrays, **strings, layers=layers, head=head))
    RunInfo(finished=1.0, identity=new_identity()).write(folder / RUN)
    write_manifest(folder, RUN_FOLDER)
    return open_run(folder).remembered()
