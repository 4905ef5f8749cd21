"""Training end to end on the checkerboard, and what must never leak into a prediction."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import amzrec.training.attending
import amzrec.training.often
import amzrec.training.session
from amzrec.answers.recommender import Recommender
from amzrec.config import PrepareConfig, TrainConfig
from amzrec.errors import AmzrecError, Silent
from amzrec.store.dataset import Dataset, Reviews, open_dataset
from amzrec.store.run import Run, RunInfo
from amzrec.store.vectors import read_vectors

SMALL = TrainConfig(
    dim=12, epochs=20, patience=20, head=(8,), learning_rate=0.05, average=0.5, l2=0.01, l2_history=0.01, mask=0.0
)
TINY = SMALL.replace(epochs=3, patience=3)


def write_walks(folder: Path) -> Path:
    """Write reviews of 300 customers, each of whom walks up or down a circle of 12 products, five of them."""
    rng = np.random.default_rng(0)
    lines = ["customer,product,stars,timestamp"]
    for customer in range(300):
        start, way = rng.integers(0, 12), rng.choice([-1, 1])
        walk = [(start + way * step) % 12 for step in range(5)]
        lines += [f"c{customer},p{product},{rng.integers(1, 6)},{day}" for day, product in enumerate(walk, 1)]
    (folder / "walks.csv").write_text("\n".join(lines) + "\n")
    return folder / "walks.csv"


class Told(Silent):
    """A progress that remembers, and may stop the training after some line."""

    def __init__(self, stop_at: str = "") -> None:
        self.lines: list[str] = []
        self.stop_at = stop_at

    def say(self, line: str) -> None:
        self.lines.append(line)
        if self.stop_at and line.startswith(self.stop_at):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The checkerboard as a dataset."""
    from conftest import write_checkerboard

    return open_dataset(write_checkerboard(tmp_path_factory.mktemp("board") / "data"))


@pytest.fixture(scope="module")
def no_valid(board: Dataset) -> Dataset:
    """The same, valid among train: trained for the epochs that are asked for."""
    whole = dataclasses.replace(board)
    vars(whole)["train"] = Reviews.concat([board.train, board.valid])
    vars(whole)["valid"] = board.valid.take(np.zeros(0, np.int64))
    return whole


@pytest.fixture(scope="module")
def joint(board: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A joint training on it."""
    return amzrec.train(board, tmp_path_factory.mktemp("runs") / "joint", SMALL)


def same_vectors(one: Run, two: Run) -> bool:
    """Whether two runs learned exactly the same."""
    return all(
        np.array_equal(array, getattr(two.vectors, name), equal_nan=True)
        for name, array in one.vectors.arrays().items()
    )


@pytest.mark.slow
def test_each_customer_of_the_checkerboard_gets_the_product_that_was_withheld(joint: Run) -> None:
    recommender = Recommender(joint.vectors)
    found = [
        int(recommender.retrieve(recommender.query(u).retrieval[None], 1, [recommender.seen(u, [0, 1])[0]])[0][0, 0])
        for u in range(1, 21)
    ]
    assert np.mean(np.array(found) % 2 == np.arange(1, 21) % 2) > 0.9  # of the own parity; the only one left is u's


@pytest.mark.long
def test_in_bfloat16_as_well(board: Dataset, tmp_path: Path) -> None:
    run = amzrec.train(board, tmp_path / "half", SMALL.replace(precision="bfloat16"))
    assert run.vectors.retrieval_query.dtype == np.float32
    test_each_customer_of_the_checkerboard_gets_the_product_that_was_withheld(run)


def liked_and_disliked(run: Run) -> tuple[Any, Any]:
    """Predicted stars, not clipped, of each customer for the withheld product and for one of the other parity."""
    recommender, rows = Recommender(run.vectors), np.arange(1, 21, dtype=np.int32)
    queries = recommender.vectors.rating_query[rows]
    return tuple(recommender.rate(queries, products, clip=False) for products in (rows, np.roll(rows, -1)))  # type: ignore[return-value]


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["squared", "pairwise-hinge", "listmle"])
def test_the_stars_of_the_checkerboard_are_learned(no_valid: Dataset, tmp_path: Path, loss: str) -> None:
    # with plain towers: all customers and products have the same means here, so that a mean which leaves the target
    # out tells the target (it is higher by just what is missing), and the full features would learn only that
    config = SMALL.replace(features="ids", rating_loss=loss, retrieval_weight=0.0, epochs=60)
    liked, disliked = liked_and_disliked(amzrec.train(no_valid, tmp_path / loss, config))
    assert np.mean(liked > disliked + 0.5) > 0.9


@pytest.fixture(scope="module")
def whole(board: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small training that nothing interrupted."""
    return amzrec.train(board, tmp_path_factory.mktemp("whole") / "run", TINY)


@pytest.mark.slow
def test_nobody_else_may_read_a_run(whole: Run) -> None:
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (whole.path, *whole.path.rglob("*"))}
    assert modes == {0o700, 0o600}


@pytest.mark.long
def test_a_training_that_went_wrong_writes_no_run(
    board: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object) -> dict[str, Any]:
        return {"context": np.full((2, 21), np.nan, np.float32), "context_edges": np.zeros(1, np.int64)}

    monkeypatch.setattr("amzrec.training.assembly.context_arrays", wrong)
    with pytest.raises(AmzrecError, match=r"42 of the 42 numbers of context are none"):
        amzrec.train(board, tmp_path / "run", TINY)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_and_another_seed_another(board: Dataset, whole: Run, tmp_path: Path) -> None:
    assert same_vectors(whole, amzrec.train(board, tmp_path / "again", TINY))
    assert not same_vectors(whole, amzrec.train(board, tmp_path / "other", TINY.replace(seed=1, refit=False)))


@pytest.mark.long
def test_a_training_that_was_stopped_in_each_phase_goes_on_where_it_was(
    board: Dataset, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amzrec.training.often, "EPOCH_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        amzrec.train(board, tmp_path / "stopped", TINY, progress=Told("epoch 2: rmse"))
    assert not (tmp_path / "stopped").exists()
    with pytest.raises(AmzrecError, match="--resume"):
        amzrec.train(board, tmp_path / "stopped", TINY)
    with pytest.raises(AmzrecError, match="other settings"):
        amzrec.train(board, tmp_path / "stopped", TINY.replace(dim=6), resume=True)
    again, at_last = Told("epoch 1: fitted"), Told()
    with pytest.raises(KeyboardInterrupt):
        amzrec.train(board, tmp_path / "stopped", TINY, resume=True, progress=again)
    assert not (tmp_path / "stopped").exists()
    resumed = amzrec.train(board, tmp_path / "stopped", TINY, resume=True, progress=at_last)
    for told in (again, at_last):
        assert any(line.startswith("going on after epoch") for line in told.lines)
    assert not any(line.startswith("epoch 2: rmse") for line in at_last.lines), "the first phase was done"
    assert same_vectors(whole, resumed)


@pytest.mark.slow
def test_reviews_without_stars_train_retrieval_only(board: Dataset, tmp_path: Path) -> None:
    clicks = dataclasses.replace(board, info=dataclasses.replace(board.info, stars=None))
    for part in ("train", "valid", "test"):
        rows = getattr(board, part)
        vars(clicks)[part] = dataclasses.replace(rows, stars=np.full(len(rows), np.nan, np.float32))
    run = amzrec.train(clicks, tmp_path / "clicks", TINY.replace(refit=False))
    assert run.info.trained == ("retrieval",)
    assert run.vectors.head.mean is None


@pytest.mark.long
def test_of_two_products_as_frequent_the_one_with_heavy_counts_ranks_above_the_other(tmp_path: Path) -> None:
    """Each customer took one of both and two others; only the counts tell heavy and light apart."""
    rows = [(f"u{u}", "heavy" if u % 2 else "light", 900 if u % 2 else 1) for u in range(40)]
    rows += [(f"u{u}", f"p{p}", 30) for u in range(40) for p in (u // 2 % 3, 3 + u // 2 % 2)]
    file = tmp_path / "plays.csv"
    file.write_text("user,item,plays\n" + "".join(f"{u},{p},{n}\n" for u, p, n in rows))
    columns = "customer=user,product=item,stars=plays"
    for stars_are, heavier in (("counts", True), ("clicks", False)):
        config = PrepareConfig.of(columns=columns, stars_are=stars_are, test=0.0, valid=0.0)
        run = amzrec.train(file, tmp_path / stars_are, SMALL.replace(epochs=30), prepare=config)
        listed = amzrec.load(run.path).recommend("nobody", k=7)
        score = dict(zip(listed["product_id"], listed["score"], strict=True))
        assert (score["heavy"] > score["light"] + 1) == heavier, stars_are


@pytest.mark.long
def test_stars_that_are_all_equal_are_trained_on_when_asked(tmp_path: Path) -> None:
    file = tmp_path / "fives.csv"
    file.write_text("user,item,rating\n" + "".join(f"u{i % 12},p{i % 7},5\n" for i in range(84)))
    run = amzrec.train(file, tmp_path / "run", TINY, prepare=PrepareConfig(stars_are="stars"))
    assert run.info.trained == ("rating", "retrieval")
    assert amzrec.evaluate(run)["model"]["rating"]["rmse"] == pytest.approx(0, abs=0.01)
    assert amzrec.load(run.path).rate("u1", ["p1"])["stars"].tolist() == pytest.approx([5], abs=0.01)


def test_a_run_that_exists_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    RunInfo(finished=1.0).write(tmp_path / "there" / "run.json")
    with pytest.raises(AmzrecError, match="--overwrite"):
        amzrec.train("no such file", tmp_path / "there", TINY)


@pytest.mark.slow
def test_the_towers_of_the_reference_train_and_answer(board: Dataset, tmp_path: Path) -> None:
    config = TINY.replace(features="ids", optimizer="adagrad", dim=8, negatives="batch", refit=False)
    run = amzrec.train(board, tmp_path / "ids", config)
    assert not run.vectors.history_bag.any()
    assert run.info.best_epochs.keys() == {"rating", "retrieval"}


@pytest.mark.long
def test_other_ways_to_retrieve_learn_the_checkerboard_too(no_valid: Dataset, tmp_path: Path) -> None:
    ways: dict[str, dict[str, Any]] = {
        "batch": {"negatives": "batch", "hard_negatives": 5},
        "hidden": {"mask_positives": True},
    }
    for name, settings in ways.items():
        run = amzrec.train(no_valid, tmp_path / name, SMALL.replace(rating_weight=0.0, epochs=15, **settings))
        scores = run.vectors.retrieval_query[1:] @ run.vectors.retrieval_candidate[1:].T
        own = (np.arange(20)[:, None] % 2) == (np.arange(20) % 2)
        assert scores[own].mean() > scores[~own].mean(), name


@pytest.mark.long
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_attention_finds_the_next_product_and_reads_liked_ones_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """Every customer walks up or down a circle of 12 products, five of them; the last one is asked.

    Without the order both ends are as likely: at best every second answer would be right.
    """
    monkeypatch.setattr(amzrec.training.attending, "SHARES", (share,))
    dataset = amzrec.prepare(write_walks(tmp_path), tmp_path / "data", PrepareConfig(split="leave-last-out"))
    told = Told()
    config = SMALL.replace(history="sequence", memory=False, learning_rate=0.03, epochs=15)
    run = amzrec.train(dataset, tmp_path / "run", config, progress=told)
    assert run.info.attention
    assert run.info.attention["share"] == share
    said = {0.0: "the bag of recent, without attention", 0.5: "50% attention", 1.0: "attention alone"}
    assert any(f"valid ranks best by {said[share]}" in line for line in told.lines), "what valid chose is said"
    assert (run.vectors.head.history, run.vectors.attention is None) == (
        ("sequence", False) if share else ("recent", True)
    )
    assert "select" in set(pd.read_csv(run.path / "history.csv")["phase"])
    found = amzrec.evaluate(run)
    assert found["model"]["ranking"]["ndcg@10"] > 0.9
    assert found["model"]["rating"]["rmse"] < 2
    for walk, answer in ((["p3", "p4", "p5"], "p6"), (["p5", "p4", "p3"], "p2")):
        assert amzrec.recommend("nobody", run, k=1, liked=walk)["recommendations"][0]["product_id"] == answer
    known = read_vectors(run.path)
    recommender = Recommender(known)
    for name in ("c7", "c8"):
        row = recommender.customer(name)
        again = recommender.fold_in(row, np.zeros(0, np.int32))
        np.testing.assert_allclose(again.retrieval, known.retrieval_query[row], atol=1e-5)
    assert (amzrec.export(run, tmp_path / "export") / "saved_model").is_dir(), "whose answers export compares"


@pytest.mark.long
def test_where_retrieval_alone_is_learned_attention_trains_no_bag_beside_it(tmp_path: Path) -> None:
    dataset = amzrec.prepare(write_walks(tmp_path), tmp_path / "data", PrepareConfig(split="leave-last-out"))
    told = Told()
    config = SMALL.replace(history="sequence", rating_weight=0.0, learning_rate=0.03, epochs=15)
    run = amzrec.train(dataset, tmp_path / "run", config, progress=told)
    assert set(pd.read_csv(run.path / "history.csv")["phase"]) == {"attention", "attention refit"}
    assert run.info.best_epochs == {"retrieval": 0}
    assert any("valid ranks best by" in line and "popularity" in line for line in told.lines)
    assert amzrec.evaluate(run)["model"]["ranking"]["ndcg@10"] > 0.9


@pytest.mark.long
def test_a_bag_of_the_last_products_finds_the_next_one_and_reads_liked_products_in_their_order(tmp_path: Path) -> None:
    dataset = amzrec.prepare(write_walks(tmp_path), tmp_path / "data", PrepareConfig(split="leave-last-out"))
    told = Told()
    run = amzrec.train(dataset, tmp_path / "run", SMALL, progress=told)
    assert any("order tells what comes next" in line for line in told.lines), "--history auto chose it, on valid"
    assert run.info.recipe["history"] == "recent"
    found = amzrec.evaluate(run)
    assert found["model"]["ranking"]["ndcg@10"] > 0.9
    assert found["model"]["rating"]["rmse"] < 2
    for walk, answer in ((["p3", "p4", "p5"], "p6"), (["p5", "p4", "p3"], "p2")):
        assert amzrec.recommend("nobody", run, k=1, liked=walk)["recommendations"][0]["product_id"] == answer
    known = read_vectors(run.path)
    recommender = Recommender(known)
    again = recommender.fold_in(recommender.customer("c7"), np.zeros(0, np.int32))
    np.testing.assert_allclose(again.retrieval, known.retrieval_query[recommender.customer("c7")], atol=1e-5)
    assert (amzrec.export(run, tmp_path / "export") / "saved_model").is_dir(), "whose answers export compares"


def test_a_sequence_needs_times(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("customer,product,stars\nc,p,5\nd,q,4\nc,q,3\n")
    dataset = amzrec.prepare(tmp_path / "reviews.csv", tmp_path / "data", PrepareConfig(test=1e-9, valid=0))
    with pytest.raises(AmzrecError, match="needs the time of every review"):
        amzrec.train(dataset, tmp_path / "run", TrainConfig(history="sequence"))
