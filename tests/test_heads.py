"""Two heads for the stars: each has its own dimensions and its own error, answers are a share of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amzrec.config import TrainConfig
from amzrec.model.head import SECOND_SHARE, BiasedHead, Pairs
from amzrec.model.keras2 import import_tensorflow
from amzrec.training.snapshot import head_in_stars
from fits import batch_of, dataset_of, fitted_of, model_of, random_reviews, recipe_of, small

tf: Any = import_tensorflow()
RNG = np.random.default_rng(5)
REVIEWS, FIRST, SECOND = 7, 4, 3  # of a batch; dimensions that the first head reads, and the second


def heads_of(head: tuple[int, ...]) -> BiasedHead:
    """Two heads with hidden layers of these widths, all of whose weights are random."""
    recipe = recipe_of(dataset_of(random_reviews()), head=head, second_head=SECOND)
    found = BiasedHead(recipe, (0.5, 0.25))
    for variable in found.trainable_variables:
        variable.assign(RNG.normal(size=variable.shape))
    return found


def random_pairs() -> Pairs:
    """Pairs whose every number is random."""
    width = FIRST + SECOND
    shapes = [(REVIEWS, width), (REVIEWS, width), (REVIEWS,), (REVIEWS,), (REVIEWS, 2), (REVIEWS, 2)]
    return Pairs(*(tf.constant(RNG.normal(size=shape), tf.float32) for shape in shapes))


def by_hand(pairs: Pairs, read: slice, number: int, head: BiasedHead, hidden: tuple[int, ...]) -> np.ndarray:
    """What a head says, review by review, from its own parts of the weights."""
    found, width = [], FIRST + SECOND
    mine = np.arange(width)[read]
    rows = np.concatenate([mine, [width], width + 1 + mine, [2 * width + 1], 2 * width + 2 + mine])
    for r in range(REVIEWS):
        x, y = pairs.x[r, read].numpy(), pairs.y[r, read].numpy()
        bias = np.array([float(pairs.customer_bias[r]), float(pairs.product_bias[r])])
        inputs, values = rows, np.concatenate([x, bias[:1], y, bias[1:], x * y])
        for layer, units in zip(head.mlp, (*hidden, 1), strict=False):
            own = np.arange(number * units, (number + 1) * units)
            values = values @ layer.kernel.numpy()[np.ix_(inputs, own)] + layer.bias.numpy()[own]
            values, inputs = (values if layer is head.mlp[-1] else np.maximum(values, 0)), own
        offset = float(pairs.customer_offset[r, number] + pairs.product_offset[r, number])
        dot = head.scale.numpy()[2 * number : 2 * number + 2] @ bias + head.weight.numpy()[read] @ (x * y)
        found.append(offset + dot + (values[0] if head.mlp else 0.0))
    return np.array(found)


@pytest.mark.parametrize("hidden", [(), (5,), (5, 6)])
def test_an_answer_is_a_share_of_what_each_head_says_from_its_own_dimensions(hidden: tuple[int, ...]) -> None:
    heads, pairs = heads_of(hidden), random_pairs()
    first, second = (
        by_hand(pairs, read, number, heads, hidden) for number, read in enumerate((slice(FIRST), slice(FIRST, None)))
    )
    np.testing.assert_allclose(heads.predictions(pairs), np.append(first, second), rtol=1e-4, atol=1e-4)
    together = (1 - SECOND_SHARE) * first + SECOND_SHARE * second
    np.testing.assert_allclose(heads(pairs), together, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("hidden", [(), (5,), (5, 6)])
def test_one_product_and_one_mlp_answer_for_both(hidden: tuple[int, ...]) -> None:
    heads, pairs, unit, width = heads_of(hidden), random_pairs(), 2.0, FIRST + SECOND
    (customer, product, weight), layers = head_in_stars(heads, width, unit)
    assert (len(weight), len(layers)) == (width, len(hidden) + bool(hidden))
    x, y = pairs.x.numpy(), pairs.y.numpy()
    biases = unit * np.stack([pairs.customer_bias, pairs.product_bias], axis=1)  # in stars
    read = np.concatenate([x, biases[:, :1], y, biases[:, 1:], x * y], axis=1)
    for number, (kernel, bias) in enumerate(layers):
        read = read @ kernel + bias
        read = np.maximum(read, 0) if number < len(layers) - 1 else read
    offsets = (pairs.customer_offset + pairs.product_offset).numpy() @ np.array(heads.shares)
    stars = unit * offsets + biases @ [customer, product] + (x * y) @ weight + (read[:, 0] if layers else 0)
    np.testing.assert_allclose(stars, unit * heads(pairs).numpy(), rtol=1e-4, atol=1e-4)


def test_no_head_learns_from_the_error_of_the_other() -> None:
    heads, pairs = heads_of((5,)), random_pairs()
    for number, theirs in enumerate((slice(FIRST, None), slice(FIRST))):
        with tf.GradientTape() as tape:
            tape.watch([pairs.x, pairs.customer_offset])
            error = tf.reduce_sum(tf.square(tf.reshape(heads.predictions(pairs), [2, -1])[number]))
        watched = [pairs.x, pairs.customer_offset, heads.weight, heads.scale, heads.mlp[0].kernel, heads.mlp[1].kernel]
        of_x, of_offset, of_weight, of_scale, of_first, of_last = (
            each.numpy() for each in tape.gradient(error, watched)
        )
        other = 1 - number
        for of_mine, of_theirs in (
            (of_x, of_x[:, theirs]),
            (of_offset, of_offset[:, other]),
            (of_weight, of_weight[theirs]),
            (of_scale, of_scale[2 * other : 2 * other + 2]),
            (of_first, of_first[:, 5 * other : 5 * other + 5]),
            (of_last, of_last[:, other]),
        ):
            assert of_mine.any()
            assert not of_theirs.any()


def test_the_parts_of_both_heads_start_as_each_would_alone() -> None:
    facts = dataset_of(random_reviews())
    alone = BiasedHead(recipe_of(facts, head=(5,), second_head=0), (0.5, 0.25)).mlp[0].kernel.numpy()
    both = BiasedHead(recipe_of(facts, head=(5,), second_head=SECOND), (0.5, 0.25)).mlp[0]
    mine, width = np.arange(FIRST), FIRST + SECOND
    rows = np.concatenate([mine, [width], width + 1 + mine, [2 * width + 1], 2 * width + 2 + mine])
    np.testing.assert_array_equal(both.kernel.numpy()[rows, :5], alone)
    assert np.count_nonzero(both.masked.numpy()) == alone.size + (3 * SECOND + 2) * 5


def test_the_loss_is_that_of_both_heads_and_each_counts_as_a_rating_does() -> None:
    plain = {"l2": 0.0, "l2_history": 0.0, "l2_rare": 0.0, "retrieval_weight": 0.0, "rating_weight": 2.0}
    fitted, model = small(**plain, mask=0.0, history_dropout=0.0, second_head=3)
    batch = batch_of(fitted, model)
    rated = fitted.rated > 0
    errors = [
        np.mean((each.numpy() + fitted.trend_without_self - fitted.value)[rated] ** 2)
        for each in tf.reshape(model.rating_head.predictions(model.encoder.encode(batch).pairs), [2, -1])
    ]
    assert float(model.compute_loss(batch)) == pytest.approx(2.0 * sum(errors), rel=1e-5)
    assert float(model.rating.metric.result()) == pytest.approx(np.mean(errors), rel=1e-5)


def test_what_the_first_head_and_retrieval_start_from_does_not_depend_on_a_second_head() -> None:
    reviews = random_reviews()
    dataset = dataset_of(reviews)
    tables = {}
    for second in (0, 3):
        recipe = recipe_of(dataset, second_head=second)
        model = model_of(recipe, fitted_of(reviews, second_head=second), dataset, noise=0.0)
        tower = model.encoder.candidate_tower
        tables[second] = [table.numpy() for table in (tower.embedding, tower.bag, tower.residual, tower.attribute)]
    for without, beside in zip(tables[0], tables[3], strict=True):
        assert (without.shape[1], beside.shape[1]) == (6, 9)
        np.testing.assert_array_equal(beside[:, :6], without)
        assert not np.allclose(beside[:, 6:], without[:, :3])


def test_a_second_head_is_for_stars_and_not_for_ids() -> None:
    facts = dataset_of(random_reviews()).facts(refit=False)
    settings: list[dict[str, Any]] = [
        {},
        {"second_head": 5},
        {"second_head": 0},
        {"preset": "ids"},
        {"features": "ids", "second_head": 5},
        {"rating_weight": 0.0},
    ]
    assert [TrainConfig.of(**each).resolve(facts).second_head for each in settings] == [16, 5, 0, 0, 0, 0]
