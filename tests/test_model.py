"""The multitask model: each loss reaches what it should, both are means, TFRS's metric over unique candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amzrec.answers.ranks import rank
from amzrec.arrays import Lists
from amzrec.features.batches import fit_rows, held_out
from amzrec.model.keras2 import import_tensorflow, import_tfrs
from fits import batch_of, dataset_of, model_of, random_reviews, reviews_of, small

tf: Any = import_tensorflow()
tfrs: Any = import_tfrs()
PLAIN = {"l2": 0.0, "l2_history": 0.0, "mask": 0.0, "history_dropout": 0.0, "own_vector": 1, "mask_positives": False}
PLAIN |= {"equal_customers": 0.0, "l2_rare": 0.0}


def gradients(model: Any, batch: dict[str, Any], training: bool = True) -> dict[str, np.ndarray | None]:
    """Dense gradient of the loss by the name of the variable, None where the loss does not reach it."""
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=training)
    found = tape.gradient(loss, model.trainable_variables)
    names = [variable.name.removesuffix(":0") for variable in model.trainable_variables]
    return {n: None if g is None else tf.convert_to_tensor(g).numpy() for n, g in zip(names, found, strict=True)}


def test_it_is_made_of_the_model_and_the_tasks_of_tfrs() -> None:
    _, model = small()
    assert isinstance(model, tfrs.models.Model)
    assert isinstance(model.rating_task, tfrs.tasks.Ranking)
    assert isinstance(model.retrieval_task, tfrs.tasks.Retrieval)


# --- what each loss reaches


@pytest.mark.parametrize("features", ["full", "ids"])
def test_each_task_alone_reaches_its_own_dimensions_and_weights_only(features: str) -> None:
    ends = {"rating": (0, 2), "retrieval": (4, 6)} if features == "full" else {"rating": (0, 0), "retrieval": (6, 6)}
    for task, other in (("rating", "retrieval"), ("retrieval", "rating")):
        fit, model = small(features=features, **PLAIN | {f"{other}_weight": 0.0})
        # half of the reviews: with all in the batch, nothing would be left of a customer's history to learn from
        found = gradients(model, batch_of(fit, slice(None, None, 2)))
        for name, gradient in found.items():
            if name.startswith(("query_", "candidate_")) and "offset" not in name:
                first, last = ends[task]
                assert gradient is not None
                assert not gradient[:, first:last].any(), f"{name} has dimensions that the {task} does not read"
                assert gradient.any(), name
            else:
                mine = "retrieval" if name in ("popularity", "log_temperature") else "rating"
                used = mine == task and (features == "full" or ("scale" not in name and "dot" not in name))
                assert (gradient is not None and gradient.any()) == used, name


def test_the_joint_gradient_is_the_weighted_sum_of_both() -> None:
    found = []
    for rating, retrieval in ((1.0, 0.0), (0.0, 1.0), (2.0, 3.0)):
        fit, model = small(**PLAIN, rating_weight=rating, retrieval_weight=retrieval)
        found.append(gradients(model, batch_of(fit)))
    for name, joint in found[2].items():
        parts = [weight * part[name] for weight, part in zip((2, 3), found, strict=False) if part[name] is not None]
        np.testing.assert_allclose(joint, sum(parts), atol=2e-5, err_msg=name)


def test_the_rating_loss_is_the_mean_squared_error_of_the_rated_rows() -> None:
    fit, model = small(**PLAIN, retrieval_weight=0.0)
    batch = batch_of(fit)
    seen = model.forward(batch, False)
    stars = model.rate(batch["customer"], batch["product"], seen, batch["own_trend"]).numpy()
    rated = fit.rated > 0
    assert 0 < rated.sum() < len(fit)
    known = np.mean((stars - fit.value)[rated] ** 2)
    assert float(model.compute_loss(batch)) == pytest.approx(known, rel=1e-5)


def test_a_batch_of_clicks_has_no_rating_loss() -> None:
    fit, model = small(**PLAIN, retrieval_weight=0.0)
    batch = batch_of(fit, np.flatnonzero(fit.rated == 0))
    assert float(model.compute_loss(batch)) == 0
    assert not any(gradient is not None and gradient.any() for gradient in gradients(model, batch).values())


def test_the_retrieval_loss_is_the_cross_entropy_over_the_catalogue() -> None:
    fit, model = small(**PLAIN, rating_weight=0.0, half_life=50.0)
    batch = batch_of(fit)
    assert len(fit.prior.table) > 2
    seen, dims = model.forward(batch, False), model.config.retrieval_dims
    vectors = model.call_tower(tf.constant(fit.candidates), "candidate").numpy()[:, :dims]
    query = seen.x.numpy()[:, :dims] / np.exp(float(model.log_temperature))
    b, known = model.popularity.numpy()[:, 0], []
    for i in range(len(fit)):
        scores = vectors @ query[i] + b[fit.candidates] + fit.prior.table[fit.period[i], fit.candidates]
        own = query[i] @ seen.y.numpy()[i, :dims] + b[fit.product[i]] + fit.own_prior[i]
        scores[fit.candidates == fit.product[i]] = own
        known.append(np.log(np.exp(scores).sum()) - own)
    assert float(model.compute_loss(batch)) == pytest.approx(np.mean(known), rel=1e-5)


@pytest.mark.parametrize("half_life", [None, 50.0])
def test_one_query_stands_for_all_reviews_of_a_customer_in_a_batch_and_knows_none_of_them(
    half_life: float | None,
) -> None:
    """Every third review as a batch: its queries are those of the same weights on the other reviews alone."""
    others = {"mask_positives": True, "equal_customers": 0.5}
    fit, model = small(**PLAIN | others, rating_weight=0.0, half_life=half_life)
    for tower in (model.query_tower, model.candidate_tower):
        tower.residual.assign(tf.zeros_like(tower.residual))  # what they weigh depends on the biases of all reviews
    some = np.arange(0, len(fit), 3)
    assert np.bincount(fit.customer[some]).max() > 1
    left = random_reviews().take(np.setdiff1d(np.arange(len(fit)), some))
    rest = model_of(model.config, fit_rows(dataset_of(random_reviews()), left, model.config), dataset_of(left))
    for mine, its in zip(rest.trainable_variables, model.trainable_variables, strict=True):
        mine.assign(its)
    dims, counts = model.config.retrieval_dims, np.bincount(left.customer, minlength=12)
    rest.query_tower.own = model.query_tower.own
    x = rest.call_tower(tf.constant(np.arange(12)), "query").numpy()[:, :dims] / np.exp(float(model.log_temperature))
    assert counts[fit.customer[some]].min() > 0
    y = model.forward(batch_of(fit, some), False).y.numpy()[:, :dims]
    vectors, b, known = model.call_tower(tf.constant(fit.candidates), "candidate").numpy()[:, :dims], 0, []
    b = model.popularity.numpy()[:, 0]
    for place, i in enumerate(some):
        query = x[fit.customer[i]]
        scores = vectors @ query + b[fit.candidates] + fit.prior.table[fit.period[i], fit.candidates]
        negatives = ~np.isin(fit.candidates, fit.product[fit.customer == fit.customer[i]])
        own = query @ y[place] + b[fit.product[i]] + fit.own_prior[i]
        known.append(np.log(np.exp([own, *scores[negatives]]).sum()) - own)
    mean = np.average(known, weights=np.bincount(fit.customer)[fit.customer[some]] ** -0.5)
    assert float(model.compute_loss(batch_of(fit, some), training=True)) == pytest.approx(mean, rel=1e-5)


# --- one scale for both losses


@pytest.mark.parametrize("settings", [{}, {"negatives": "batch"}, {"features": "ids"}, {"rating_loss": "listmle"}])
def test_trap_2_twice_the_batch_does_not_double_either_loss(settings: dict[str, Any]) -> None:
    fit, model = small(**PLAIN | {"l2": 0.1} | settings)
    some = np.arange(40) if "rating_loss" in settings else np.arange(len(fit))
    losses = []
    for index in (some, np.concatenate([some, some])):
        for metric in (model.rating_loss, model.retrieval_loss):
            metric.reset_state()
        total = float(model.compute_loss(batch_of(fit, index)))
        losses.append((total, float(model.rating_loss.result()), float(model.retrieval_loss.result())))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert min(losses[0]) > 0


# --- the unknown customer


@pytest.mark.parametrize("features", ["full", "ids"])
def test_trap_10_the_unknown_customer_is_trained_where_known_ones_are_masked(features: str) -> None:
    for mask, moved in ((0.0, False), (0.5, True)):
        fit, model = small(**PLAIN | {"mask": mask, "features": features})
        assert (fit.customers.own[fit.customer] > 0).all()
        row = gradients(model, batch_of(fit))["query_embedding"][0]
        assert row.any() == moved
        assert not gradients(model, batch_of(fit), training=False)["query_embedding"][0].any()


def test_half_of_the_masked_customers_are_known_by_their_history_and_half_by_nothing() -> None:
    fit, model = small(**PLAIN | {"mask": 0.8})
    batch = batch_of(fit)
    rating = slice(model.config.rating_start, None)  # all that each review's own query is for in training
    x, plain = model.forward(batch, True).x.numpy(), model.forward(batch, False).x.numpy()[:, rating]
    nobody = model.query_tower.embedding.numpy()[:, rating]
    unknown = np.abs(x - nobody[0]).max(1) < 1e-6
    by_history = np.abs(x - (plain - nobody[fit.customer] + nobody[0])).max(1) < 1e-5
    known = np.abs(x - plain).max(1) < 1e-6
    assert ((unknown * 1 + by_history + known) == 1).all()
    assert min(unknown.sum(), by_history.sum(), known.sum()) > 2


# --- FactorizedTopK


def asked() -> Any:
    """Reviews that were not fitted: known and unknown customers, all dates, and a product that is no candidate."""
    rng = np.random.default_rng(8)
    rows = [(int(rng.integers(0, 13)), int(rng.integers(1, 10)), 3.0) for _ in range(60)]
    return reviews_of(rows, list(rng.uniform(0, 500, 60)))


@pytest.mark.parametrize("features", ["full", "ids"])
def test_traps_1_and_15_evaluate_reports_factorized_top_k_equal_to_exact_ranks(features: str) -> None:
    fit, model = small(half_life=None if features == "ids" else 50.0, features=features)
    ks = (1, 3, 5, 100)  # more than there are candidates, too
    model.measure_top_k(ks)
    model.measure_top_k(ks)  # again, after more training
    reviews = asked()
    columns = held_out(fit, reviews)
    found = model.evaluate(tf.data.Dataset.from_tensor_slices(columns).batch(23), return_dict=True, verbose=0)
    assert [name for name in found if "top_k" in name] == [f"factorized_top_k/top_{k}_categorical_accuracy" for k in ks]

    rows, product = np.arange(13, dtype=np.int32), fit.candidates
    x, y = (model.call_tower(tf.constant(r), side).numpy() for r, side in ((rows, "query"), (product, "candidate")))
    dims, prior = model.config.retrieval_dims, model.prior.numpy()[:, product]
    query = np.concatenate([x[:, :dims] / np.exp(float(model.log_temperature)), np.ones((13, 1))], 1)
    candidate = np.concatenate([y[:, :dims], model.popularity.numpy()[product]], 1)
    position = np.full(10, -1)
    position[product] = np.arange(len(product))
    n, period = len(reviews), columns["period"] if features == "full" else np.zeros(60, np.int32)
    positives = Lists.of(np.arange(n), position[reviews.product], n)
    nothing = Lists.of(np.zeros(0, np.int64), np.zeros(0, np.int64), n)
    queries = query[reviews.customer].astype(np.float32)
    above = rank(queries, candidate.astype(np.float32), np.arange(n), positives, nothing, 1, prior, period).above
    known = [float(np.mean(above < k)) for k in ks]
    assert [found[f"factorized_top_k/top_{k}_categorical_accuracy"] for k in ks] == pytest.approx(known, abs=1e-6)
    assert 0 < known[0] < known[2] < known[3] < 1, "a product that is no candidate is a miss"


def test_trap_1_a_metric_that_is_set_alone_would_be_lost() -> None:
    fit, model = small()
    model.measure_top_k((1,))
    (metric,) = model.retrieval_task.factorized_metrics
    assert isinstance(metric, tfrs.metrics.FactorizedTopK)
    task = tfrs.tasks.Retrieval()
    task.factorized_metrics = metric
    assert list(task.factorized_metrics) == []  # the trap, still there
    assert len(fit)


def test_factorized_top_k_is_of_validation_and_never_of_a_training_step() -> None:
    fit, model = small()
    model.measure_top_k((1, 5))
    rows = tf.data.Dataset.from_tensors(batch_of(fit))
    model.fit(rows, verbose=0)
    (metric,) = model.retrieval_task.factorized_metrics
    assert all(float(part.count) == 0 for part in metric.metrics)
    model.evaluate(rows, verbose=0)
    assert all(float(part.count) == len(fit) for part in metric.metrics)


def test_trap_5_candidates_that_are_not_unique_are_refused() -> None:
    _, model = small()
    model.candidates = tf.constant([1, 2, 2])
    with pytest.raises(ValueError, match="unique"):
        model.measure_top_k()


def test_the_loss_of_held_out_reviews_counts_products_that_are_no_candidates() -> None:
    fit, model = small(**PLAIN, rating_weight=0.0)
    cold = held_out(fit, reviews_of([(1, 9, 5.0)]))
    loss = float(model.compute_loss({name: tf.constant(column) for name, column in cold.items()}))
    query, y = model.call_tower(tf.constant([1]), "query"), model.call_tower(tf.constant([9]), "candidate")
    batch = {"period": tf.constant([0])}
    vectors = [model.candidate_vectors(tf.constant(r), v) for r, v in (
        (fit.candidates, model.call_tower(tf.constant(fit.candidates), "candidate")), ([9], y))]  # fmt: skip
    scores = tf.matmul(model.query_vectors(batch, query), tf.concat(vectors, 0), transpose_b=True).numpy()[0]
    assert loss == pytest.approx(np.log(np.exp(scores).sum()) - scores[-1], rel=1e-5)


def test_all_products_are_candidates_where_the_catalogue_is_asked_for() -> None:
    from amzrec.config import TrainConfig

    reviews, config = random_reviews(), TrainConfig(dim=6)
    dataset = dataset_of(reviews, catalogue="all")
    fit = fit_rows(dataset, reviews, config)
    assert fit.candidates.tolist() == list(range(1, 10))
    model = model_of(config, fit, dataset)
    assert np.isfinite(float(model.compute_loss(batch_of(fit), training=True)))


# --- precision


@pytest.mark.parametrize("features", ["full", "ids"])
def test_in_bfloat16_tables_and_gradients_stay_float32_and_the_loss_is_the_same_to_a_percent(features: str) -> None:
    found = {}
    for precision in ("float32", "bfloat16"):
        fit, model = small(features=features, precision=precision, **PLAIN)
        assert {variable.dtype for variable in model.variables} <= {tf.float32, tf.int64}
        batch = batch_of(fit)
        found[precision] = gradients(model, batch) | {"loss": model.compute_loss(batch, training=True).numpy()}
    exact, rounded = found["float32"], found["bfloat16"]
    assert rounded["loss"] != exact["loss"]
    assert rounded["loss"] == pytest.approx(exact["loss"], rel=0.01)
    for name, gradient in exact.items():
        if gradient is not None:
            other = rounded[name]
            assert other is not None
            assert other.dtype == np.float32
            assert np.abs(other - gradient).max() <= 0.05 * np.abs(gradient).max() + 1e-6, name
