"""`amzrec train --from RUN`: what is known keeps its weights wherever its row is now, and new reviews are learned."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

import amzrec
from amzrec.cli.app import app
from amzrec.commands.prepare import prepare
from amzrec.commands.update import update
from amzrec.config import PrepareConfig, TrainConfig
from amzrec.errors import AmzrecError, Silent
from amzrec.features.attributes import Attributes, attribute_names
from amzrec.features.batches import one_pass
from amzrec.store.dataset import Dataset
from amzrec.store.run import Run, identity, open_run
from amzrec.store.weights import narrowed, open_weights, widened

SMALL = TrainConfig(
    dim=12, epochs=3, patience=3, head=(8,), learning_rate=0.05, average=0.5, own_vector=2, memory=False, moment=False
)
SPLIT = PrepareConfig(test=0.0, titles=None)
HEADER = "customer,product,stars,title\n"


def reviews_of(customers: range, products: int, seed: int) -> str:
    """Reviews of customers who like products of their own parity: each has 6 of them."""
    rng = np.random.default_rng(seed)
    lines = [
        f"c{customer},p{product},{5 if customer % 2 == product % 2 else 1},Title {'odd' if product % 2 else 'even'}"
        for customer in customers
        for product in rng.permutation(products)[:6]
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Reviews of yesterday, of today alone, and of both: today has new customers, and two new products."""
    folder = tmp_path_factory.mktemp("files")
    old, new = reviews_of(range(40), 12, 0), reviews_of(range(40, 60), 14, 1)
    paths = folder / "old.csv", folder / "new.csv", folder / "both.csv"
    for path, text in zip(paths, (old, new, old + new), strict=True):
        path.write_text(HEADER + text)
    return paths


@pytest.fixture(scope="module")
def parent(files: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training on yesterday's reviews."""
    return amzrec.train(files[0], tmp_path_factory.mktemp("parent") / "run", SMALL, prepare=SPLIT)


@pytest.fixture(scope="module")
def grown(files: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """All reviews, prepared."""
    return prepare(files[2], tmp_path_factory.mktemp("grown") / "data", SPLIT)


@pytest.fixture(scope="module")
def child(parent: Run, grown: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training on all reviews that goes on from that of yesterday."""
    return amzrec.train(grown, tmp_path_factory.mktemp("child") / "run", start=parent)


def parent_config(run: Run) -> TrainConfig:
    """The settings of a run, for a training from scratch."""
    return TrainConfig.of(**run.info.recipe)


def same_bits(one: Run, two: Run) -> bool:
    """Whether two runs learned exactly the same."""
    mine, others = ((run.path / "vectors" / "vectors.json").read_bytes() for run in (one, two))
    return mine == others


def test_slots_are_kept_to_eleven_bits_and_rows_without_any_stay_zero() -> None:
    table = np.array([[1e-9, -3e-9, 0.0], [0.0, 0.0, 0.0], [100.0, 1.0, -0.1]], np.float32)
    found = widened(*narrowed(table))
    assert np.abs(found - table).max(axis=1) == pytest.approx(0, abs=100 / 2**11)
    np.testing.assert_allclose(found[0], table[0], rtol=2**-10)
    assert not found[1].any()


def test_an_epoch_passes_over_all_new_reviews_and_as_many_old_ones() -> None:
    fresh = np.isin(np.arange(100), [3, 50, 99])
    drawn = [one_pass(100, np.random.default_rng(seed), fresh) for seed in range(2)]
    for each in drawn:
        assert len(np.unique(each)) == len(each) == 6
        assert {3, 50, 99} < set(each.tolist())
    assert set(drawn[0].tolist()) != set(drawn[1].tolist())
    assert sorted(one_pass(4, np.random.default_rng(0), np.ones(4, np.bool_)).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize(("least", "passed"), [(0, 6), (6, 6), (40, 40), (500, 100)])
def test_a_step_of_few_new_reviews_is_filled_with_old_ones(least: int, passed: int) -> None:
    fresh = np.isin(np.arange(100), [3, 50, 99])
    drawn = one_pass(100, np.random.default_rng(0), fresh, least)
    assert len(np.unique(drawn)) == len(drawn) == passed
    assert {3, 50, 99} < set(drawn.tolist())


def test_attributes_have_the_same_names_in_every_table() -> None:
    tables = [
        pa.table({"features": features, "tokens": pa.array(tokens, pa.list_(pa.int32()))})
        for features, tokens in (
            ([["a=1"], ["a=1", "b=2"], ["b=2"]], [[7], [7], [9]]),
            ([["b=2"], ["b=2", "c=3"], ["c=3", "a=1"], ["a=1"]], [[9], [7], [7, 9], []]),
        )
    ]
    assert [sorted(attribute_names(table)) for table in tables] == [
        ["#7", "a=1", "b=2"],
        ["#7", "#9", "a=1", "b=2", "c=3"],
    ]
    for table in tables:
        lists, names = Attributes.of(table).lists, attribute_names(table)
        said = [{names[number] for number in lists[row].tolist()} for row in range(table.num_rows)]
        words = zip(table["features"].to_pylist(), table["tokens"].to_pylist(), strict=True)
        assert said == [{n for n in (*f, *(f"#{t}" for t in ts)) if n in names} for f, ts in words]


def test_what_a_history_says_of_a_row_is_found_by_regression_and_else_the_mean_stands() -> None:
    from amzrec.training.warm import regressed

    rng = np.random.default_rng(0)
    x, way = rng.normal(size=(500, 4)).astype(np.float32), rng.normal(size=(4, 3))
    table, worth = (x @ way + 2).astype(np.float32), np.full(500, 10.0, np.float32)
    asked = rng.normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(regressed(x, asked, table, worth), asked @ way + 2, atol=0.05)
    np.testing.assert_allclose(regressed(x * 0, asked, table, worth), np.tile(table.mean(axis=0), (5, 1)), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adam", "adagrad"])
def test_an_optimizer_goes_on_from_its_slots(kind: str) -> None:
    from amzrec.model.keras2 import import_tensorflow
    from amzrec.model.optimizer import Adagrad, LazyAdam

    tf = import_tensorflow()
    start = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)

    def made() -> tuple[Any, Any, Any]:
        both = tf.Variable(start), tf.Variable(start[0])
        optimizer = LazyAdam(0.1, 0.9) if kind == "adam" else Adagrad(0.1)
        optimizer.build(list(both))
        return optimizer, *both

    def step(optimizer: Any, table: Any, vector: Any, number: int) -> None:
        rows = tf.IndexedSlices(tf.fill([2, 3], float(number)), tf.constant([number, 4]), tf.constant([5, 3]))
        optimizer.apply_gradients([(rows, table), (tf.constant([1.0, -2.0, number]), vector)])

    one, other = made(), made()
    for number in range(3):
        step(*one, number)
    for mine, theirs in zip(one[1:], other[1:], strict=True):
        theirs.assign(mine)
        other[0].put_slots(theirs, dict(one[0].slots(mine)))
    other[0].iterations.assign(one[0].iterations)
    for each in (one, other):
        step(*each, 3)
    np.testing.assert_allclose(one[1].numpy(), other[1].numpy(), rtol=1e-5)
    np.testing.assert_allclose(one[2].numpy(), other[2].numpy(), rtol=1e-5)
    if kind == "adam":
        averages = []
        for optimizer, table, vector in (one, other):
            with optimizer.averaged([table, vector]):
                averages.append(table.numpy())
        np.testing.assert_allclose(averages[0], averages[1], rtol=1e-4)


@pytest.mark.slow
def test_old_rows_keep_their_weights_and_slots_by_id_and_new_ones_start_from_what_is_said(
    parent: Run, grown: Dataset
) -> None:
    from amzrec.features.fitted import fit_reviews
    from amzrec.store.dataset import Reviews
    from amzrec.training.learner import Learner
    from amzrec.training.start import Start
    from amzrec.training.warm import start_at

    start = Start.of(parent, grown)
    recipe, weights = start.recipe(None), open_weights(parent.path)
    fitted = fit_reviews(start.dataset, Reviews.concat([start.dataset.train, start.dataset.valid]), recipe)
    learner = Learner(recipe, fitted, start.dataset)
    untrained = learner.model.encoder.query_tower.bag.numpy()
    start_at(learner, start)
    ids, old_ids = grown.customers["customer_id"].to_pylist(), parent.vectors.customer_ids
    bag, slots = (tower := learner.model.encoder.query_tower).bag, dict(learner.optimizer.slots(tower.bag))
    old, moved = weights.table("customers_bag"), 0
    place = {old_ids[row]: index for index, row in enumerate(weights.trained.rows["customers"].tolist())}
    rows = fitted.customers.vector_row
    for row, name in enumerate(ids):
        if row and rows[row] and name in place:
            moved += rows[row] != place[name]
            assert np.array_equal(bag.numpy()[rows[row]], old.weight[place[name]]), name
            assert np.array_equal(slots["moment"][rows[row]], old.slots["moment"][place[name]])
        elif rows[row]:
            assert not np.array_equal(bag.numpy()[rows[row]], untrained[rows[row]])
            assert not slots["moment"][rows[row]].any()
    assert moved > 5, "rows are numbered anew when there are more customers"
    assert int(learner.optimizer.iterations.numpy()) == weights.index.steps > 0
    products = grown.products["product_id"].to_pylist()
    b = learner.model.retrieval.popularity.numpy()[:, 0]
    for row, name in enumerate(products[1:], 1):
        found = parent.vectors.product_ids.find(name)
        assert np.isfinite(b[row])
        assert found is None or b[row] == weights.table("popularity").weight[found, 0]
    assert {"p12", "p13"} <= {name for name in products if parent.vectors.product_ids.find(name) is None}


@pytest.mark.long
def test_a_training_that_goes_on_names_its_ancestors_and_is_the_same_each_time(
    parent: Run, child: Run, grown: Dataset, tmp_path: Path
) -> None:
    assert same_bits(child, amzrec.train(grown, tmp_path / "again", start=parent))
    ancestor = child.info.ancestors[0]
    assert (ancestor.identity, ancestor.fingerprint) == (identity(parent), parent.info.fingerprint)
    assert ancestor.reviews == 240
    assert child.info.fingerprint != parent.info.fingerprint
    assert child.info.recipe["dim"] == 12
    assert open_weights(child.path).index.epochs == open_weights(parent.path).index.epochs
    more = tmp_path / "more.csv"
    more.write_text((HEADER + reviews_of(range(60), 14, 0))[:-1] + "\nlate,p1,5,Title odd\nlate,p3,5,Title odd\n")
    third = amzrec.train(more, tmp_path / "third", start=child, prepare=SPLIT)
    assert [each.identity for each in third.info.ancestors] == [identity(parent), identity(child)]


@pytest.mark.long
def test_a_training_that_goes_on_and_was_stopped_is_resumed_to_the_same_bits(
    parent: Run, child: Run, grown: Dataset, tmp_path: Path
) -> None:
    class Stopped(Silent):
        def say(self, line: str) -> None:
            if line.startswith("epoch 1: fitted"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        amzrec.train(grown, tmp_path / "run", start=parent, checkpoint_every="1", progress=Stopped())
    assert not (tmp_path / "run").exists()
    with pytest.raises(AmzrecError, match="from"):
        amzrec.train(grown, tmp_path / "run", parent_config(parent), resume=True)
    assert same_bits(child, amzrec.train(grown, tmp_path / "run", start=parent, resume=True))


@pytest.mark.slow
def test_a_run_that_was_updated_is_gone_on_from_and_its_new_reviews_are_learned(
    parent: Run, files: tuple[Path, Path, Path], grown: Dataset, tmp_path: Path
) -> None:
    from amzrec.training.start import Start

    updated = update(parent, files[1], tmp_path / "updated")
    start = Start.of(updated, grown)
    assert (start.customer_rows > 0).sum() == 60
    both = grown.train
    new = np.char.lstrip(np.array(grown.customers["customer_id"].to_pylist())[both.customer], "c").astype(int) >= 40
    assert np.array_equal(start.fresh(both), new)
    trained = amzrec.train(grown, tmp_path / "trained", start=updated)
    assert trained.info.ancestors[0].updates == 1


@pytest.mark.slow
def test_what_a_run_cannot_be_trained_on_is_refused_in_one_line(
    parent: Run, files: tuple[Path, Path, Path], grown: Dataset, tmp_path: Path
) -> None:
    run, out = str(parent.path), tmp_path / "out"

    def told(*words: str) -> str:
        found = CliRunner().invoke(app, ["train", *words, "--run", str(out)])
        assert found.exit_code == 1, found.output
        assert not out.exists()
        return " ".join(found.output.split())

    both = str(files[2])
    assert "--dim 24 contradicts" in told(both, "--from", run, "--dim", "24")
    assert "--history recent contradicts" in told(both, "--from", run, "--history", "recent")
    assert "--optimizer adagrad contradicts" in told(both, "--from", run, "--optimizer", "adagrad")
    assert "give one of them" in told(both, "--from", run, "--recipe", run)
    assert "learned rating and retrieval" in told(both, "--from", run, "--rating-weight", "0")
    assert "trained on all 240 reviews" in told(str(files[0]), "--from", run)
    assert "are to test it" in told(both, "--from", run, "--test", "0.3")
    other = tmp_path / "other.csv"
    other.write_text(HEADER + reviews_of(range(5), 12, 3).replace("c", "x"))
    assert "knows none of the customers" in told(str(other), "--from", run)
    other.write_text(HEADER + reviews_of(range(60), 14, 3) + "c1,p99,9,Other\n")
    assert "learned stars from 1 to 5" in told(str(other), "--from", run)
    assert "there is no run folder" in told(both, "--from", str(tmp_path / "nowhere"))
    bare = tmp_path / "bare"
    shutil.copytree(parent.path, bare)
    shutil.rmtree(bare / "weights")
    assert f"amzrec train SOURCE --recipe {bare}" in told(both, "--from", str(bare))
    with pytest.raises(AmzrecError, match="holds the source"):
        amzrec.train(grown, parent.path, start=parent, overwrite=True)
    index = tmp_path / "bad" / "weights" / "weights.json"
    shutil.copytree(parent.path, tmp_path / "bad")
    index.write_text(json.dumps(json.loads(index.read_text()) | {"format_version": 99}))
    with pytest.raises(AmzrecError, match="another version of amzrec"):
        amzrec.train(grown, out, start=tmp_path / "bad")
    (tmp_path / "bad" / "weights" / "seen_product.npy").unlink()
    shutil.copy(parent.path / "weights" / "weights.json", index)
    with pytest.raises(AmzrecError, match=r"is damaged: .*seen_product.npy"):
        amzrec.train(grown, out, start=tmp_path / "bad")


@pytest.mark.long
@pytest.mark.parametrize(
    "settings",
    [
        {"features": "ids", "optimizer": "adagrad", "learning_rate": 0.1, "svd_start": False, "refit": False},
        {"history": "recent", "negatives": "batch"},
        {"history": "recent", "mask_positives": False},
        {"retrieval_weight": 0.0, "average": 0.0},
        {"rating_weight": 0.0, "refit": False},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_every_kind_of_model_is_gone_on_from(
    files: tuple[Path, Path, Path], tmp_path: Path, eagerly: None, settings: dict[str, Any]
) -> None:
    dated = [tmp_path / "old.csv", tmp_path / "both.csv"]
    for file, to in zip((files[0], files[2]), dated, strict=True):
        head, *lines = file.read_text().rstrip("\n").split("\n")
        to.write_text("\n".join([f"{head},timestamp", *(f"{line},{day}" for day, line in enumerate(lines, 1))]))
    config = SMALL.replace(**settings, epochs=1)
    parent = amzrec.train(dated[0], tmp_path / "parent", config, prepare=SPLIT)
    child = amzrec.train(dated[1], tmp_path / "child", start=parent, prepare=SPLIT)
    names = {name for name in open_weights(child.path).index.files if not name.startswith("seen")}
    assert names == {name for name in open_weights(parent.path).index.files if not name.startswith("seen")}
    assert len(child.vectors.customer_ids) == 61
    assert child.info.ancestors[0].identity == identity(parent)


@pytest.mark.slow
def test_valid_reviews_that_a_run_was_fitted_on_judge_nothing(parent: Run, grown: Dataset) -> None:
    from amzrec.training.start import Start

    start = Start.of(parent, grown)
    fresh = start.fresh(start.dataset.valid)
    assert fresh.all()
    assert 0 < len(fresh) < len(grown.valid)
    assert len(start.dataset.train) + len(fresh) == len(grown.train) + len(grown.valid)
    assert dataclasses.replace(start, dataset=grown).with_judges().dataset.valid.product.tolist()


@pytest.mark.slow
def test_the_command_goes_on_and_tells(parent: Run, files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    words = [
        "train",
        str(files[2]),
        "--from",
        str(parent.path),
        "--epochs",
        "1",
        "--run",
        str(tmp_path / "run"),
        "--json",
    ]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    info = open_run(tmp_path / "run").info
    assert info.recipe["epochs"] == 1
    assert info.protocol is not None
    assert info.protocol.test == 0
    assert info.ancestors[0].run == str(parent.path)
