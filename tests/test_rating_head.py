"""One specification of the rating head that all who predict stars pass: training, answers, and the SavedModel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amzrec.answers.recommender import Recommender
from amzrec.config import TrainConfig
from amzrec.store.vectors import Vectors
from fits import dataset_of, random_reviews
from test_learner import CUSTOMERS, PRODUCTS, learner_of, vectors_of

CONFIGS = {
    "biases, dot product and hidden layers": TrainConfig(dim=9, head=(5, 4), own_vector=3, average=0.0),
    "no hidden layer": TrainConfig(dim=9, head=(), own_vector=3, average=0.0),
    "ids alone": TrainConfig(dim=6, head=(5,), features="ids", optimizer="adagrad"),
}
Predictor = Callable[[Any, Vectors, np.ndarray, np.ndarray], np.ndarray]


def specified(vectors: Vectors, customer: Any, product: Any) -> float:
    """The stars of one pair, word by word as Vectors documents them.

    clip(mean + q[K+1] + v[K+1] + Σ w · q[:K] · v[:K] + MLP(concat(q[:K+1], v[:K+1], q[:K] · v[:K])), low, high)
    """
    q, v = (
        np.asarray(table, np.float64) for table in (vectors.rating_query[customer], vectors.rating_candidate[product])
    )
    cross = [a * b for a, b in zip(q[:-2], v[:-2], strict=True)]
    stars = (
        (vectors.head.mean or 0.0)
        + q[-1]
        + v[-1]
        + sum(w * c for w, c in zip(vectors.rating_weight, cross, strict=True))
    )
    hidden = np.array([*q[:-1], *v[:-1], *cross])
    for number, (kernel, bias) in enumerate(vectors.layers):
        hidden = np.array([sum(hidden * kernel[:, unit]) + bias[unit] for unit in range(len(bias))])
        if number < len(vectors.layers) - 1:
            hidden = np.maximum(hidden, 0)
    if vectors.layers:
        stars += hidden[0]
    return float(np.clip(stars, vectors.head.low, vectors.head.high))


def trained(learner: Any, _: Vectors, customer: np.ndarray, product: np.ndarray) -> np.ndarray:
    """What the model in training predicts, as of now."""
    x, y, scale = learner.queries(CUSTOMERS), learner.candidates(PRODUCTS), learner.fitted.scale
    stars = learner.stars(customer, product, x[customer], y[product]) + learner.fitted.trend[-1] * scale.unit
    clipped: np.ndarray = np.clip(stars, scale.low, scale.high)
    return clipped


def answered(_: Any, vectors: Vectors, customer: np.ndarray, product: np.ndarray) -> np.ndarray:
    """What numpy answers from the vectors."""
    return Recommender(vectors).rate(vectors.rating_query[customer], product)


def exported(_: Any, vectors: Vectors, customer: np.ndarray, product: np.ndarray) -> np.ndarray:
    """What the exported signature answers to strings."""
    import tempfile

    from amzrec.exports.saved_model import Served, tf

    with tempfile.TemporaryDirectory() as assets:
        served = Served(vectors, Path(assets), stars=True)
        names = [tf.constant([s[int(row)] for row in rows]) for s, rows in
                 ((vectors.customer_ids, customer), (vectors.product_ids, product))]  # fmt: skip
        return np.asarray(served.rate(*names)["stars"])


@pytest.mark.parametrize("predict", [trained, answered, exported], ids=lambda predict: predict.__name__)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_head_predicts_the_specified_stars(name: str, predict: Predictor) -> None:
    data = dataset_of(random_reviews())
    learner = learner_of(CONFIGS[name], data)
    vectors = vectors_of(learner, data)
    customer, product = (grid.ravel() for grid in np.meshgrid(CUSTOMERS, PRODUCTS, indexing="ij"))
    known = [specified(vectors, c, p) for c, p in zip(customer, product, strict=True)]
    assert len(np.unique(np.round(known, 3))) > 20, "the scale cuts off too many to see a difference"
    np.testing.assert_allclose(predict(learner, vectors, customer, product), known, atol=1e-4)
