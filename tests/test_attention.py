"""Attention: what is served is what is learned, later products are never seen, and the order given is that read."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from amzrec.arrays import Floats, Lists
from amzrec.errors import SILENT
from amzrec.features.fitted import FittedReviews
from amzrec.features.windows import LAST, Windows, cuts
from amzrec.model.attention import WIDTH, AttentionEncoder, known_products
from amzrec.model.keras2 import import_tensorflow
from amzrec.store.attention import Attention
from amzrec.training.attended import AttentionSnapshot, mixed
from amzrec.training.attention import AttentionLearner
from amzrec.training.watch import WatchedSystem
from fits import dataset_of, fitted_of, recipe_of, reviews_of

tf: Any = import_tensorflow()
NAN = float("nan")
TIMELINES = [[6, 2, 7, 5], [3, 5], [1], [2, 3, 4, 5, 6, 7, 8, 1]]  # of customers 1, 2, 3 and 4; product 9 has no review


def in_order(lists: list[list[int]]) -> FittedReviews:
    """Customers 1, 2 … who clicked these products one day after another."""
    rows = [(customer, product, NAN) for customer, mine in enumerate(lists, 1) for product in mine]
    return fitted_of(reviews_of(rows, [float(day) for mine in lists for day in range(len(mine))]), history="sequence")


def encoder(noise: float = 0.3) -> AttentionEncoder:
    """An encoder of 9 products whose every weight was moved at random, so that nothing is zero by chance."""
    made, rng = AttentionEncoder(10, 1), np.random.default_rng(3)
    for variable in made.trainable_variables:
        variable.assign_add(tf.constant(rng.normal(0, noise, variable.shape), tf.float32))
    return made


def read(made: AttentionEncoder, lists: list[list[int]]) -> Floats:
    """What is served of histories."""
    return made.attention().read(made.products.numpy(), Lists.join([np.array(one, np.int32) for one in lists]))


def reader(width: int = 2, last: int = 3) -> Attention:
    """One block of one head whose kernels are zero: it says the last product, normed."""
    norms = np.stack([np.stack([np.ones(width), np.zeros(width)])] * 3).astype(np.float32)
    square, flat = np.zeros((1, width, width), np.float32), np.zeros((1, width), np.float32)
    return Attention(
        within=np.zeros((1, width, 3 * width), np.float32),
        near=np.zeros((1, 1, last), np.float32),
        out=square,
        wide=square,
        wide_bias=flat,
        narrow=square,
        narrow_bias=flat,
        norms=norms,
    )


# --- what is read


def test_what_is_served_of_a_history_is_what_was_learned_of_its_last_position() -> None:
    made, items = encoder(), np.zeros((4, 8), np.int32)
    for row, mine in enumerate(TIMELINES):
        items[row, : len(mine)] = mine
    learned = made.read(tf.constant(items)).numpy()
    for row, mine in enumerate(TIMELINES):
        for length in range(1, len(mine) + 1):
            np.testing.assert_allclose(read(made, [mine[:length]])[0], learned[row, length - 1], atol=1e-5)


def test_a_later_product_changes_nothing_before_it_and_everything_from_it_on() -> None:
    made, items = encoder(), np.array([[6, 2, 7, 5, 1]], np.int32)
    other = items.copy()
    other[0, 3] = 8
    before, after = (made.read(tf.constant(each)).numpy()[0] for each in (items, other))
    np.testing.assert_array_equal(before[:3], after[:3])
    assert (np.abs(before[3:] - after[3:]).max(axis=1) > 1e-3).all()


def test_histories_read_together_are_as_if_each_was_read_alone() -> None:
    made = encoder()
    together = read(made, [*TIMELINES, []])
    for row, mine in enumerate(TIMELINES):
        np.testing.assert_allclose(together[row], read(made, [mine])[0], atol=1e-5)
    assert not together[-1].any(), "of nothing, nothing is read"


def test_the_order_given_is_the_order_read() -> None:
    forth, back = read(encoder(), [[4, 7], [7, 4]])
    assert np.abs(forth - back).max() > 0.01


def test_where_a_history_begins_does_not_matter_beyond_what_is_read() -> None:
    made = encoder()
    long = [1 + number % 8 for number in range(LAST + 7)]
    whole, last, less = read(made, [long, long[7:], long[8:]])
    np.testing.assert_allclose(whole, last, atol=1e-5)
    assert np.abs(last - less).max() > 1e-4, "the first of the last ones is read"


def test_a_product_that_was_never_learned_of_is_passed_over() -> None:
    made, vectors = encoder(), encoder().products.numpy()
    vectors[9] = 0
    lists = [np.array(one, np.int32) for one in ([6, 9, 2, 1_000], [6, 2], [9])]
    found = made.attention().read(vectors, Lists.join(lists))
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    assert not found[2].any()


def test_without_kernels_the_last_product_is_what_is_read() -> None:
    vectors = np.array([[0, 0], [3, 1], [-1, 5]], np.float32)
    found = reader().read(vectors, Lists.join([np.array([2, 1], np.int32), np.array([1, 2], np.int32)]))
    np.testing.assert_allclose(found, [[1, -1], [-1, 1]], atol=1e-5)  # of two numbers the norm is which is larger
    scaled = reader().scaled(3.0).read(vectors, Lists.join([np.array([2, 1], np.int32)]))
    np.testing.assert_allclose(scaled, [[3, -3]], atol=1e-5)


def test_a_head_takes_the_mean_of_values_by_the_softmax_worked_by_hand() -> None:
    """d = 2, no queries and keys: all shares follow from `near`, here 0 for itself and log 3 for the one before it."""
    plain = reader()
    within = plain.within.copy()
    within[0, :, 4:] = np.eye(2)  # values are the normed products
    near = np.array([[[0.0, np.log(3.0), 0.0]]], np.float32)
    made = dataclasses.replace(plain, within=within, near=near, out=np.eye(2, dtype=np.float32)[None])
    vectors = np.array([[0, 0], [3, 1], [1, 2]], np.float32)
    found = made.forward(vectors[[[1, 2]]], np.array([2]))
    taken = 0.75 * np.array([1, -1]) + 0.25 * np.array([-1, 1])
    x = np.sqrt(2) * np.array([1, 2]) + taken
    np.testing.assert_allclose(found[0], (x - x.mean()) / x.std(), atol=1e-4)


# --- what is learned


def test_each_review_is_asked_once_of_all_that_stands_before_it() -> None:
    fitted = in_order(TIMELINES)
    windows = Windows(fitted, recipe_of(dataset_of(reviews_of([(1, 1, NAN)], [1.0])), history="sequence"))
    asked = list[tuple[list[int], int]]()
    for starts in windows.batches([1]):
        columns = windows.columns(starts, 0)
        mine = columns["windows"]
        items = mine.items.reshape(mine.shape)
        assert columns["retrieval"].rows[columns["retrieval"].target].tolist() == mine.targets.tolist()
        for place, target in zip(mine.asking, mine.targets, strict=True):
            if place == items.size:
                asked.append(([], int(target)))
                continue
            row, column = divmod(int(place), items.shape[1])
            asked.append((items[row, : column + 1].tolist(), int(target)))
    known = [(mine[:place], mine[place]) for mine in TIMELINES for place in range(len(mine))]
    assert sorted(asked) == sorted(known)


def test_long_histories_are_read_in_pieces_that_begin_elsewhere_in_each_epoch() -> None:
    long = [1 + number % 8 for number in range(2 * LAST + 30)]
    fitted = in_order([long, [3, 5]])
    windows = Windows(fitted, recipe_of(dataset_of(reviews_of([(1, 1, NAN)], [1.0])), history="sequence"))
    begun = [np.sort(np.concatenate(list(windows.batches([epoch])))) for epoch in range(40)]
    assert all(len(starts) == 3 + 1 for starts in begun)
    last = len(long) - 1 - LAST
    assert {int(starts[0]) for starts in begun} > {0}
    assert max(int(starts[2]) for starts in begun) == last, "the last product is asked as well"
    columns = windows.columns(np.array([last]), 0)["windows"]
    assert columns.shape.tolist() == [1, LAST]
    assert columns.targets[-1] == long[-1]


def test_steps_are_cut_so_that_none_reads_more_than_it_may() -> None:
    assert cuts(np.array([1, 1, 2, 2, 3, 9]), 6).tolist() == [0, 3, 5, 6]  # 3 · 2, 2 · 3, and one that is too long
    assert cuts(np.zeros(0, np.int64), 6).tolist() == [0]


def trained(epochs: int = 3) -> AttentionLearner:
    """A learner after some epochs on a few customers."""
    made = AttentionLearner(
        recipe_of(dataset_of(reviews_of([(1, 1, NAN)], [1.0])), history="sequence"), in_order(TIMELINES)
    )
    made.prepare()
    for number in range(1, epochs + 1):
        made.epoch(number, SILENT, "", None, "attention")
    return made


@pytest.fixture(scope="module")
def learned() -> AttentionSnapshot:
    """What was learned of a few customers."""
    return AttentionSnapshot.of(trained())


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits(learned: AttentionSnapshot) -> None:
    again = AttentionSnapshot.of(trained())
    for name, array in vars(learned).items():
        np.testing.assert_array_equal(array, getattr(again, name), err_msg=name)


@pytest.mark.slow
def test_what_is_kept_of_a_training_answers_as_it_did(learned: AttentionSnapshot) -> None:
    fitted = in_order(TIMELINES)
    found = learned.reader(1.0, 2.0).read(learned.products, fitted.timelines)
    np.testing.assert_allclose(found[1:5], 2 * learned.queries[1:5, :-1], atol=1e-5)  # to be divided by a temperature 2
    assert not learned.queries[0, :-1].any(), "nobody has taken nothing"
    assert not learned.products[9].any(), "of product 9 nothing is known"
    assert np.isfinite(learned.candidates).all()


def test_dropping_depends_on_the_seed_alone_and_keeps_the_mean() -> None:
    made, items = encoder(0.0), tf.constant(np.array([[1, 2, 3]] * 64, np.int32))
    first, again, other = (made.read(items, tf.constant([7, step], tf.int64)).numpy() for step in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert known_products(made, in_order(TIMELINES))[[0, 9]].tolist() == np.zeros((2, WIDTH)).tolist()


# --- beside the towers


def test_a_share_of_attention_is_that_share_of_the_score() -> None:
    rng = np.random.default_rng(0)
    fitted = in_order(TIMELINES)
    systems = []
    for width in (3, 5):
        queries, candidates = (rng.normal(size=(rows, width + 1)).astype(np.float32) for rows in (4, 6))
        queries[:, -1] = 1
        systems.append(WatchedSystem(fitted, queries, candidates))
    scores = [system.queries @ system.candidates.T for system in systems]
    for share in (0.0, 0.25, 1.0):
        both = mixed(systems[0], systems[1], share)
        np.testing.assert_allclose(
            both.queries @ both.candidates.T, (1 - share) * scores[0] + share * scores[1], atol=1e-5
        )
    assert mixed(systems[0], systems[1], 0.0).queries.shape == (4, 4)
    assert mixed(systems[0], systems[1], 1.0).queries.shape == (4, 6)
