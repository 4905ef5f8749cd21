"""Batches: the steps of an epoch, fresh order every time, lists of one customer, and the columns of a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amzrec.arrays import Lists
from amzrec.config import DataFacts, TrainConfig
from amzrec.features.batches import EpochPlan, cut_evenly, plan_epoch, shuffled_batches, shuffled_lists
from amzrec.features.fitted import FittedReviews
from amzrec.features.sparse import dropout_mask, entries_of, unique_ascending, unique_in_order
from fits import dataset_of, fitted_of, random_reviews, recipe_of, step_of


@pytest.mark.parametrize("rows", [1, 9, 10, 255, 300, 2559, 2560, 2561, 100_000])
@pytest.mark.parametrize("most", [1, 100, 8192])
def test_an_epoch_leaves_out_fewer_reviews_than_it_has_steps_and_none_is_longer_than_asked(
    rows: int, most: int
) -> None:
    size, steps = cut_evenly(rows, most)
    assert 1 <= size <= most
    assert 0 <= rows - size * steps < steps
    assert steps >= min(10, rows // 256)


@pytest.mark.parametrize(
    ("reviews", "most", "rate"),
    [(100, 8192, 0.005), (204_800, 8192, 0.005), (250_000, 10_000, 0.003), (1_000_000, 40_000, 0.003),
     (10_000_000, 65_536, 0.003)],
)  # fmt: skip
def test_steps_grow_with_the_data_unless_their_size_is_given(reviews: int, most: int, rate: float) -> None:
    facts = DataFacts(fitted=reviews, candidates=10, rated=True, dated=False, valid=True)
    recipe = TrainConfig().resolve(facts)
    assert (recipe.batch_size, recipe.learning_rate) == (most, rate)
    assert TrainConfig(batch_size=512).resolve(facts).batch_size == 512
    assert TrainConfig(batch_size=512).resolve(facts).learning_rate == 0.005
    assert TrainConfig(learning_rate=0.02).resolve(facts).learning_rate == 0.02
    assert TrainConfig(optimizer="adagrad").resolve(facts).learning_rate == 0.1


def test_every_review_comes_once_per_epoch() -> None:
    fitted = fitted_of(random_reviews())
    drawn = np.concatenate(list(shuffled_batches(fitted, EpochPlan(4, len(fitted) // 4, 1), [42, 0, 1])))
    assert len(set(drawn.tolist())) == len(drawn) == len(fitted) // 4 * 4
    assert set(drawn.tolist()) <= set(range(len(fitted)))


@pytest.mark.parametrize("size", [2, 3])
def test_lists_are_of_one_customer_each_and_the_same_review_never_comes_twice(size: int) -> None:
    fitted = fitted_of(random_reviews())
    lists = shuffled_lists(fitted, np.random.default_rng(1), size).reshape(-1, size)
    of = fitted.customer[lists]
    assert (of == of[:, :1]).all()
    assert (fitted.rated[lists] > 0).all()
    assert len(np.unique(lists)) == lists.size
    counts = np.bincount(fitted.customer[fitted.rated > 0])
    assert (np.bincount(of[:, 0], minlength=len(counts)) == counts // size).all()


def test_a_batch_of_lists_holds_whole_lists_and_there_may_be_none() -> None:
    dataset = dataset_of(random_reviews())
    recipe = recipe_of(dataset, rating_loss="listmle", list_size=3, batch_size=8)
    fitted = fitted_of(random_reviews())
    assert plan_epoch(fitted, recipe).batch_size == 6
    assert plan_epoch(fitted, recipe.replace(list_size=40)).batch_size == 0


def test_trap_6_every_epoch_has_other_batches_and_the_same_seed_the_same() -> None:
    fitted = fitted_of(random_reviews())

    def epoch(*seed: int) -> list[set[tuple[int, int]]]:
        """The reviews of each batch, whose products are each other's negatives."""
        drawn = shuffled_batches(fitted, EpochPlan(8, len(fitted) // 8, 1), list(seed))
        return [set(zip(fitted.customer[b].tolist(), fitted.product[b].tolist(), strict=True)) for b in drawn]

    assert epoch(42, 0, 1) == epoch(42, 0, 1)
    for other in (epoch(42, 0, 2), epoch(42, 1, 1), epoch(43, 0, 1)):
        assert not any(batch in other for batch in epoch(42, 0, 1))


# --- sparse sums


def test_distinct_values_come_as_they_are_first_seen_or_in_order() -> None:
    values, which = unique_in_order(np.array([7, 3, 7, 9, 3]))
    assert (values.tolist(), which.tolist()) == ([7, 3, 9], [0, 1, 0, 2, 1])
    for rows in ([4, 1, 4, 2], [4_000_000, 1, 4_000_000, 2], []):
        values, which = unique_ascending(np.array(rows, np.int32))
        assert values.tolist() == sorted(set(rows))
        assert values[which].tolist() == rows


def test_the_items_of_lists_are_told_with_their_owner_and_their_slot() -> None:
    lists = Lists(np.array([0, 2, 2, 5]), np.array([10, 11, 12, 13, 14]))
    owner, slot = entries_of(lists, np.array([2, 1, 0, 2]))
    assert owner.tolist() == [0, 0, 0, 2, 2, 3, 3, 3]
    assert slot.tolist() == [2, 3, 4, 0, 1, 2, 3, 4]


def test_the_share_of_the_history_that_is_dropped_is_the_one_asked_for_and_other_ones_each_step() -> None:
    slots = np.arange(20_000)
    steps = [dropout_mask(slots, seed, 0.3) for seed in (84, 86, 84)]
    for step in steps:
        assert step.mean() == pytest.approx(0.7, abs=0.01)  # three standard deviations
    assert steps[0].tolist() == steps[2].tolist()
    assert (steps[0] == steps[1]).mean() == pytest.approx(0.7**2 + 0.3**2, abs=0.011)
    assert dropout_mask(slots[::-1], 84, 0.3).tolist() == steps[0][::-1].tolist()
    assert dropout_mask(slots, 2**70, 0.3).mean() == pytest.approx(0.7, abs=0.01), "any seed will do"


def test_a_review_outside_the_history_is_never_kept() -> None:
    assert dropout_mask(np.array([-1, 0]), None, 0.5).tolist() == [0, 1]
    assert dropout_mask(np.array([-1, -1]), 3, 0.1).tolist() == [0, 0]


# --- the columns of the retrieval loss


def questions(fitted: FittedReviews, **settings: object) -> dict[str, Any]:
    """The retrieval columns of all reviews, as a dict."""
    recipe = recipe_of(dataset_of(random_reviews()), own_vector=1, **settings)
    columns = step_of(fitted, recipe)["retrieval"]
    return columns._asdict() | columns.shared._asdict()  # type: ignore[no-any-return]


def test_a_customer_asks_once_for_each_period_in_which_it_reviewed() -> None:
    reviews = random_reviews()
    fitted = fitted_of(reviews).with_popularity(reviews, 50.0)
    asked = questions(fitted)
    known = {(int(c), int(p)) for c, p in zip(fitted.customer, fitted.period, strict=True)}
    assert len(asked["vector_of_query"]) == len(known) > len(set(fitted.customer.tolist()))
    order, splits = asked["order"], asked["positives"].splits
    for query in range(len(asked["vector_of_query"])):
        mine = order[splits[query] : splits[query + 1]]
        assert len(set(zip(fitted.customer[mine].tolist(), fitted.period[mine].tolist(), strict=True))) == 1
    assert sorted(order.tolist()) == list(range(len(fitted)))


@pytest.mark.parametrize("negatives", ["full", "batch"])
def test_what_a_customer_reviewed_is_hidden_from_its_negatives(negatives: str) -> None:
    fitted = fitted_of(random_reviews())
    asked = questions(fitted, negatives=negatives)
    customers = np.unique(fitted.customer, return_index=True)[0]
    for query, customer in enumerate(dict.fromkeys(fitted.customer.tolist())):
        hidden = asked["hidden"].candidate[asked["hidden"].splits[query] : asked["hidden"].splits[query + 1]]
        assert sorted(asked["rows"][hidden]) == sorted(fitted.product[fitted.customer == customer])
    assert len(customers) == len(asked["vector_of_query"])
    assert questions(fitted, mask_positives=False)["hidden"] == ()


def test_in_batch_candidates_are_corrected_for_being_drawn_and_a_whole_catalogue_is_not() -> None:
    fitted = fitted_of(random_reviews())
    asked = questions(fitted, negatives="batch")
    counts = np.bincount(fitted.product)[asked["rows"]]
    # all reviews are the batch: log(times) − log(times / n) is log n for each candidate
    np.testing.assert_allclose(asked["bias"], np.log(len(fitted)), rtol=1e-6)
    np.testing.assert_allclose(questions(fitted, negatives="batch", log_q=False)["bias"], np.log(counts), rtol=1e-6)
    assert not questions(fitted, negatives="full")["bias"].any()
