"""The losses over lists of stars: hand-worked values, their direction, one scale for any number of lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amzrec.model import losses
from amzrec.model.keras2 import import_tensorflow
from amzrec.model.losses import list_loss

tf: Any = import_tensorflow()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # stars 5, 1, 3 predicted .5, 0, 1: margins of the pairs (5,1) .5, (5,3) -.5, (3,1) 1
        ("pairwise-hinge", (0.5 + 1.5 + 0.0) / 3),
        ("pairwise-logistic", (np.log1p(np.exp(-0.5)) + np.log1p(np.exp(0.5)) + np.log1p(np.exp(-1.0))) / 3),
        # the order by stars is .5, 1, 0: log of (e^.5 + e^1 + e^0) / e^.5, then of (e^1 + e^0) / e^1
        ("listmle", np.log((np.exp(0.5) + np.e + 1) / np.exp(0.5)) + np.log((np.e + 1) / np.e)),
    ],
)
def test_list_losses_by_hand(kind: str, expected: float) -> None:
    loss = losses.list_loss(kind, tf.constant([[5.0, 1.0, 3.0]]), tf.constant([[0.5, 0.0, 1.0]]))
    assert float(loss) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["pairwise-hinge", "pairwise-logistic", "listmle"])
def test_list_losses_raise_the_better_and_lower_the_worse(kind: str) -> None:
    predicted = tf.Variable([[0.1, 0.2]])
    with tf.GradientTape() as tape:
        loss = losses.list_loss(kind, tf.constant([[5.0, 1.0]]), predicted)
    better, worse = tape.gradient(loss, predicted).numpy()[0]
    assert better < 0 < worse


def test_a_list_of_equal_stars_teaches_pairs_nothing() -> None:
    assert float(losses.list_loss("pairwise-hinge", tf.constant([[3.0, 3.0]]), tf.constant([[0.0, 9.0]]))) == 0.0


STARS = [[5.0, 3.0, 1.0], [2.0, 2.0, 4.0]]
SCORES = [[2.0, 1.5, 3.0], [0.0, 1.0, 0.5]]
MARGINS = np.array([0.5, -1.0, -1.5, 0.5, -0.5])  # of the pairs with more stars first: 5>3, 5>1, 3>1; 4>2, 4>2


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        ("pairwise-hinge", np.maximum(0, 1 - MARGINS).mean()),
        ("pairwise-logistic", np.log1p(np.exp(-MARGINS)).mean()),
        # in the order 5, 3, 1 and in the order 4, 2, 2: log Σ exp of what is left, less what is drawn
        (
            "listmle",
            np.mean(
                [
                    np.log(np.exp([2, 1.5, 3]).sum()) - 2 + np.log(np.exp([1.5, 3]).sum()) - 1.5,
                    np.log(np.exp([0.5, 0, 1]).sum()) - 0.5 + np.log(np.exp([0, 1]).sum()) - 0,
                ]
            ),
        ),
    ],
)
def test_losses_of_lists_worked_by_hand(kind: str, known: float) -> None:
    assert float(list_loss(kind, tf.constant(STARS), tf.constant(SCORES))) == pytest.approx(known, abs=1e-6)


@pytest.mark.parametrize("kind", ["pairwise-hinge", "pairwise-logistic"])
def test_a_list_of_equal_stars_has_no_pair_and_no_loss(kind: str) -> None:
    assert float(list_loss(kind, tf.constant([[3.0, 3.0]]), tf.constant([[0.0, 9.0]]))) == 0


@pytest.mark.parametrize("kind", ["pairwise-hinge", "pairwise-logistic", "listmle"])
def test_the_same_lists_twice_do_not_double_the_loss(kind: str) -> None:
    once = list_loss(kind, tf.constant(STARS), tf.constant(SCORES))
    twice = list_loss(kind, tf.constant(STARS * 2), tf.constant(SCORES * 2))
    assert float(twice) == pytest.approx(float(once), rel=1e-6)
