"""Votes of what followed what in a step of training: those of served answers, but for what the review itself taught."""

from __future__ import annotations

import numpy as np
import pytest

from amzrec.commands.train import recipe_for
from amzrec.config import TrainConfig
from amzrec.features.fitted import FittedReviews
from amzrec.features.memory import CURVE, LEARNED_WITH, SHRINK, of_order
from amzrec.features.recent import OrderVotes, recent_columns
from amzrec.store.dataset import Reviews
from amzrec.training.order import order_pays
from fits import dataset_of, fitted_of, reviews_of

NAN = float("nan")


def in_order(lists: list[list[int]]) -> Reviews:
    """Customers 1, 2 … who clicked these products one day after another."""
    rows = [(customer, product, NAN) for customer, mine in enumerate(lists, 1) for product in mine]
    return reviews_of(rows, [float(day) for mine in lists for day in range(len(mine))])


def votes_of(lists: list[list[int]]) -> tuple[np.ndarray, np.ndarray, FittedReviews]:
    """The votes before each review of `lists` by what was learned of them: for all products, and for its own."""
    fitted = fitted_of(in_order(lists), history="recent")
    memory, size = OrderVotes(fitted), len(fitted.products)
    columns = recent_columns(fitted, fitted.customer, fitted.timeline_slot, 20)
    found = memory.of(columns, fitted.product, np.arange(size), size)
    table = np.zeros((len(fitted), size))
    np.add.at(table, (found.listed.query, found.listed.candidate), found.weight)
    np.testing.assert_allclose(table.max(axis=1), found.highest, atol=1e-6)
    return table, found.of_target, fitted


def test_a_planted_pair_does_not_vote_for_itself() -> None:
    table, own, _ = votes_of([[1, 2], [3, 4, 5]])  # each pair once: all that is known of it is the review itself
    assert table[1, 2] > 0  # 2 was voted for, had its own review not been left out
    np.testing.assert_allclose(own, 0, atol=1e-7)


def test_a_pair_that_others_took_too_votes_as_if_only_they_had() -> None:
    _, own, fitted = votes_of([[1, 2], [1, 2], [1, 6, 2]])
    root = np.sqrt((3 + SHRINK) * (3 + SHRINK))
    # before the first customer's 2 stands 1; the second had it next, the third two steps later: (1 + 1 / 2) / root
    assert abs(own[1] - LEARNED_WITH * np.log(1 + CURVE * 1.5 / root)) < 1e-6
    # before the third customer's 2 stands 6, with nobody else, and 1, faded once, which two others had next to it
    third = int(np.flatnonzero((fitted.customer == 3) & (fitted.product == 2))[0])
    assert abs(own[third] - LEARNED_WITH * np.log(1 + CURVE * 0.8 * 2 / root)) < 1e-6


def test_votes_for_other_products_are_those_that_answers_read() -> None:
    lists = [[1, 2, 3, 4], [2, 4, 5], [1, 5, 3]]
    table, _, fitted = votes_of(lists)
    memory = of_order(fitted.timelines, len(fitted.products))
    last = int(np.flatnonzero((fitted.customer == 1) & (fitted.product == 4))[0])
    dense = np.zeros(table.shape[1])
    for age, product in enumerate([3, 2, 1]):
        span = memory.neighbours.span(product)
        np.add.at(dense, memory.neighbours.items[span], 0.8**age * memory.weights[span])
    np.testing.assert_allclose(table[last], LEARNED_WITH * np.log1p(dense), atol=1e-6)


def test_only_the_last_products_vote_however_many_retrieval_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amzrec.features.memory.LAST", 2)
    table, _, fitted = votes_of([[1, 2, 3, 4, 5], [2, 4, 5, 9], [1, 5, 3], [1, 8]])
    last = int(np.flatnonzero((fitted.customer == 1) & (fitted.product == 5))[0])
    memory, dense = of_order(fitted.timelines, len(fitted.products)), np.zeros(table.shape[1])
    for age, product in enumerate([4, 3]):
        span = memory.neighbours.span(product)
        np.add.at(dense, memory.neighbours.items[span], 0.8**age * memory.weights[span])
    np.testing.assert_allclose(table[last], LEARNED_WITH * np.log1p(dense), atol=1e-6)


def test_order_pays_where_each_product_leads_to_the_next_and_not_where_it_is_drawn_at_random() -> None:
    rng = np.random.default_rng(0)
    walks = [[1 + (start + step) % 9 for step in range(5)] for start in [*range(9), 0, 3, 6]]
    drawn = [(1 + rng.permutation(9)[:5]).tolist() for _ in range(12)]
    for lists, pays in ((walks, True), (drawn, False)):
        train, valid = in_order([mine[:-1] for mine in lists]), in_order(lists)
        last = valid.take(np.flatnonzero(valid.timestamp == valid.timestamp.max()))
        assert order_pays(dataset_of(train, last), seed=1) == pays


def test_a_valid_part_from_the_midst_of_a_history_cannot_tell_whether_order_pays() -> None:
    walks = [[1 + (start + step) % 9 for step in range(5)] for start in range(9)]
    every = in_order(walks)
    first = every.timestamp == every.timestamp.min()
    train, valid = every.take(np.flatnonzero(~first)), every.take(np.flatnonzero(first))
    assert not order_pays(dataset_of(train, valid), seed=1)


@pytest.mark.parametrize(
    ("long", "by_itself", "read"), [(6, True, "sequence"), (6, False, "recent"), (5, True, "recent")]
)
def test_long_histories_whose_order_tells_are_read_through_attention_by_a_process_that_trains_alone(
    monkeypatch: pytest.MonkeyPatch, long: int, by_itself: bool, read: str
) -> None:
    monkeypatch.setattr("amzrec.training.order.order_pays", lambda *_: True)
    monkeypatch.setattr("amzrec.commands.train.LONG", 5)
    rows = [(customer, product, 5.0) for customer in range(1, 13) for product in range(1, long + 1)]
    dataset = dataset_of(reviews_of(rows, [float(product) for _, product, _ in rows]))
    assert recipe_for(dataset, TrainConfig(), by_itself=by_itself).history == read
