"""What a training writes down: the model's own answers as plain arrays, each task from its own best epoch."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amzrec.answers.recommender import Recommender
from amzrec.commands.train import train
from amzrec.config import TrainConfig
from amzrec.errors import SILENT
from amzrec.features.batches import shuffled_batches
from amzrec.features.fitted import fit_reviews
from amzrec.model.keras2 import graphs_as_written
from amzrec.renewal.arrivals import Arrivals
from amzrec.renewal.renewed import renewed
from amzrec.store.dataset import Dataset, Reviews, Scale
from amzrec.store.run import Run, RunInfo
from amzrec.store.vectors import Vectors, Writing, write_vectors
from amzrec.training import phases
from amzrec.training import snapshot as snapshots
from amzrec.training.assembly import Learned, assemble
from amzrec.training.learner import Learner, columns_dataset, stateless_uniform, tf
from amzrec.training.session import Session
from amzrec.training.snapshot import RatingSnapshot, RetrievalSnapshot, rating_snapshot, retrieval_snapshot
from amzrec.training.state import Choices
from amzrec.training.watch import Watch
from fits import dataset_of, fitted_of, random_reviews, reviews_of

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")
CONFIG = TrainConfig(dim=6, head=(4,), own_vector=3, epochs=3, patience=2, average=0.5, temperature=0.7)
CONFIGS = {
    "full": CONFIG,
    "no hidden layer": CONFIG.replace(head=()),
    "ids": CONFIG.replace(features="ids", optimizer="adagrad", head=(5, 4)),
}
CUSTOMERS, PRODUCTS = np.arange(13, dtype=np.int32), np.arange(10, dtype=np.int32)


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


def untouched(config: TrainConfig, data: Dataset) -> Learner:
    """A learner on train, with popularity and stars over time where the towers read them."""
    recipe = config.resolve(data.facts(refit=False))
    fitted = fit_reviews(data, data.train, recipe)
    if recipe.features != "ids":
        fitted = fitted.with_popularity(data.train, 60.0).with_trend()
    return Learner(recipe, fitted, data)


def learner_of(config: TrainConfig, data: Dataset) -> Learner:
    """A learner whose every weight was moved at random."""
    learner = untouched(config.replace(average=0.0), data)
    rng = np.random.default_rng(6)
    for variable in learner.model.trainable_variables:
        variable.assign_add(tf.constant(rng.normal(0, 0.3, variable.shape), tf.float32))
    return learner


def vectors_of(learner: Learner, data: Dataset) -> Vectors:
    """What a run would keep of a learner."""
    learned = Learned(rating_snapshot(learner), retrieval_snapshot(learner))
    return assemble(data, learned, learner.recipe.history, ["train"])


# --- what TensorFlow gets


def test_the_steps_of_an_epoch_come_as_the_host_has_made_them_bit_for_bit() -> None:
    learner = untouched(CONFIG, dataset())
    learner.prepare()
    drawn = list(shuffled_batches(learner.fitted, learner.epoch_plan, [1]))
    found = list(columns_dataset(learner.steps, lambda: enumerate(drawn, 7)))
    assert len(found) == learner.epoch_plan.steps
    for number, (got, reviews) in enumerate(zip(found, drawn, strict=True), 7):
        known = learner.steps.columns(reviews, number)
        for array, tensor in zip(tf.nest.flatten(known), tf.nest.flatten(got), strict=True):
            np.testing.assert_array_equal(tensor, array)
            assert tensor.dtype == array.dtype


def test_draws_depend_on_nothing_but_seed_and_stream() -> None:
    assert stateless_uniform(3, 1, 4).tolist() == stateless_uniform(3, 1, 4).tolist()
    assert (
        stateless_uniform(3, 1, 4).tolist()
        != stateless_uniform(3, 2, 4).tolist()
        != stateless_uniform(5, 2, 4).tolist()
    )
    assert stateless_uniform(2**80, 1, 100).mean() == pytest.approx(0.5, abs=0.2), "any seed will do"


# --- numpy answers


@pytest.mark.parametrize("name", CONFIGS)
def test_the_answers_of_a_run_are_the_models_own(name: str) -> None:
    """Every rating head of the project says the same of every pair, at every time: that of the model, in stars."""
    data = dataset()
    learner = learner_of(CONFIGS[name], data)
    fitted, vectors = learner.fitted, vectors_of(learner, data)
    customer, product = (grid.ravel() for grid in np.meshgrid(CUSTOMERS, PRODUCTS, indexing="ij"))
    x, y = learner.queries(CUSTOMERS), learner.candidates(PRODUCTS)
    periods, ids = fitted.popularity.periods, learner.recipe.features == "ids"
    assert (periods > 2) == (not ids)
    dims, task = learner.recipe.retrieval_dims, learner.model.retrieval
    towers = x[:, :dims] @ y[:, :dims].T / np.exp(float(task.log_temperature)) + task.popularity.numpy()[:, 0]
    for period in (0, periods - 1):
        scores = vectors.retrieval_query @ vectors.retrieval_candidate.T
        if periods > 1:
            assert vectors.context is not None
            scores = scores + vectors.context[period]
        np.testing.assert_allclose(scores, towers + fitted.popularity.log_share[period], atol=1e-4)
        stars = learner.stars(customer, product, x[customer], y[product]) + fitted.trend[period] * fitted.scale.unit
        raw = Recommender(vectors).rate(vectors.rating_query[customer], product, clip=False)
        if vectors.rating_context is not None:
            raw = raw + vectors.rating_context[period]
        np.testing.assert_allclose(stars, raw, atol=1e-4)
    assert (vectors.rating_context is not None) == (not ids)
    head = learner.recipe.head
    assert len(vectors.layers) == len(head) + 1 if head else not vectors.layers


def test_folding_in_nothing_gives_what_the_model_answers_for_every_customer() -> None:
    data = dataset()
    vectors = vectors_of(learner_of(CONFIG, data), data)
    recommender = Recommender(vectors)
    for customer in range(13):
        folded = recommender.fold_in(customer, np.zeros(0, np.int32))
        np.testing.assert_allclose(folded.retrieval, vectors.retrieval_query[customer], atol=1e-4)
        np.testing.assert_allclose(folded.rating, vectors.rating_query[customer], atol=1e-4)


def test_an_update_gives_the_vectors_that_the_towers_give_for_the_grown_histories() -> None:
    """Clicks of known customers: they move no bias, so that all that depends on histories is the model's own."""
    data = dataset()
    recipe = CONFIG.replace(average=0.0, own_vector=1, history_cap=50).resolve(data.facts(refit=False))
    before, known = data.train, set(zip(data.train.customer.tolist(), data.train.product.tolist(), strict=True))
    pairs = [(c, p, math.nan) for c in range(1, 12) for p in range(1, 9) if (c, p) not in known][::3]
    more = reviews_of(pairs, [410.0 + place for place in range(len(pairs))])
    learner = learner_of(recipe, data)
    learner.fitted = fit_reviews(data, before, recipe).with_popularity(before, 60.0)
    data.__dict__["valid"] = before.take(np.zeros(0, np.int64))
    run = Run(Path("run"), RunInfo(finished=1.0, half_life=60.0))
    run.__dict__["vectors"] = vectors_of(learner, data)
    ids, names = run.vectors.customer_ids, run.vectors.product_ids
    none = data.products.select(["product_id", "title", "features"]).slice(0, 0)
    arrivals = Arrivals(more.customer, more.product, more.stars, more.timestamp, ids, names, none)
    updated, tally = renewed(run, arrivals)
    assert tally.reviews == len(pairs) > 10
    both = Reviews.concat([before, more])
    learner.fitted = fit_reviews(data, both, recipe).with_popularity(both, 60.0)
    learner.model.encoder.query_tower.profiles = learner.fitted.customers
    learner.model.encoder.candidate_tower.profiles = learner.fitted.products
    data.__dict__["train"] = both
    expected = vectors_of(learner, data)
    for name, array in expected.arrays().items():
        kept_in_half = name in ("retrieval_candidate", "rating_candidate", "product_level")
        np.testing.assert_allclose(
            getattr(updated, name), array, atol=3e-3 if kept_in_half else 1e-4, err_msg=name, rtol=0
        )
        moved = name in ("retrieval_query", "retrieval_candidate", "rating_query", "rating_candidate")
        assert not moved or np.abs(array - getattr(run.vectors, name)).max() > 0.1, "what is tested has changed"


@pytest.mark.parametrize("name", CONFIGS)
def test_snapshots_come_back_from_their_files_as_they_were(name: str, tmp_path: Path) -> None:
    learner = learner_of(CONFIGS[name], dataset())
    for snapshot in (rating_snapshot(learner), retrieval_snapshot(learner)):
        snapshot.save(tmp_path / "task.npz")
        again = type(snapshot).load(tmp_path / "task.npz")
        for field, value in vars(snapshot).items():
            np.testing.assert_array_equal(getattr(again, field), value, err_msg=field)


def test_a_snapshot_is_of_the_averaged_weights_and_leaves_the_weights_alone() -> None:
    learner = untouched(CONFIG.replace(average=0.9), dataset())
    learner.prepare()
    for number in (1, 2, 3):
        learner.epoch(number, SILENT, "", None, "select")
    weights = [v.numpy() for v in learner.model.trainable_variables]
    base = retrieval_snapshot(learner).query_base
    for variable, before in zip(learner.model.trainable_variables, weights, strict=True):
        np.testing.assert_array_equal(variable, before)
    assert np.abs(learner.query_bases(CUSTOMERS)[:, :4] - base).max() > 1e-4
    with learner.averaged():
        np.testing.assert_allclose(learner.query_bases(CUSTOMERS)[:, :4], base, atol=1e-6)


# --- the watch on valid


def test_valid_figures_equal_a_slow_loop() -> None:
    data = dataset()
    learner = learner_of(CONFIG, data)
    fitted, valid = learner.fitted, data.valid
    figures = Watch(data, fitted.candidates, 1).figures(learner)
    x, y, errors, gains = learner.queries(CUSTOMERS), learner.candidates(PRODUCTS), [], []
    pair = learner.retrieval_queries(CUSTOMERS), learner.retrieval_candidates(PRODUCTS)
    queries, candidates = learner.retrieval_vectors(*pair, PRODUCTS)
    scores = queries @ candidates.T
    for c, p, stars, time in zip(valid.customer, valid.product, valid.stars, valid.timestamp, strict=True):
        period = int(fitted.popularity.period(np.array([time]))[0])
        if not np.isnan(stars):
            found = learner.stars(np.array([c]), np.array([p]), x[[c]], y[[p]])[0]
            errors.append(np.clip(found + fitted.trend[period] * fitted.scale.unit, 0, 10) - stars)
        seen = fitted.product[fitted.customer == c]
        others = [q for q in fitted.candidates if q not in seen and q != p]
        row = scores[c] + learner.context(PRODUCTS)[period]
        gains.append(1 / np.log2(2 + np.sum(row[others] >= row[p])) if p in fitted.candidates else 0)
    assert figures["valid_rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-5)
    assert figures["valid_ndcg"] == pytest.approx(np.mean(gains), rel=1e-5)
    assert min(gains) == 0 < max(gains)


def test_valid_without_stars_has_no_rating_figure() -> None:
    data = dataset()
    valid = data.valid
    nothing = np.full(len(valid), np.nan, np.float32)
    data.__dict__["valid"] = Reviews(valid.customer, valid.product, nothing, valid.timestamp)
    learner = learner_of(CONFIG, data)
    assert list(Watch(data, learner.fitted.candidates, 1).figures(learner)) == ["valid_ndcg"]


def test_the_popularity_that_is_chosen_on_valid_is_the_one_that_ranks_it_best() -> None:
    # product 1 was bought long ago, product 2 lately; valid is late
    train = reviews_of([(c, 1 + (c > 5), 3.0) for c in range(1, 11)], [c * 30.0 for c in range(1, 11)])
    late = reviews_of([(11, 2, 3.0), (12, 2, 3.0)], [299.0, 300.0])
    data, fitted = dataset_of(train, late), fitted_of(train)
    watch = Watch(data, fitted.candidates, 1)
    figures = [watch.popularity_figure(fitted.with_popularity(train, days)) for days in (None, 30.0)]
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


Kept = dict[tuple[str, int, str], RatingSnapshot | RetrievalSnapshot]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Snapshots as they are kept, by phase, epoch and task."""
    found: Kept = {}
    keep = Session.keep_snapshots

    def remember(session: Session, learner: Learner, tasks: list[str]) -> None:
        for task in tasks:
            snapshot = rating_snapshot(learner) if task == "rating" else retrieval_snapshot(learner)
            found[session.state.phase, session.state.epoch, task] = snapshot
        keep(session, learner, tasks)

    monkeypatch.setattr(Session, "keep_snapshots", remember)
    return found


@pytest.mark.long
@pytest.mark.parametrize("refit", [False, True])
def test_each_task_comes_from_its_own_best_epoch(
    refit: bool, kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    np.testing.assert_array_equal(run.vectors.rating_query, rating.queries)
    np.testing.assert_array_equal(run.vectors.retrieval_query, retrieval.queries)
    base = np.concatenate([retrieval.query_base, rating.query_base], 1)
    np.testing.assert_array_equal(run.vectors.query_base, base)
    history = (run.path / "history.csv").read_text().splitlines()
    # a header, four epochs as patience ends two after the best, refit for the two epochs that retrieval needs
    assert len(history) == 1 + 4 + 2 * refit
    unknown = retrieval_snapshot(untouched(CONFIG, dataset())).query_base[0]
    assert np.abs(base[0, :4] - unknown).max() > 1e-4, "the unknown customer was not trained"


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("features", "weights", "best", "known"),
    [
        ("full", (1, 1), {"rating": 2, "retrieval": 3}, {2: ["rating"], 3: ["retrieval"]}),
        ("full", (1, 0), {"rating": 2}, {0: ["retrieval"], 2: ["rating"]}),
        ("ids", (0, 1), {"retrieval": 3}, {3: ["rating", "retrieval"]}),  # shared dimensions: as retrieval left them
    ],
)
def test_each_task_is_due_at_its_best_epoch_and_an_untrained_one_as_it_started(
    features: str, weights: tuple[float, float], best: dict[str, int], known: dict[int, list[str]]
) -> None:
    config = CONFIG.replace(features=features, rating_weight=weights[0], retrieval_weight=weights[1])
    recipe = config.resolve(dataset().facts(refit=False))
    found = {epoch: phases.tasks_best_at(epoch, recipe, Choices(best)) for epoch in range(5)}
    assert {epoch: tasks for epoch, tasks in found.items() if tasks} == known


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


# --- how it is kept


def test_large_arrays_of_a_snapshot_are_mapped_and_their_checksums_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "MAPPED", 256)
    table = np.arange(600, dtype=np.float32).reshape(30, 20)
    arrays: dict[str, Any] = {
        "table": table,
        "half": table.astype(np.float16),
        "turned": table.T,
        "few": table[:1, :5],
    }
    arrays |= {"none": table[:0], "one": np.array(2.5)}
    np.savez(tmp_path / "kept.npz", **arrays)
    found = snapshots.mapped(tmp_path / "kept.npz")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert isinstance(found[name], np.memmap) == (name in ("table", "half", "turned"))
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    whole = (tmp_path / "kept.npz").read_bytes()
    place = whole.index(table[20].tobytes())
    (tmp_path / "kept.npz").write_bytes(whole[:place] + b"?" + whole[place + 1 :])
    with pytest.raises(zipfile.BadZipFile, match=r"table\.npy"):
        snapshots.mapped(tmp_path / "kept.npz")


def test_vectors_that_are_written_as_they_are_made_are_those_that_are_written_at_the_end(tmp_path: Path) -> None:
    data = dataset()
    learner = learner_of(CONFIG, data)
    learned = Learned(rating_snapshot(learner), retrieval_snapshot(learner))
    for name in ("made", "end"):
        (tmp_path / name).mkdir()
    writing = Writing(tmp_path / "made")
    vectors = assemble(data, learned, learner.recipe.history, ["train"], writing.put)
    assert isinstance(vectors.query_base, np.memmap)
    assert {"query_base", "seen_product", "rating_query"} < writing.files.keys()
    write_vectors(tmp_path / "made", vectors, writing)
    write_vectors(tmp_path / "end", assemble(data, learned, learner.recipe.history, ["train"]))
    made, end = ({f.name: f.read_bytes() for f in (tmp_path / name / "vectors").iterdir()} for name in ("made", "end"))
    assert made == end
