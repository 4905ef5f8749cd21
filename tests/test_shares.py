"""The shares of a step: what replicas compute of it adds up to the whole, gradients too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amzrec.features.order import steps_of
from amzrec.features.shares import Part, Share
from amzrec.model.keras2 import import_tensorflow
from fits import numpy_uniform, small

tf: Any = import_tensorflow()
KINDS: dict[str, dict[str, Any]] = {
    "both tasks, the whole catalogue": {},
    "negatives of the batch": {"negatives": "batch"},
    "few negatives of a large batch": {"negatives": "batch", "compared": 9},
    "sampled histories": {"history_budget": 25},
    "the last products, with votes": {"history": "recent"},
    "the last products of the batch, both tasks": {"history": "recent", "negatives": "batch", "compared": 9},
    "retrieval alone by the last products": {"history": "recent", "rating_weight": 0.0},
    "a sequence": {"history": "sequence"},
    "rating alone": {"retrieval_weight": 0.0},
    "pairs of a list": {"rating_loss": "pairwise-logistic", "list_size": 2},
    "lists": {"rating_loss": "listmle", "list_size": 2},
    "squared dot products": {"retrieval_loss": "dot"},
    "ids": {"features": "ids", "equal_customers": 0.5},
}


def loss_and_gradients(model: Any, columns: Any) -> tuple[float, list[Any]]:
    """The loss of a step, or of a share of it, and its gradients, dense, by trained variable."""
    with tf.GradientTape() as tape:
        loss = model.compute_loss(tf.nest.map_structure(tf.constant, columns))
    found = tape.gradient(loss, model.trainable_variables)
    return float(loss), [None if each is None else tf.convert_to_tensor(each).numpy() for each in found]


@pytest.mark.parametrize("kind", KINDS)
def test_the_shares_of_a_step_add_up_to_it(kind: str) -> None:
    """Masked customers, dropped and sampled histories, drawn negatives: each share sees those of the whole step."""
    settings = {"mask": 0.4, "history_dropout": 0.3, "l2": 0.2, "l2_history": 0.2, "l2_rare": 2.0} | KINDS[kind]
    fitted, model = small(60.0, **settings)
    steps = steps_of(fitted, model.recipe, numpy_uniform)
    together = model.recipe.reviews_together
    order = np.lexsort((np.arange(len(fitted)), fitted.customer))
    if together > 1:  # whole lists of one customer
        rated = order[fitted.rated[order] > 0]
        lists = [rated[fitted.customer[rated] == c] for c in range(1, len(fitted.customers))]
        order = np.concatenate([each[: len(each) // together * together] for each in lists]).reshape(-1, together)
        reviews = np.random.default_rng(3).permutation(order).ravel()
    else:
        reviews = np.random.default_rng(3).permutation(order)
    loss, gradients = loss_and_gradients(model, steps.columns(reviews, 5))
    for replicas in (2, 3, 20):  # of 20 some have no customer of their own
        parts = [steps.columns(reviews, 5, Share(number, replicas)) for number in range(replicas)]
        found = [loss_and_gradients(model, part) for part in parts]
        assert sum(value for value, _ in found) == pytest.approx(loss, rel=1e-5)
        for number, known in enumerate(gradients):
            summed = [each[number] for _, each in found if each[number] is not None]
            assert (known is None) == (not summed)
            if known is not None:
                summed_up = np.sum(summed, axis=0, dtype=np.float64)  # of gradients up to 14, whose last digit is 1e-6
                np.testing.assert_allclose(summed_up, known, rtol=1e-6, atol=2e-6)


def test_a_customer_is_in_one_share_and_shares_are_about_equal() -> None:
    customer = np.array([0, 1, 0, 2, 3, 3, 2, 4])  # 2, 1, 2, 2 and 1 reviews
    parts = [Part.of(customer, Share(number, 2)) for number in range(2)]
    assert [part.reviews.tolist() for part in parts] == [[0, 1, 2, 3, 6], [4, 5, 7]]  # type: ignore[union-attr]
    assert [part.customers for part in parts] == [slice(0, 3), slice(3, 5)]
    assert not any(part.stands_in for part in parts)


def test_a_replica_without_a_customer_counts_nothing() -> None:
    parts = [Part.of(np.array([0, 0, 0]), Share(number, 2)) for number in range(2)]
    assert [part.stands_in for part in parts] == [False, True]
    assert [part.reviews.tolist() for part in parts] == [[0, 1, 2], [0, 1, 2]]  # type: ignore[union-attr]
