"""The multitask model: each loss reaches what it should, both are means, the unknown customer is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amzrec.features.fitted import fit_reviews
from amzrec.model.keras2 import import_tensorflow, import_tfrs
from amzrec.model.multitask import MeanSquaredRating
from fits import batch_of, dataset_of, model_of, random_reviews, small

tf: Any = import_tensorflow()
tfrs: Any = import_tfrs()
PLAIN: dict[str, Any] = {
    "l2": 0.0,
    "l2_history": 0.0,
    "mask": 0.0,
    "history_dropout": 0.0,
    "own_vector": 1,
    "mask_positives": False,
}
PLAIN |= {"equal_customers": 0.0, "l2_rare": 0.0}
EVERY_CUSTOMER, EVERY_PRODUCT = np.arange(13, dtype=np.int32), np.arange(10, dtype=np.int32)


def gradients(model: Any, batch: dict[str, Any]) -> dict[str, np.ndarray | None]:
    """Dense gradient of the loss by the name of the variable, None where the loss does not reach it."""
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    found = tape.gradient(loss, model.trainable_variables)
    names = [variable.name.removesuffix(":0") for variable in model.trainable_variables]
    return {n: None if g is None else tf.convert_to_tensor(g).numpy() for n, g in zip(names, found, strict=True)}


def test_it_is_made_of_the_model_and_the_tasks_of_tfrs() -> None:
    _, model = small()
    assert isinstance(model, tfrs.models.Model)
    assert isinstance(model.rating.task, tfrs.tasks.Ranking)
    assert isinstance(model.retrieval.task, tfrs.tasks.Retrieval)


@pytest.mark.parametrize(("weights", "losses"), [((1, 1), 2), ((0, 1), 1), ((1, 0), 1)])
def test_keras_reports_the_loss_of_each_task_that_is_trained_as_the_mean_of_an_epoch(
    weights: tuple[float, float], losses: int
) -> None:
    fitted, model = small(rating_weight=weights[0], retrieval_weight=weights[1])
    batches = tf.data.Dataset.from_tensors(batch_of(fitted, model))
    first, second = (model.fit(batches, verbose=0).history for _ in range(2))
    names = {name for name in first if name in ("rating_loss", "retrieval_loss")}
    assert len(names) == losses
    for name in names:
        assert second[name][0] < first[name][0], "a mean over both epochs would hide what the second brought"


# --- what each loss reaches


@pytest.mark.parametrize("features", ["full", "ids"])
def test_each_task_alone_reaches_its_own_dimensions_and_weights_only(features: str) -> None:
    ends = {"rating": (0, 2), "retrieval": (4, 6)} if features == "full" else {"rating": (0, 0), "retrieval": (6, 6)}
    for task, other in (("rating", "retrieval"), ("retrieval", "rating")):
        fitted, model = small(features=features, **PLAIN | {f"{other}_weight": 0.0})
        # half of the reviews: with all in the batch, nothing would be left of a customer's history to learn from
        found = gradients(model, batch_of(fitted, model, slice(None, None, 2)))
        for name, gradient in found.items():
            if name.startswith(("query_", "candidate_")) and "offset" not in name:
                first, last = ends[task]
                assert gradient is not None
                assert not gradient[:, first:last].any(), f"{name} has dimensions that the {task} does not read"
                assert gradient.any(), name
            else:
                mine = "retrieval" if name in ("popularity", "log_temperature") else "rating"
                assert (gradient is not None and gradient.any()) == (mine == task), name


def test_the_joint_gradient_is_the_weighted_sum_of_both() -> None:
    found = []
    for rating, retrieval in ((1.0, 0.0), (0.0, 1.0), (2.0, 3.0)):
        fitted, model = small(**PLAIN, rating_weight=rating, retrieval_weight=retrieval, second_head=0)
        found.append(gradients(model, batch_of(fitted, model)))
    for name, joint in found[2].items():
        parts = [
            weight * np.asarray(part[name])
            for weight, part in zip((2, 3), found, strict=False)
            if part[name] is not None
        ]
        np.testing.assert_allclose(np.asarray(joint), sum(parts), atol=2e-5, err_msg=name)


def test_the_rating_loss_is_the_mean_squared_error_of_the_rated_rows() -> None:
    fitted, model = small(**PLAIN, retrieval_weight=0.0, second_head=0)
    batch = batch_of(fitted, model)
    stars = model.rating_head(model.encoder.encode(batch).pairs).numpy() + fitted.trend_without_self
    rated = fitted.rated > 0
    assert 0 < rated.sum() < len(fitted)
    known = np.mean((stars - fitted.value)[rated] ** 2)
    assert float(model.compute_loss(batch)) == pytest.approx(known, rel=1e-5)


def test_the_rating_task_equals_that_of_tfrs_and_so_does_its_gradient() -> None:
    rng = np.random.default_rng(2)
    value, predicted, rated = (tf.constant(rng.normal(size=9), tf.float32) for _ in range(3))
    rated = tf.cast(rated > -0.5, tf.float32)
    assert 0 < float(tf.reduce_sum(rated)) < 9
    original = tfrs.tasks.Ranking(loss=tf.keras.losses.MeanSquaredError())
    found = []
    for task, arguments in ((original, None), (MeanSquaredRating(), (value, predicted, rated))):
        with tf.GradientTape() as tape:
            tape.watch(predicted)
            if arguments:
                loss = task(*arguments)
            else:
                weight = rated / tf.reduce_mean(rated)
                loss = task(labels=value[:, None], predictions=predicted[:, None], sample_weight=weight)
        found.append((float(loss), tape.gradient(loss, predicted).numpy()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-5)


def test_a_batch_of_clicks_has_no_rating_loss() -> None:
    fitted, model = small(**PLAIN, retrieval_weight=0.0)
    batch = batch_of(fitted, model, np.flatnonzero(fitted.rated == 0))
    assert float(model.compute_loss(batch)) == 0
    assert not any(gradient is not None and gradient.any() for gradient in gradients(model, batch).values())


def scores_of(model: Any, fitted: Any, query: np.ndarray, review: Any) -> np.ndarray:
    """Scores of all candidates for a query vector at the time of a review, from the vectors as they are answered."""
    vectors = model.encoder.candidates(fitted.candidates).numpy()[:, : len(query)]
    b = model.retrieval.popularity.numpy()[fitted.candidates, 0]
    scores: np.ndarray = vectors @ query + b + fitted.popularity.log_share[fitted.period[review], fitted.candidates]
    return scores


@pytest.mark.parametrize("half_life", [None, 50.0])
def test_one_query_stands_for_all_reviews_of_a_customer_in_a_batch_and_knows_none_of_them(
    half_life: float | None,
) -> None:
    """Every third review as a batch: its queries are those of the same weights on the other reviews alone."""
    others = {"mask_positives": True, "equal_customers": 0.5}
    fitted, model = small(**PLAIN | others, rating_weight=0.0, half_life=half_life)
    for tower in (model.encoder.query_tower, model.encoder.candidate_tower):
        tower.residual.assign(tf.zeros_like(tower.residual))  # what they weigh depends on the biases of all reviews
    some = np.arange(0, len(fitted), 3)
    assert np.bincount(fitted.customer[some]).max() > 1
    left = random_reviews().take(np.setdiff1d(np.arange(len(fitted)), some))
    dataset = dataset_of(random_reviews())
    rest = model_of(model.recipe, fit_reviews(dataset, left, model.recipe), dataset)
    for mine, its in zip(rest.trainable_variables, model.trainable_variables, strict=True):
        mine.assign(its)
    dims, counts = model.recipe.retrieval_dims, np.bincount(left.customer, minlength=12)
    assert counts[fitted.customer[some]].min() > 0
    temperature = np.exp(float(model.retrieval.log_temperature))
    x = rest.encoder.queries(EVERY_CUSTOMER).numpy()[:, :dims] / temperature
    y = model.encoder.encode(batch_of(fitted, model, some)).positives.numpy()
    b, known = model.retrieval.popularity.numpy()[:, 0], []
    for place, i in enumerate(some):
        query = x[fitted.customer[i]]
        negatives = ~np.isin(fitted.candidates, fitted.product[fitted.customer == fitted.customer[i]])
        own = query @ y[place] + b[fitted.product[i]] + fitted.log_share_without_self[i]
        known.append(np.log(np.exp([own, *scores_of(model, fitted, query, i)[negatives]]).sum()) - own)
    mean = np.average(known, weights=np.bincount(fitted.customer)[fitted.customer[some]] ** -0.5)
    assert float(model.compute_loss(batch_of(fitted, model, some))) == pytest.approx(mean, rel=1e-5)


def test_the_towers_of_the_reference_lose_against_all_other_products_of_the_catalogue() -> None:
    fitted, model = small(**PLAIN, rating_weight=0.0, features="ids", negatives="full")
    x = model.encoder.queries(EVERY_CUSTOMER).numpy()
    known = []
    for i in range(len(fitted)):
        scores = scores_of(model, fitted, x[fitted.customer[i]], i)
        known.append(np.log(np.exp(scores).sum()) - scores[fitted.candidates == fitted.product[i]][0])
    assert float(model.compute_loss(batch_of(fitted, model))) == pytest.approx(np.mean(known), rel=1e-5)


def test_the_dot_loss_is_the_squared_error_against_the_stars_as_0_to_1() -> None:
    fitted, model = small(**PLAIN, rating_weight=0.0, features="ids", retrieval_loss="dot")
    x, y = model.encoder.queries(EVERY_CUSTOMER).numpy(), model.encoder.candidates(EVERY_PRODUCT).numpy()
    dot = np.sum(x[fitted.customer] * y[fitted.product], 1)
    rated = fitted.rated > 0
    known = np.mean((dot - (random_reviews().stars - 1) / 4)[rated] ** 2)
    assert float(model.compute_loss(batch_of(fitted, model))) == pytest.approx(known, rel=1e-5)


def test_an_untrained_model_ranks_as_popularity_at_the_time_of_the_query() -> None:
    fitted, model = small(30.0, noise=0)
    x, y = model.encoder.queries(EVERY_CUSTOMER).numpy(), model.encoder.candidates(EVERY_PRODUCT).numpy()
    dims = model.recipe.retrieval_dims
    towers = np.abs(x[fitted.customer, :dims] @ y[:, :dims].T).max() / np.exp(float(model.retrieval.log_temperature))
    assert towers < 0.5, "what the towers add is small at the start"
    assert not model.retrieval.popularity.numpy().any()
    loss = float(model.retrieval.loss(batch_of(fitted, model), model.encoder.encode(batch_of(fitted, model))))
    assert loss < np.log(len(fitted.candidates))


# --- one scale for both losses


@pytest.mark.parametrize(
    "settings",
    [
        {"features": "ids"},
        {"features": "ids", "negatives": "full"},
        {"retrieval_weight": 0.0},
        {"retrieval_weight": 0.0, "rating_loss": "listmle"},
    ],
)
def test_trap_2_twice_the_batch_does_not_double_either_loss(settings: dict[str, Any]) -> None:
    fitted, model = small(**PLAIN | settings)
    some, losses = np.arange(40), []
    for index in (some, np.concatenate([some, some])):
        for metric in model.loss_means:
            metric.reset_state()
        total = float(model.compute_loss(batch_of(fitted, model, index)))
        losses.append((total, *(float(metric.result()) for metric in model.loss_means)))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert min(losses[0]) > 0


def test_trap_2_the_loss_of_two_groups_of_customers_is_the_mean_of_their_losses() -> None:
    fitted, model = small(**PLAIN | {"mask_positives": True, "equal_customers": 0.5})
    counts = np.bincount(fitted.customer)
    groups = [np.flatnonzero(fitted.customer <= 5), np.flatnonzero(fitted.customer > 5)]
    losses = []
    for index in (*groups, np.concatenate(groups)):
        batch = batch_of(fitted, model, index)
        encoded = model.encoder.encode(batch)
        losses.append([float(task.loss(batch, encoded)) for task in (model.rating, model.retrieval)])
    weights = [[fitted.rated[index].sum(), (counts[fitted.customer[index]] ** -0.5).sum()] for index in groups]
    np.testing.assert_allclose(np.average(losses[:2], axis=0, weights=weights), losses[2], rtol=1e-5)


# --- the unknown customer


@pytest.mark.parametrize("features", ["full", "ids"])
def test_trap_10_the_unknown_customer_is_trained_where_known_ones_are_masked(features: str) -> None:
    for mask, moved in ((0.0, False), (0.5, True)):
        fitted, model = small(**{**PLAIN, "mask": mask, "features": features})
        assert (fitted.customers.vector_row[fitted.customer] > 0).all()
        row = gradients(model, batch_of(fitted, model))["query_embedding"]
        assert row is not None
        assert row[0].any() == moved


# --- bfloat16


@pytest.mark.parametrize("settings", [{}, {"negatives": "batch", "overlap": False}, {"features": "ids"}], ids=str)
def test_in_bfloat16_a_step_learns_nearly_the_same_and_all_weights_stay_float32(settings: dict[str, Any]) -> None:
    found = []
    for precision in ("float32", "bfloat16"):
        fitted, model = small(precision=precision, **settings)
        assert {variable.dtype for variable in model.trainable_variables} == {tf.float32}
        found.append(gradients(model, batch_of(fitted, model, plain=True)))
    exact, rounded = found
    assert exact.keys() == rounded.keys()
    for name, one in exact.items():
        other = rounded[name]
        if one is None or other is None:
            assert one is other, name
        else:
            assert np.abs(other - one).max() <= 0.05 * np.abs(one).max(), name
    assert any((one != rounded[name]).any() for name, one in exact.items() if one is not None), "nothing was rounded"
