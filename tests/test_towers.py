"""Vectors from ids, histories and attributes: the documented formula, and nothing of the target in its own example."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amzrec.config import TrainConfig
from amzrec.features.batches import Fit, fit_rows, held_out
from amzrec.model.keras2 import import_tensorflow
from amzrec.model.sparse import combined, owners, taken, weighted_sum
from amzrec.model.towers import kept
from amzrec.store.dataset import Reviews
from fits import batch_of, dataset_of, model_of, reviews_of, small

tf: Any = import_tensorflow()


def slow_vectors(fit: Fit, model: Any, side: str) -> np.ndarray:
    """The documented formula, one row and one review at a time, from the reviews themselves."""
    tower, other = model.query_tower, model.candidate_tower
    mine, partners, own_rows, partner_rows = fit.customers, fit.products, fit.customer, fit.product
    if side == "candidate":
        tower, other, mine, partners = other, tower, partners, mine
        own_rows, partner_rows = partner_rows, own_rows
    tables = {name: getattr(tower, name).numpy() for name in ("embedding", "attribute")}
    bag, by_residual = other.bag.numpy(), other.residual.numpy()

    def bias(rows: np.ndarray, row: int, shrink: float) -> float:
        rated = (rows == row) & (fit.rated > 0)
        return float(fit.value[rated].sum() / (rated.sum() + shrink))

    out = []
    for row in range(len(mine.counts)):
        reviews = np.flatnonzero(own_rows == row)
        vector = tables["embedding"][row if len(reviews) >= model.config.own_vector else 0].copy()
        history = np.zeros_like(vector)
        for review in reviews:
            partner = partner_rows[review]
            history += bag[partner]
            if fit.rated[review]:
                rest = fit.value[review] - bias(partner_rows, partner, partners.shrink)
                history += (rest - bias(own_rows, row, mine.shrink)) * by_residual[partner]
        words = mine.attributes.items[mine.attributes.offsets[row] : mine.attributes.offsets[row + 1]]
        vector += history / np.sqrt(len(reviews) + 1)
        vector += tables["attribute"][words].sum(0) / np.sqrt(len(words) + 1)
        out.append(vector)
    return np.array(out)


@pytest.mark.parametrize("side", ["query", "candidate"])
def test_vectors_are_those_of_the_documented_formula(side: str) -> None:
    fit, model = small()
    known = slow_vectors(fit, model, side)
    found = model.call_tower(tf.range(len(known)), side)
    np.testing.assert_allclose(found, known, atol=1e-5)
    back = np.array([3, 0, 7, 3, 9])  # any order, repeats, and rows without a history or without attributes
    np.testing.assert_allclose(model.call_tower(tf.constant(back), side), known[back], atol=1e-5)


def test_what_features_and_words_add_to_the_stars_and_its_ridge_worked_by_hand() -> None:
    fit, model = small(l2_rare=12.0)
    tower, lists = model.candidate_tower, fit.products.attributes
    worth = np.arange(1.0, fit.products.n_attributes + 1, dtype=np.float32)
    tower.attribute_offset.assign(worth[:, None])
    tower.offset.assign(np.full((10, 1), 0.5, np.float32))
    words = [lists.items[lists.offsets[row] : lists.offsets[row + 1]] for row in range(10)]
    rows = [3, 0, 8, 3]
    known = [0.5 + worth[words[row]].sum() / np.sqrt(len(words[row]) + 1) for row in rows]
    np.testing.assert_allclose(tower.offsets(tf.constant(rows)), known, rtol=1e-6)
    assert len({len(words[row]) for row in rows}) > 1
    reviews = [sum(fit.products.counts[row] for row in range(10) if a in words[row]) for a in range(len(worth))]
    ridge = sum(12.0 * worth[a] ** 2 / reviews[a] for row in rows for a in words[row]) / 4
    assert float(tower.offset_penalty(tf.constant(rows))) == pytest.approx(ridge, rel=1e-5)


@pytest.mark.parametrize("lengths", [[2, 0, 3], [0, 0], [], [0, 1, 0, 0], [5]])
def test_owners_are_those_of_numpy_repeat(lengths: list[int]) -> None:
    found = owners(tf.constant(lengths, tf.int64))
    np.testing.assert_array_equal(found, np.repeat(np.arange(len(lengths)), lengths))


def test_row_0_the_unknown_one_is_its_embedding_alone() -> None:
    fit, model = small()
    for side, tower in (("query", model.query_tower), ("candidate", model.candidate_tower)):
        np.testing.assert_array_equal(model.call_tower(tf.constant([0]), side)[0], tower.embedding[0])
        assert float(tower.bias(tf.constant([0]))[0]) == 0
    assert len(fit)


def test_rows_with_few_reviews_share_the_vector_of_the_unknown_one_and_the_rest_is_their_history() -> None:
    fit, model = small(own_vector=4)
    tower, few = model.query_tower, np.flatnonzero(fit.customers.counts < 4)
    many = np.flatnonzero(fit.customers.counts >= 4)
    assert len(few) > 2
    assert len(many) > 2
    base = tower.base(tf.range(13)).numpy() - tower.words(tf.range(13)).numpy()
    np.testing.assert_allclose(base[few], np.repeat(tower.embedding.numpy()[:1], len(few), 0), atol=1e-6)
    np.testing.assert_allclose(base[many], tower.embedding.numpy()[many], atol=1e-6)
    tower.attribute_offset.assign(tf.zeros_like(tower.attribute_offset))
    np.testing.assert_allclose(tower.offsets(tf.constant(few)), np.repeat(tower.offset.numpy()[0], len(few)))


@pytest.mark.parametrize("features", ["full", "ids"])
def test_ids_as_strings_give_the_vectors_of_their_rows(features: str) -> None:
    _, model = small(features=features)
    rows = {"customer": tf.constant([3, 12, 0, 1, 0]), "product": tf.constant([9, 1, 0, 4, 0])}
    names = {"customer": ["c3", "c12", "", "c1", "a stranger"], "product": ["p9", "p1", "", "p4", "[UNK]"]}
    asked = {name: tf.constant(column) for name, column in names.items()}
    for by_row, by_name in zip(model(rows), model(asked), strict=True):
        np.testing.assert_allclose(by_name, by_row, atol=1e-6)


def test_with_features_ids_a_vector_is_the_embedding_alone() -> None:
    fit, model = small(features="ids")
    table = model.candidate_tower.embedding.numpy()
    known = table[np.where(fit.products.counts > 0, np.arange(10), 0)]
    np.testing.assert_array_equal(model.call_tower(tf.range(10), "candidate"), known)


# --- the target review


def parity_reviews() -> Reviews:
    """Odd customers review odd products, even ones even products: two worlds that share nothing but the mean."""
    rng = np.random.default_rng(7)
    pairs = [(c, p) for c in range(1, 12) for p in range(1, 9) if (c + p) % 2 == 0 and rng.random() < 0.8]
    return reviews_of([(c, p, float(rng.integers(1, 6))) for c, p in pairs])


def fitted(reviews: Reviews, dropout: float) -> tuple[Fit, Any]:
    """Fitted rows and a model whose weights do not depend on the reviews."""
    config = TrainConfig(dim=6, head=(4,), own_vector=1, history_dropout=dropout, mask=0, batch_size=64)
    dataset = dataset_of(reviews)
    fit = fit_rows(dataset, reviews, config)
    return fit, model_of(config, fit, dataset)


def as_example(fit: Fit, model: Any, target: int, training: bool) -> list[Any]:
    """Everything that the model uses of the review at this position when it is an example: x, y, biases, stars."""
    batch = batch_of(fit)
    seen = model.forward(batch, training)
    stars = model.rate(batch["customer"], batch["product"], seen, batch["own_trend"])
    return [part[target] for part in (*seen[:4], stars, batch["own_prior"])]


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("target", [0, 7])
def test_a_planted_target_does_not_change_its_own_example(target: int, dropout: float) -> None:
    reviews = parity_reviews()
    stars = reviews.stars.copy()
    stars[target] += 4.0
    other_world = np.flatnonzero(reviews.customer % 2 != reviews.customer[target] % 2)
    stars[other_world[0]] -= 4.0  # so that the mean stays
    plants = Reviews(reviews.customer, reviews.product, stars, reviews.timestamp)
    (fit, model), (planted, other) = fitted(reviews, dropout), fitted(plants, dropout)
    for training in (False, True):
        before, after = as_example(fit, model, target, training), as_example(planted, other, target, training)
        for old, new in zip(before, after, strict=True):
            np.testing.assert_allclose(new, old, atol=1e-5)
    for side, row in (("query", reviews.customer[target]), ("candidate", reviews.product[target])):
        whole = [m.call_tower(tf.constant([row]), side) for m in (model, other)]
        assert np.abs(whole[0] - whole[1]).max() > 1e-2, "with full histories it must change"


@pytest.mark.parametrize("target", [0, 7, 15])
def test_an_example_is_what_a_model_that_never_saw_the_review_knows(target: int) -> None:
    reviews = parity_reviews()
    fit, model = fitted(reviews, 0.0)
    seen = as_example(fit, model, target, training=False)
    customer, product = reviews.customer.copy(), reviews.product.copy()
    asked = tf.constant(customer[target : target + 1]), tf.constant(product[target : target + 1])
    # the review goes to a new pair of the other world, so that mean and number stay
    customer[target], product[target] = 12, 9 if customer[target] % 2 == 0 else 8
    without, other = fitted(Reviews(customer, product, reviews.stars, reviews.timestamp), 0.0)
    towers = other.query_tower, other.candidate_tower
    vectors = [other.call_tower(row, side)[0] for row, side in zip(asked, ("query", "candidate"), strict=True)]
    biases = [tower.bias(row)[0] for tower, row in zip(towers, asked, strict=True)]
    popular = without.prior.table[0, int(asked[1][0])]
    for old, new in zip((*seen[:4], seen[5]), (*vectors, *biases, popular), strict=True):
        np.testing.assert_allclose(old, new, atol=1e-5)


def test_reviews_that_are_held_out_are_judged_with_full_histories_and_biases() -> None:
    fit, model = small()
    asked = reviews_of([(3, 2, 4.0), (1, 9, 1.0), (12, 1, 5.0)])
    batch = {name: tf.constant(column) for name, column in held_out(fit, asked).items()}
    seen = model.forward(batch, training=False)
    np.testing.assert_allclose(seen.x, model.call_tower(batch["customer"], "query"), atol=1e-6)
    np.testing.assert_allclose(seen.y, model.call_tower(batch["product"], "candidate"), atol=1e-6)
    np.testing.assert_allclose(seen.query_bias, model.query_tower.bias(batch["customer"]), atol=1e-6)
    np.testing.assert_allclose(tf.gather(seen.rows, seen.place), asked.product)


def test_a_review_that_the_cap_left_out_of_the_history_is_not_subtracted_from_it() -> None:
    fit, model = small(history_cap=1, history_dropout=0)
    seen = model.forward(batch_of(fit), training=False)
    whole = model.call_tower(tf.constant(fit.customer), "query").numpy()
    capped = fit.customer_edge < 0
    assert capped.sum() > 10
    bias = model.query_tower.bias(tf.constant(fit.customer)).numpy() - seen.query_bias.numpy()
    assert (np.abs(bias[capped & (fit.rated > 0) & (fit.value != 0)]) > 0).all(), "the bias is of all reviews"
    # what is left differs from the whole only by the own bias, which the residual of the one listed review is taken by
    clicks = capped & (fit.rated == 0)
    np.testing.assert_allclose(seen.x.numpy()[clicks], whole[clicks], atol=1e-5)


# --- dropped histories


def test_the_share_of_the_history_that_is_dropped_is_the_one_asked_for_and_other_ones_each_step() -> None:
    edges = tf.range(20_000, dtype=tf.int64)
    steps = [kept(edges, tf.constant(seed, tf.int64), 0.3).numpy() for seed in (84, 86, 84)]
    for step in steps:
        assert step.mean() == pytest.approx(0.7, abs=0.01)  # three standard deviations
    np.testing.assert_array_equal(steps[0], steps[2])
    assert (steps[0] == steps[1]).mean() == pytest.approx(0.7**2 + 0.3**2, abs=0.011)
    back = tf.reverse(edges, [0])
    np.testing.assert_array_equal(kept(back, tf.constant(84, tf.int64), 0.3), steps[0][::-1])


def test_a_review_outside_the_history_is_never_kept() -> None:
    assert kept(tf.constant([-2, -1, 0], tf.int64), None, 0.5).numpy().tolist() == [0, 0, 1]
    assert kept(tf.constant([-2, -1], tf.int64), tf.constant(3, tf.int64), 0.1).numpy().tolist() == [0, 0]


def test_a_sum_over_histories_and_its_gradient_equal_the_dense_product() -> None:
    rng = np.random.default_rng(4)
    segment, column = tf.constant([0, 0, 2, 2, 2, 5], tf.int64), tf.constant([3, 1, 0, 3, 3, 2])
    weight, table = rng.normal(size=6).astype(np.float32), tf.constant(rng.normal(size=(4, 3)), tf.float32)
    dense = np.zeros((6, 4), np.float32)
    np.add.at(dense, (segment.numpy(), column.numpy()), weight)
    upstream = tf.constant(rng.normal(size=(6, 3)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(table)
        found = weighted_sum(segment, column, tf.constant(weight), table, 6)
    np.testing.assert_allclose(found, dense @ table.numpy(), atol=1e-6)
    gradient = tape.gradient(found, table, output_gradients=upstream)
    np.testing.assert_allclose(gradient, dense.T @ upstream.numpy(), atol=1e-6)


def in_turns(**settings: Any) -> tuple[Fit, Any]:
    """A model that reads the last products in order, on reviews of known days."""
    rows = [(1, 5, 4.0), (2, 3, 2.0), (1, 2, 5.0), (1, 7, 1.0), (2, 5, 3.0), (1, 6, 3.0)]
    reviews = reviews_of(rows, [9, 1, 3, 3, 4, 1])
    config = TrainConfig(dim=6, head=(4,), own_vector=1, history="sequence", **settings)
    dataset = dataset_of(reviews)
    fit = fit_rows(dataset, reviews, config)
    return fit, model_of(config, fit, dataset)


def test_rows_taken_and_combined_and_their_gradients_worked_by_hand() -> None:
    table = tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(table)
        rows = taken(table, tf.constant([2, 0, 2], tf.int32))
        sums = combined(tf.constant([[0, 2], [1, 1]], tf.int64), tf.constant([[1.0, -2.0], [0.5, 3.0]]), table)
        first, second = tf.reduce_sum(rows * [[1.0], [2.0], [4.0]]), sums[1, 0]
    assert rows.numpy().tolist() == [[5.0, 6.0], [1.0, 2.0], [5.0, 6.0]]
    assert tape.gradient(first, table).numpy().tolist() == [[2.0, 2.0], [0.0, 0.0], [5.0, 5.0]]
    assert sums.numpy().tolist() == [[-9.0, -10.0], [10.5, 14.0]]
    assert tape.gradient(second, table).numpy().tolist() == [[0.0, 0.0], [3.5, 0.0], [0.0, 0.0]]


def test_products_stand_in_the_order_of_time_and_equal_times_by_row() -> None:
    fit, _ = in_turns()
    lists, entries = fit.sequence.offsets, fit.sequence.items
    assert entries[lists[1] : lists[2]].tolist() == [6, 2, 7, 5]
    assert entries[lists[2] : lists[3]].tolist() == [3, 5]
    assert [int(entries[turn]) for turn in fit.turn] == [5, 3, 2, 7, 5, 6]


def test_the_sequence_is_a_gru_over_the_products_before_the_review_and_nothing_without_any() -> None:
    fit, model = in_turns()
    recent, table = model.query_tower.recent, model.candidate_tower.bag
    found = recent(tf.constant(fit.customer), table, tf.constant(fit.turn)).numpy()
    before = [[6, 2, 7], [], [6], [6, 2], [3], []]  # of each review, in order
    for row, products in enumerate(before):
        state = tf.zeros([1, 6])
        for product in products:
            state, _ = recent.gru.cell(table[None, product], [state])
        known = (state @ recent.out.kernel)[0] if products else np.zeros(6)
        np.testing.assert_allclose(found[row], known, atol=1e-5)
    everything = recent(tf.constant([1, 2, 3]), table).numpy()
    assert np.abs(everything[:2]).min() > 0
    assert not everything[2].any()  # never reviewed anything


def test_only_the_last_products_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from amzrec.model.towers import Recent

    monkeypatch.setattr(Recent, "LAST", 2)
    _, model = in_turns()
    recent = model.query_tower.recent
    table = tf.Variable(model.candidate_tower.bag)
    known = recent(tf.constant([1]), table).numpy()
    table.scatter_nd_update([[6], [2]], tf.ones([2, 6]))  # the first two of four
    np.testing.assert_array_equal(recent(tf.constant([1]), table), known)
    table.scatter_nd_update([[7]], tf.ones([1, 6]))
    assert np.abs(recent(tf.constant([1]), table).numpy() - known).max() > 1e-3


def test_no_later_review_and_not_the_target_are_read_in_an_example() -> None:
    fit, model = in_turns()
    batch = batch_of(fit, [3])  # customer 1, product 7, after 6 and 2, before 5
    known = model.forward(batch, training=False).x.numpy()
    table = model.query_tower.recent.sequence
    later = np.array(table.items)
    later[int(fit.turn[3]) :] = 8
    table.items = tf.constant(later)
    np.testing.assert_array_equal(model.forward(batch, training=False).x, known)
    later[int(fit.turn[3]) - 1] = 8
    table.items = tf.constant(later)
    assert np.abs(model.forward(batch, training=False).x.numpy() - known).max() > 1e-3


def test_a_held_out_review_is_judged_after_all_fitted_products() -> None:
    fit, model = in_turns()
    batch = {name: tf.constant(column) for name, column in held_out(fit, reviews_of([(1, 8, 4.0)], [2])).items()}
    x = model.forward(batch, training=False).x.numpy()
    np.testing.assert_allclose(x, model.call_tower(tf.constant([1]), "query"), atol=1e-5)
