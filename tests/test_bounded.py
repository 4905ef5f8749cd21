"""What a step costs depends on its reviews, not on the data: samples of long histories, a bounded draw of negatives."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest

from amzrec.arrays import Lists, offsets_of
from amzrec.errors import SILENT
from amzrec.features.candidates import InBatch
from amzrec.features.fitted import fit_reviews
from amzrec.features.leave_one_out import Windows, most_of_each
from amzrec.training.learner import Learner, tf
from amzrec.training.release import give_back_memory
from fits import batch_of, dataset_of, fitted_of, random_reviews, recipe_of, small, step_of
from test_leave_one_out import Tables, dense

LENGTHS = np.array([0, 1, 3, 40, 7, 25])
LISTS = Lists(offsets_of(LENGTHS), np.random.default_rng(0).integers(1, 1000, LENGTHS.sum()).astype(np.int32))
BUDGET = 22  # reviews of histories, of some 45
ROWS = np.array([3, 1, 0, 5, 2], np.int32)


@pytest.mark.parametrize(
    ("lengths", "budget", "most"),
    [([1, 2, 9], 9, 6), ([9, 2, 1], 9, 6), ([5, 5, 5], 14, 4), ([5, 5, 5], 1, 1), ([0, 0, 8, 100], 20, 12)],
)
def test_what_short_histories_leave_of_the_budget_goes_to_the_long_ones(
    lengths: list[int], budget: int, most: int
) -> None:
    assert most_of_each(np.array(lengths), budget) == most


@pytest.mark.parametrize("budget", [5, 20, 60])
def test_a_window_is_a_part_of_the_history_within_the_budget_and_every_review_knows_whether_it_is_in_it(
    budget: int,
) -> None:
    for seed in range(20):
        windows = Windows.of(LISTS, ROWS, budget, seed)
        owner, slot = windows.entries()
        assert len(slot) == len(np.unique(slot)) <= max(budget, len(ROWS))
        every = [(at, one) for at, row in enumerate(ROWS) for one in range(LISTS.offsets[row], LISTS.offsets[row + 1])]
        rows, slots = (np.array(column) for column in zip(*every, strict=True))
        weight = windows.weight_of(slots, rows)
        assert set(zip(owner, slot, strict=True)) == {each for each, w in zip(every, weight, strict=True) if w > 0}
        length, number = LENGTHS[ROWS], np.bincount(owner, minlength=len(ROWS))
        inside = weight > 0
        np.testing.assert_allclose(weight[inside], (length / np.maximum(number, 1))[rows[inside]], rtol=1e-6)


def test_over_many_steps_the_sampled_sums_are_the_whole_ones_and_each_entry_is_drawn_as_often_as_all_others() -> None:
    steps, found, times = 4000, np.zeros(len(ROWS)), np.zeros(len(LISTS.items))
    whole = [LISTS[row].sum() for row in ROWS]
    for seed in range(steps):
        windows = Windows.of(LISTS, ROWS, 24, seed)
        owner, slot = windows.entries()
        found += np.bincount(owner, LISTS.items[slot] * windows.weights()[owner], len(ROWS)) / steps
        times[slot] += 1 / steps
    np.testing.assert_allclose(found, whole, rtol=0.05)
    assert times[LISTS.offsets[3] : LISTS.offsets[4]] == pytest.approx(np.full(40, 10 / 40), abs=0.03)  # 4 deviations
    assert times[LISTS.offsets[1] : LISTS.offsets[2]] == pytest.approx(1.0), "a short history is read whole"


def test_without_a_seed_or_within_the_budget_every_history_is_read_whole() -> None:
    for windows in (Windows.of(LISTS, ROWS, 3, None), Windows.of(LISTS, ROWS, 69, 1), Windows.of(LISTS, ROWS, None, 1)):
        owner, slot = windows.entries()
        assert windows.whole
        assert np.bincount(owner, minlength=len(ROWS)).tolist() == LENGTHS[ROWS].tolist()
        assert LISTS.items[slot].tolist() == [item for row in ROWS for item in LISTS[row]]


def sampled(number: int, **settings: Any) -> tuple[Any, Any, Any]:
    """Fitted reviews, a recipe that reads 22 reviews of histories, and a step of every other review."""
    fitted, model = small(own_vector=1, mask=0.0, history_dropout=0.0, history_budget=BUDGET, **settings)
    some = np.arange(0, len(fitted), 2)
    return fitted, some, step_of(fitted, model.recipe, some, number)["towers"]


def test_a_review_is_left_out_of_its_own_vectors_where_histories_are_sampled_too() -> None:
    """What a review's partner says in the review's own history must not matter, in the window or not."""
    read = 0
    for number in range(6):
        fitted, some, towers = sampled(number)
        assert len(towers.customer_sums.sums.values) // 3 <= BUDGET < len(fitted)
        for place in range(0, len(some), 5):
            changed = Tables()
            product, customer = fitted.product[some[place]], fitted.customer[some[place]]
            for side, row in ((1, product), (0, customer)):
                changed.sides[side]["bag"][row] += 100.0
                changed.sides[side]["residual"][row] += 100.0
            before, after = Tables().batch(towers), changed.batch(towers)
            for name in ("reviewers", "reviewed"):
                np.testing.assert_allclose(after[name][place], before[name][place], atol=2e-4)
            read += int(np.abs(after["candidates"] - before["candidates"]).max() > 1)
    assert read, "the review was in some window, so that there was something to leave out"


@pytest.mark.long
def test_in_the_mean_over_steps_sampled_histories_teach_what_whole_ones_do() -> None:
    fitted = fitted_of(random_reviews())
    whole = None
    mean: Any = 0.0
    for number in range(400):
        _, _, towers = sampled(number)
        sums = dense(towers.product_sums.sums)
        table = np.zeros((sums.shape[0] // 2, 13))
        table[:, towers.product_sums.partners] = sums[: len(table), : len(towers.product_sums.partners)]
        mean = mean + table / 400
        whole = towers.products.rows
    counts = np.array([np.bincount(fitted.products.histories.partners[row], minlength=13) for row in whole])  # type: ignore[union-attr]
    np.testing.assert_allclose(mean, counts, atol=0.35)  # an entry of weight n / k ≤ 4: 4 deviations


def test_a_bounded_draw_compares_the_products_of_the_first_reviews_and_each_product_with_itself() -> None:
    fitted = fitted_of(random_reviews())
    product = np.array([3, 5, 3, 1, 5, 7], np.int32)
    found = InBatch(fitted, log_q=False, most=3).of(product)
    assert found.rows.tolist() == [3, 5, 0]
    assert found.target.tolist() == [0, 1, 0, 2, 1, 2]
    np.testing.assert_allclose(found.bias, [np.log(2), 0, -1e30], rtol=1e-6)
    assert found.own is not None
    assert found.own.rows.tolist() == [3, 5, 1, 7]
    np.testing.assert_allclose(found.own.bias, [np.log(2), 0, np.log(2), 0, 0, 0], rtol=1e-6)
    for most in (6, 100):
        found = InBatch(fitted, log_q=False, most=most).of(product)
        assert found.rows.tolist() == [3, 5, 1, 7, 0], "all are compared, and no query finds the last one"
        assert found.target.tolist() == [0, 1, 0, 2, 1, 3]
    assert InBatch(fitted, log_q=False).of(product).own is None


@pytest.mark.parametrize("features", ["full", "ids"])
@pytest.mark.parametrize("mask_positives", [True, False])
def test_the_loss_of_a_bounded_draw_is_that_of_each_review_against_the_products_that_were_drawn(
    features: str, mask_positives: bool
) -> None:
    settings: dict[str, Any] = {
        "negatives": "batch",
        "features": features,
        "mask_positives": mask_positives,
        "mask": 0.0,
    }
    fitted, model = small(**settings, compared=10, equal_customers=0.0, own_vector=1, history_dropout=0.0)
    batch = batch_of(fitted, model)
    encoded = model.encoder.encode(batch)
    asked, some = batch["retrieval"], np.arange(len(fitted))
    rows = np.asarray(asked.rows)[:-1]
    assert 2 < len(rows) < len(np.unique(fitted.product))
    b, learned = model.retrieval.popularity.numpy()[:, 0], features == "full"
    q = np.asarray(encoded.queries) / (np.exp(model.retrieval.log_temperature.numpy()) if learned else 1)
    vector = np.arange(len(some))
    if asked.shared:
        vector = np.asarray(asked.shared.vector_of_review.indices)[:, 1]
    prior, drawn, losses = fitted.popularity.log_share, fitted.product[:10], []
    share = np.log(np.maximum(fitted.products.counts, 0.5) / len(fitted))
    for review in some:
        mine, product = q[vector[review]], fitted.product[review]
        known = fitted.product[fitted.customer == fitted.customer[review]] if mask_positives else []
        in_step = fitted.product[fitted.customer == fitted.customer[review]] if asked.shared else [product]

        def score(row: int, y: Any, prior_of: float, mine: Any = mine) -> float:
            chosen = np.log(max((drawn == row).sum(), 1)) - share[row]
            return float(mine @ y + b[row] * learned + chosen + prior_of)

        positive = score(product, np.asarray(encoded.positives)[review], fitted.log_share_without_self[review])
        negatives = [
            score(row, y, prior[fitted.period[review], row])
            for row, y in zip(rows, np.asarray(encoded.candidates)[:-1], strict=True)
            if row != product and row not in known and row not in in_step
        ]
        losses.append(np.log1p(np.exp(negatives).sum() / np.exp(positive)))
    assert float(model.retrieval.loss(batch, encoded)) == pytest.approx(np.mean(losses), rel=2e-4)


@pytest.mark.long
@pytest.mark.parametrize("history", ["bag", "recent"])
def test_a_model_learns_with_both_bounds(history: str) -> None:
    settings: dict[str, Any] = {
        "negatives": "batch",
        "compared": 10,
        "history_budget": BUDGET,
        "history": history,
        "memory": False,
    }
    fitted, model = small(**settings)
    batch = batch_of(fitted, model)
    before = float(model.compute_loss(batch))
    for _ in range(30):
        model.train_step(batch)
    assert float(model.compute_loss(batch)) < before - 0.1


@pytest.mark.long
@pytest.mark.parametrize("history", ["bag", "recent"])
def test_an_epoch_reads_steps_in_which_not_all_reviews_are_compared(history: str) -> None:
    """What the input of a training is told of its steps holds for all of them, however many reviews one has."""
    dataset = dataset_of(random_reviews())
    recipe = recipe_of(dataset, negatives="batch", compared=10, batch_size=64, history=history)
    learner = Learner(recipe, fit_reviews(dataset, dataset.train, recipe), dataset)
    learner.prepare()
    assert learner.epoch_plan.batch_size > 10
    losses = learner.epoch(1, SILENT, "", None, "select")
    assert np.isfinite(list(losses.values())).all()


@pytest.mark.parametrize("large", [2, 100])
def test_a_step_moves_no_embedding_of_a_large_table_but_those_of_its_customers_and_the_unknown_one(
    large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amzrec.model.towers.LARGE", large)
    fitted, model = small(own_vector=1, noise=0)
    table = model.encoder.query_tower.embedding
    columns = step_of(fitted, model.recipe, [0, 1])
    with tf.GradientTape() as tape:
        loss = model.compute_loss(tf.nest.map_structure(tf.constant, columns))
    gradient = tape.gradient(loss, table)
    touched = {0, *fitted.customers.vector_row[fitted.customer[:2]].tolist()}
    if large < table.shape[0]:
        assert set(gradient.indices.numpy().tolist()) == touched
    else:
        assert gradient.shape == table.shape, "a slice has a dense gradient, zero but for those rows"
    moved = np.flatnonzero(tf.convert_to_tensor(gradient).numpy().any(axis=1))
    assert set(moved.tolist()) <= touched


def test_nothing_of_a_model_is_left_when_its_phase_is_over() -> None:
    dataset = dataset_of(random_reviews())
    recipe = recipe_of(dataset, batch_size=64)
    learner = Learner(recipe, fit_reviews(dataset, dataset.train, recipe), dataset)
    learner.prepare()
    learner.epoch(1, SILENT, "", None, "select")
    parts = (learner.model, learner.optimizer, learner.fitted, learner.fitted.customers)
    left = [weakref.ref(part) for part in (*parts, *learner.model.trainable_variables)]
    del parts
    learner.close()
    del learner
    give_back_memory()
    assert all(part() is None for part in left)


def test_vectors_are_the_same_however_many_are_computed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = dataset_of(random_reviews())
    recipe = recipe_of(dataset, own_vector=1)
    learner = Learner(recipe, fit_reviews(dataset, dataset.train, recipe), dataset)
    rows = np.arange(len(learner.fitted.products), dtype=np.int32)
    at_once, calls = learner.candidates(rows), list[int]()
    monkeypatch.setattr("amzrec.training.learner.READ", 12)
    monkeypatch.setattr("amzrec.training.learner.BLOCK", 3)
    compute = learner.model.encoder.candidates

    def counted(some: Any) -> Any:
        calls.append(len(some))
        return compute(some)

    monkeypatch.setattr(learner.model.encoder, "candidates", counted)
    np.testing.assert_array_equal(learner.candidates(rows), at_once)
    length = learner.fitted.products.histories.partners.lengths
    assert sum(calls) == len(rows)
    assert 1 < max(calls) <= 3
    assert len(calls) > length.sum() // (12 + length.max())
    assert learner.candidates(rows[:0]).shape == (0, recipe.width)
