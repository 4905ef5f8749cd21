"""Run folders made by hand, without TensorFlow: the checkerboard as a model whose answers are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.arrays import offsets_of
from amzrec.store.dataset import Dataset, Reviews, open_dataset
from amzrec.store.manifest import new_identity, write_manifest
from amzrec.store.ownership import RUN_FOLDER
from amzrec.store.run import RUN, Run, RunInfo, open_run
from amzrec.store.strings import Strings, feature_lists
from amzrec.store.vectors import Head, Vectors, write_vectors

PARTS = ("train", "valid", "test")


def seen_arrays(dataset: Dataset) -> dict[str, Any]:
    """The seen_* arrays of Vectors from all three parts of a dataset."""
    reviews = Reviews.concat([getattr(dataset, part) for part in PARTS])
    tags = np.repeat(np.arange(3, dtype=np.uint8), [len(getattr(dataset, part)) for part in PARTS])
    order = np.argsort(reviews.customer, kind="stable")
    return {
        "seen_offsets": offsets_of(np.bincount(reviews.customer, minlength=dataset.customers.num_rows)),
        "seen_product": reviews.product[order],
        "seen_stars": reviews.stars[order],
        "seen_part": tags[order],
    }


def random_vectors(
    dataset: Dataset, rng: np.random.Generator, dims: int = 6, retrieval: int = 4, rating: int = 4, hidden: int = 5
) -> Vectors:
    """Vectors as a training would leave them (histories applied, biases shrunk) around random tables."""
    customers, products = dataset.customers.num_rows, dataset.products.num_rows
    fit = Reviews.concat([dataset.train, dataset.valid])
    counts = np.bincount(fit.product, minlength=products)
    rated = ~np.isnan(fit.stars)
    mean = float(fit.stars[rated].mean()) if rated.any() else 0.0
    total = np.bincount(fit.product[rated], fit.stars[rated] - mean, products)
    product_bias = total / (np.bincount(fit.product[rated], minlength=products) + 5)
    start, temperature, a_customer = dims - rating, 0.5, 0.8
    base = rng.normal(size=(customers, dims))
    bag, by_residual = rng.normal(size=(2, products, dims))
    base[0] = 0
    rating_query = np.zeros((customers, rating + 2))
    x = np.zeros((customers, dims))
    for c in range(customers):
        mine = fit.take(fit.customer == c)
        stars = [s for s in mine.stars if not np.isnan(s)]
        bias = sum(s - mean for s in stars) / (len(stars) + 10)
        total = np.sum([np.zeros(dims), *(bag[p] for p in mine.product)], axis=0)
        for p, s in zip(mine.product, mine.stars, strict=True):
            if not np.isnan(s):
                total = total + (s - mean - product_bias[p] - bias) * by_residual[p]
        x[c] = base[c] + total / np.sqrt(len(mine) + 1)
        rating_query[c] = [*x[c, start:], bias, 0.3 * rng.normal() + a_customer * bias]
    candidate = rng.normal(size=(products, retrieval + 1))
    arrays = {
        "retrieval_query": np.concatenate([x[:, :retrieval] / temperature, np.ones((customers, 1))], axis=1),
        "retrieval_candidate": candidate,
        "rating_query": rating_query,
        "rating_candidate": 0.3 * rng.normal(size=(products, rating + 2)),
        "rating_weight": rng.normal(size=rating),
        "query_base": base,
        "history_bag": bag,
        "history_residual": by_residual,
        "product_bias": product_bias,
    }
    scale = dataset.info.stars
    found: dict[str, Any] = {name: array.astype(np.float32) for name, array in arrays.items()}
    if listed := feature_lists(dataset.products["features"].to_pylist()):
        features, lists = listed
        found |= {"features": features, "feature_offsets": lists.offsets, "feature_items": lists.items}
    return Vectors(
        **found | seen_arrays(dataset),
        product_counts=counts.astype(np.int64),
        customer_counts=np.bincount(fit.customer, minlength=customers).astype(np.int64),
        candidates=dataset.candidates(counts),
        layers=[
            (rng.normal(size=(3 * rating + 2, hidden)).astype(np.float32), np.ones(hidden, np.float32)),
            (rng.normal(size=(hidden, 1)).astype(np.float32), np.zeros(1, np.float32)),
        ],
        head=Head(
            mean=mean if rated.any() else None,
            low=scale.min if scale else 0.0,
            high=scale.max if scale else 0.0,
            bias_weight=a_customer,
            bias_shrinkage=10.0,
            temperature=temperature,
            retrieval_dims=retrieval,
            rating_start=start,
        ),
        customer_ids=Strings.of(dataset.customers["customer_id"].to_pylist()),
        product_ids=Strings.of(dataset.products["product_id"].to_pylist()),
        titles=Strings.of([title or "" for title in dataset.products["title"].to_pylist()]),
    )


def parity_vectors(dataset: Dataset) -> Vectors:
    """The checkerboard understood: a score of 4 within the own parity and 0 across, five stars within and one across.

    b falls by 0.01 per product row, so the order within a parity is known: the lowest row first.
    """
    customers, products = dataset.customers.num_rows, dataset.products.num_rows
    vectors = random_vectors(dataset, np.random.default_rng(0), 2, 2, 2)
    parity = [np.eye(2)[(np.arange(n) - 1) % 2] for n in (customers, products)]
    for each in parity:
        each[0] = 0
    rating_query = np.concatenate([parity[0], np.zeros((customers, 2))], axis=1)
    rating_query[0, -1] = 2
    arrays = {
        "retrieval_query": np.concatenate([4 * parity[0], np.ones((customers, 1))], axis=1),
        "retrieval_candidate": np.concatenate([parity[1], -0.01 * np.arange(products)[:, None]], axis=1),
        "rating_query": rating_query,
        "rating_candidate": np.concatenate([parity[1], np.zeros((products, 2))], axis=1),
        "rating_weight": np.full(2, 4.0),
        "query_base": np.zeros((customers, 2)),
        "history_bag": parity[1],
        "history_residual": np.zeros((products, 2)),
    }
    head = dataclasses.replace(vectors.head, mean=1.0, bias_weight=0.0, temperature=1.0, rating_start=0)
    ready: dict[str, Any] = {name: array.astype(np.float32) for name, array in arrays.items()}
    return dataclasses.replace(vectors, **ready, layers=[], head=head)


def with_attention(vectors: Vectors, width: int = 2) -> Vectors:
    """These vectors with one block of attention in the last `width` retrieval dimensions, of two heads, at random."""
    rng, last, hidden = np.random.default_rng(8), 3, 3
    shapes = {
        "within": (1, width, 3 * width),
        "near": (1, 2, last),
        "out": (1, width, width),
        "wide": (1, width, hidden),
        "wide_bias": (1, hidden),
        "narrow": (1, hidden, width),
        "narrow_bias": (1, width),
        "norms": (3, 2, width),
    }
    arrays: dict[str, Any] = {f"attention_{n}": rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    return dataclasses.replace(vectors, **arrays)


def write_run(folder: Path, dataset: Dataset | Path, vectors: Vectors, /, **info: Any) -> Run:
    """A finished run folder that holds these vectors."""
    if not isinstance(dataset, Dataset):
        dataset = open_dataset(dataset)
    folder.mkdir(parents=True)
    write_vectors(folder, vectors)
    facts = {
        "dataset": str(dataset.path),
        "fingerprint": dataset.info.fingerprint,
        "protocol": dataset.protocol,
        "finished": 1.0,
        "identity": new_identity(),
    }
    RunInfo(**facts | info).write(folder / RUN)
    write_manifest(folder, RUN_FOLDER)
    return open_run(folder)
