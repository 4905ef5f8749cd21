"""What a training writes down: the model's own answers as plain arrays, each task from its own best epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import amzrec.training.learner
import amzrec.training.phases
from amzrec.answers.recommender import Recommender
from amzrec.commands.train import train
from amzrec.config import TrainConfig
from amzrec.errors import SILENT
from amzrec.features.batches import COLUMNS, fit_rows, positions, with_prior, with_trend
from amzrec.model.keras2 import graphs_as_written
from amzrec.store.dataset import Dataset, Reviews, Scale
from amzrec.training.learner import Learner, Watch, examples, tf
from amzrec.training.phases import Training, assemble
from fits import dataset_of, random_reviews, reviews_of

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")
CONFIG = TrainConfig(dim=6, head=(4,), own_vector=3, epochs=3, patience=2, average=0.5, temperature=0.7)
CONFIGS = {
    "full": CONFIG,
    "no hidden layer": CONFIG.replace(head=()),
    "ids": CONFIG.replace(features="ids", optimizer="adagrad", head=(5, 4)),
}


@pytest.fixture(autouse=True)
def eagerly() -> Iterator[None]:
    """Without a graph: tracing it would take longer than these trainings."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def dataset() -> Dataset:
    """Stars, clicks and dates on a scale of ten points; valid has a stranger and a product that train does not have."""
    train = random_reviews()
    valid = [(1, 9, 2.0), (12, 3, 9.0), (2, 5, math.nan), (4, 1, 10.0), (4, 3, 0.0), (7, 2, 5.0), (7, 3, 6.0)]
    days = [10.0, 50.0, 100.0, 150.0, 500.0, 300.0, 20.0]
    return dataset_of(train, reviews_of(valid, days), scale=Scale(0.0, 10.0))


def learner_of(config: TrainConfig, data: Dataset) -> Learner:
    """A learner whose every weight was moved at random, with a prior and a trend over time."""
    fit = with_prior(fit_rows(data, data.train, config), data.train, None if config.shared else 60.0)
    learner = Learner(config.replace(average=0.0), fit if config.shared else with_trend(fit), data, (0.7, 0.9))
    rng = np.random.default_rng(6)
    for variable in learner.model.trainable_variables:
        if config.shared and variable is learner.model.rating_head.weight:
            continue  # no part of the reference's head: nothing ever moves it from 0
        variable.assign_add(tf.constant(rng.normal(0, 0.3, variable.shape), tf.float32))
    return learner


# --- numpy answers


def test_what_tensorflow_gets_are_the_columns_of_the_batches_bit_for_bit() -> None:
    data = dataset()
    fit = with_trend(with_prior(fit_rows(data, data.train, CONFIG), data.train, 60.0))
    for found, drawn in zip(examples(fit, 4, 3, lambda: [1]), positions(fit, 4, 3, [1]), strict=True):
        assert set(found) == set(COLUMNS)
        for name, dtype in COLUMNS.items():
            assert found[name].dtype == dtype
            np.testing.assert_array_equal(found[name], getattr(fit, name)[drawn], err_msg=name)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_answers_of_a_run_are_the_models_own(name: str) -> None:
    config, data = CONFIGS[name], dataset()
    learner = learner_of(config, data)
    model, fit = learner.model, learner.fit
    vectors = assemble(data, learner.snapshot("rating"), learner.snapshot("retrieval"), ["train"])
    pairs = np.array([(c, p) for c in range(13) for p in range(10)], np.int32)
    customer, product = tf.constant(pairs[:, 0]), tf.constant(pairs[:, 1])
    x, y = (model.call_tower(r, side) for r, side in ((customer, "query"), (product, "candidate")))
    periods = len(model.prior)
    assert (periods > 2) == (not config.shared)
    for period in (0, periods - 1):
        asked = {"period": tf.fill([len(pairs)], period)}
        scores = tf.reduce_sum(model.query_vectors(asked, x) * model.candidate_vectors(product, y), 1)
        known = np.sum(vectors.retrieval_query[pairs[:, 0]] * vectors.retrieval_candidate[pairs[:, 1]], 1)
        if periods > 1:
            known = known + vectors.context[period, pairs[:, 1]]
        np.testing.assert_allclose(scores, known, atol=1e-4)

        biases = model.query_tower.rating_bias(customer), model.candidate_tower.rating_bias(product)
        seen = amzrec.training.learner.Forward(x, y, *biases, None, None, None, None)
        stars = model.rate(customer, product, seen, fit.trend[period]).numpy() * fit.unit + fit.mean
        raw = Recommender(vectors).rate(vectors.rating_query[pairs[:, 0]], pairs[:, 1], clip=False)
        if vectors.rating_context is not None:
            raw = raw + vectors.rating_context[period]
        np.testing.assert_allclose(stars, raw, atol=1e-4)
    assert (vectors.rating_context is not None) == (not config.shared)
    assert len(vectors.layers) == len(config.head) + 1 if config.head else not vectors.layers


def test_folding_in_nothing_gives_what_the_model_answers_for_every_customer() -> None:
    data = dataset()
    learner = learner_of(CONFIG, data)
    vectors = assemble(data, learner.snapshot("rating"), learner.snapshot("retrieval"), ["train"])
    recommender = Recommender(vectors)
    for customer in range(13):
        folded = recommender.fold_in(customer, np.zeros(0, np.int32))
        np.testing.assert_allclose(folded.retrieval, vectors.retrieval_query[customer], atol=1e-4)
        np.testing.assert_allclose(folded.rating, vectors.rating_query[customer], atol=1e-4)


def test_a_snapshot_is_of_the_averaged_weights_and_leaves_the_weights_alone() -> None:
    data = dataset()
    fit = fit_rows(data, data.train, CONFIG)
    learner = Learner(CONFIG.replace(average=0.9), fit, data, (1.0, 1.0))
    learner.steps()
    for number in (1, 2, 3):
        learner.epoch(number, SILENT, "", None, "select")
    weights = [v.numpy() for v in learner.model.trainable_variables]
    base = learner.snapshot("retrieval")["retrieval_query_base"]
    for variable, before in zip(learner.model.trainable_variables, weights, strict=True):
        np.testing.assert_array_equal(variable, before)
    assert np.abs(learner.vectors("query", np.arange(13), base=True)[:, :4] - base).max() > 1e-4
    learner.swap()
    np.testing.assert_allclose(learner.vectors("query", np.arange(13), base=True)[:, :4], base, atol=1e-6)


# --- the watch on valid


def test_valid_figures_equal_a_slow_loop() -> None:
    data, config = dataset(), CONFIG
    learner = learner_of(config, data)
    learner.steps()
    fit, model, valid = learner.fit, learner.model, data.valid
    figures = Watch(data, fit, 100, 1).figures(learner)
    errors, gains = [], []
    for c, p, stars, time in zip(valid.customer, valid.product, valid.stars, valid.timestamp, strict=True):
        period = int(fit.prior.period(np.array([time]))[0])
        x, y = model.call_tower(tf.constant([c]), "query"), model.call_tower(tf.constant([p]), "candidate")
        if not np.isnan(stars):
            found = learner.rate(np.array([c]), np.array([p]), np.array([period]), x.numpy(), y.numpy())[0]
            errors.append(np.clip(found, 0, 10) - stars)
        seen = fit.product[fit.customer == c]
        others = [q for q in fit.candidates if q not in seen and q != p]
        rows = tf.constant(np.array([p, *others], np.int32))
        candidate = model.candidate_vectors(rows, model.call_tower(rows, "candidate"))
        scores = tf.linalg.matvec(candidate, model.query_vectors({"period": tf.constant([period])}, x)[0]).numpy()
        gains.append(1 / np.log2(2 + np.sum(scores[1:] >= scores[0])) if p in fit.candidates else 0)
    assert figures["valid_rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-5)
    assert figures["valid_ndcg"] == pytest.approx(np.mean(gains), rel=1e-5)
    assert min(gains) == 0 < max(gains)


def test_valid_without_stars_has_no_rating_figure() -> None:
    data = dataset()
    clicks = Reviews(*(getattr(data.valid, f) for f in ("customer", "product")), np.full(7, np.nan, np.float32), data.valid.timestamp)  # fmt: skip # noqa: E501
    data.__dict__["valid"] = clicks
    learner = learner_of(CONFIG, data)
    learner.steps()
    assert math.isnan(Watch(data, learner.fit, 100, 1).figures(learner)["valid_rmse"])


def test_the_prior_that_is_chosen_on_valid_is_the_one_that_ranks_it_best() -> None:
    # product 1 was bought long ago, product 2 lately; valid is late
    train = reviews_of([(c, 1 + (c > 5), 3.0) for c in range(1, 11)], [c * 30.0 for c in range(1, 11)])
    late = reviews_of([(11, 2, 3.0), (12, 2, 3.0)], [299.0, 300.0])
    data = dataset_of(train, late)
    fit = fit_rows(data, train, CONFIG)
    figures = [Watch(data, with_prior(fit, train, days), 100, 1).prior_figure() for days in (None, 30.0)]
    assert figures[1] == 1.0
    assert figures[0] < 1.0


# --- each task at its own best epoch


class Script:
    """Stands for Watch.figures: what valid says after each epoch, from epoch 0."""

    def __init__(self, rmse: list[float], ndcg: list[float]) -> None:
        self.figures = iter(zip(rmse, ndcg, strict=True))

    def __call__(self, _watch: Any, _learner: Any) -> dict[str, float]:
        rmse, ndcg = next(self.figures)
        return {"valid_rmse": rmse, "valid_ndcg": ndcg}


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, int, str], Any]:
    """Snapshots as they are kept, by phase, epoch and task."""
    found: dict[tuple[str, int, str], Any] = {}
    keep = Training.keep

    def remember(training: Training, learner: Any, task: str) -> None:
        found[training.state.phase, training.state.epoch, task] = learner.snapshot(task)
        keep(training, learner, task)

    monkeypatch.setattr(Training, "keep", remember)
    return found


@pytest.mark.parametrize("refit", [False, True])
def test_each_task_comes_from_its_own_best_epoch(
    refit: bool, kept: dict[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script([3.0, 2.0, 2.5, 2.6, 2.7], [0.1, 0.2, 0.3, 0.2, 0.3])
    monkeypatch.setattr(Watch, "figures", lambda watch, learner: script(watch, learner))
    run = train(dataset(), tmp_path / "run", CONFIG.replace(refit=refit, epochs=40))
    assert run.info.best_epochs == {"rating": 1, "retrieval": 2}
    assert run.info.fit_parts == (("train", "valid") if refit else ("train",))
    phase, other = ("refit", "select") if refit else ("select", "refit")
    assert not [key for key in kept if key[0] == other]
    assert len([key for key in kept if key[0] == "refit"]) == 2 * refit
    rating, retrieval = kept[phase, 1, "rating"], kept[phase, 2, "retrieval"]
    np.testing.assert_array_equal(run.vectors.rating_query, rating["rating_query"])
    np.testing.assert_array_equal(run.vectors.retrieval_query, retrieval["retrieval_query"])
    base = np.concatenate([retrieval["retrieval_query_base"], rating["rating_query_base"]], 1)
    np.testing.assert_array_equal(run.vectors.query_base, base)
    history = (run.path / "history.csv").read_text().splitlines()
    # a header, four epochs as patience ends two after the best, refit for the two epochs that retrieval needs
    assert len(history) == 1 + 4 + 2 * refit
    fresh = Learner(CONFIG, fit_rows(dataset(), dataset().train, CONFIG), dataset(), (1.0, 1.0))
    unknown = fresh.snapshot("retrieval")["retrieval_query_base"][0]
    assert np.abs(base[0, :4] - unknown).max() > 1e-4, "the unknown customer was not trained"


def test_a_task_that_valid_cannot_judge_is_kept_as_it_is_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script([math.nan] * 4, [0.5, 0.6, 0.4, 0.3])
    monkeypatch.setattr(Watch, "figures", lambda watch, learner: script(watch, learner))
    run = train(dataset(), tmp_path / "run", CONFIG.replace(epochs=40, refit=False))
    assert run.info.best_epochs == {"rating": 3, "retrieval": 1}, "patience counts from what can be judged"


def test_without_valid_the_last_epoch_is_kept(tmp_path: Path) -> None:
    run = train(dataset_of(random_reviews()), tmp_path / "run", CONFIG)
    assert run.info.best_epochs == {"rating": 3, "retrieval": 3}
    assert run.info.fit_parts == ("train",)


def test_graphs_are_rewritten_again_after_training_also_when_it_fails() -> None:
    def off() -> bool:
        return bool(tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer", False))

    assert not off()
    seen = []

    def fail() -> None:
        with graphs_as_written():
            seen.append(off())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [True]
    assert not off()
