"""Trainings that do not go well: interrupted, out of disk, damaged, in each other's way. Nothing half-made is a run."""

from __future__ import annotations

import csv
import json
import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import amzrec.training.often
import amzrec.training.session
from amzrec.commands.train import train
from amzrec.config import TrainConfig
from amzrec.errors import AmzrecError, Silent
from amzrec.interrupts import Interrupted
from amzrec.store.dataset import Dataset
from amzrec.store.locks import alone
from amzrec.store.run import Run, finished_runs, open_run
from amzrec.store.vectors import Writing
from amzrec.training.session import STATE
from amzrec.training.state import State
from fits import dataset_of, random_reviews, reviews_of

CONFIG = TrainConfig(dim=6, head=(), own_vector=3, epochs=2, patience=9, retrieval_weight=0.0, refit=False)


class Stop(Silent):
    """Interrupts, as Ctrl-C does, when some line is said."""

    def __init__(self, line: str) -> None:
        self.line = line

    def say(self, line: str) -> None:
        if line.startswith(self.line):
            raise KeyboardInterrupt


class CtrlC(Silent):
    """Lets the process hear Ctrl-C when a line is said, or after a step."""

    def __init__(self, label: str, step: int | None = None) -> None:
        self.label, self.at = label, step

    def say(self, line: str) -> None:
        if self.at is None and line.startswith(self.label):
            signal.raise_signal(signal.SIGINT)

    def step(self, label: str, done: int, total: int, note: str = "") -> None:
        if label.startswith(self.label) and done == self.at:
            signal.raise_signal(signal.SIGINT)


class Said(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def losses(run: Run) -> list[dict[str, str]]:
    """The history of a run without what depends on the clock."""
    with (run.path / "history.csv").open() as file:
        return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)]


@pytest.fixture(scope="module", autouse=True)
def _eagerly_and_with_every_checkpoint() -> Iterator[None]:
    """Without a graph, whose tracing would take longer than these trainings; a checkpoint after each epoch."""
    from amzrec.training.learner import tf

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(amzrec.training.often, "EPOCH_SECONDS", 0.0)
        tf.config.run_functions_eagerly(True)
        yield
        tf.config.run_functions_eagerly(False)


pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")


@pytest.fixture(scope="module")
def data() -> Dataset:
    """A few reviews with a valid part."""
    return dataset_of(random_reviews(), reviews_of([(1, 1, 2.0), (4, 3, 4.0)], [10.0, 350.0]))


@pytest.fixture(scope="module")
def interrupted(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder of a training that was interrupted in its second epoch."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.raises(KeyboardInterrupt):
        train(data, folder / "run", CONFIG, progress=Stop("epoch 2"))
    return folder / ".run.training"


@pytest.fixture
def unfinished(interrupted: Path, tmp_path: Path) -> Path:
    """The place of such a training."""
    shutil.copytree(interrupted, tmp_path / ".run.training")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def done(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same training, not interrupted."""
    return train(data, tmp_path_factory.mktemp("done") / "run", CONFIG)


def left(folder: Path) -> list[str]:
    """What lies in a folder, without the numbered folders that the runs in it lead to."""
    led = {f".{path.name}" for path in folder.iterdir() if path.is_symlink()}
    return sorted(path.name for path in folder.iterdir() if path.name not in led)


def same(one: Run, two: Run) -> bool:
    """Whether two runs learned the same to the last bit."""
    first, second = one.vectors.arrays(), two.vectors.arrays()
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name], equal_nan=True) for name in first
    )


def test_a_finished_run_holds_its_answers_and_nothing_that_only_resuming_needs(done: Run) -> None:
    assert left(done.path.parent) == ["run"]
    assert left(done.path) == ["history.csv", "manifest.json", "run.json", "vectors", "weights"]
    assert done.info.trained == ("rating",)


def test_interrupted_before_the_first_checkpoint_nothing_is_left(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amzrec.training.often, "EPOCH_SECONDS", 999.0)
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "run", CONFIG, progress=Stop("epoch 1"))
    assert left(tmp_path) == []


@pytest.mark.slow
def test_a_run_that_cannot_be_written_at_the_end_is_resumed_and_is_the_same(
    data: Dataset, done: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Writing.put

    def full(writing: Writing, name: str, array: Any) -> Any:
        if name != "seen_product":
            return put(writing, name, array)
        (writing.target / f"{name}.npy").write_text("half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Writing, "put", full)
        with pytest.raises(AmzrecError, match=r"No space left.*--resume"):
            train(data, tmp_path / "run", CONFIG)
    assert not (tmp_path / "run").exists()
    assert finished_runs(tmp_path) == []
    run = train(data, tmp_path / "run", CONFIG, resume=True)
    assert same(run, done)
    assert left(run.path / "vectors") == left(done.path / "vectors")
    assert left(tmp_path) == ["run"]


@pytest.mark.parametrize("checkpoints", [True, False])
def test_a_full_disk_is_one_clear_error_and_leaves_nothing_that_looks_like_a_run(
    data: Dataset, tmp_path: Path, checkpoints: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amzrec.training.often, "EPOCH_SECONDS", 0.0 if checkpoints else 999.0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, before[1]))
    try:
        with pytest.raises(AmzrecError, match=r"cannot write the run folder .*nothing was left there"):
            train(data, tmp_path / "run", CONFIG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert left(tmp_path) == []


def test_two_trainings_into_one_folder_are_one_clear_error_and_the_first_goes_on(
    data: Dataset, unfinished: Path, done: Run
) -> None:
    with alone(unfinished):
        before = left(unfinished.parent)
        for resume in (True, False):
            with pytest.raises(AmzrecError, match=r"another training is writing .*run now.*--run"):
                train(data, unfinished, CONFIG, resume=resume, overwrite=not resume)
        assert left(unfinished.parent) == before
    assert same(train(data, unfinished, CONFIG, resume=True), done)
    assert left(unfinished.parent) == ["run"]


def test_a_file_where_the_run_should_go_is_one_clear_error(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(AmzrecError, match="cannot write the run folder"):
        train(data, tmp_path / "file" / "run", CONFIG)
    with pytest.raises(AmzrecError, match="is a file"):
        train(data, tmp_path / "file", CONFIG, overwrite=True)
    assert (tmp_path / "file").read_text() == "mine"


# --- going on


def test_going_on_may_ask_for_more_epochs(data: Dataset, unfinished: Path) -> None:
    run = train(data, unfinished, CONFIG.replace(epochs=3, patience=4), resume=True)
    assert len((run.path / "history.csv").read_text().splitlines()) == 1 + 3
    assert run.info.recipe["epochs"] == 3


def test_going_on_with_other_settings_or_data_names_what_differs(data: Dataset, unfinished: Path) -> None:
    with pytest.raises(AmzrecError, match=r"--dim, --seed.*--overwrite"):
        train(data, unfinished, CONFIG.replace(dim=9, seed=1, epochs=9), resume=True)
    other = dataset_of(data.train, data.valid, fingerprint="another")
    with pytest.raises(AmzrecError, match="fingerprint"):
        train(other, unfinished, CONFIG, resume=True)
    assert json.loads((unfinished.parent / ".run.training" / STATE).read_text())["epoch"] == 1


def test_what_was_reached_is_not_thrown_away_unasked(data: Dataset, unfinished: Path) -> None:
    with pytest.raises(AmzrecError, match=r"epoch 1.*--resume"):
        train(data, unfinished, CONFIG)
    train(data, unfinished, CONFIG.replace(epochs=1), overwrite=True)
    assert left(unfinished.parent) == ["run"]


@pytest.mark.parametrize("damage", ["state", "version", "checkpoint"])
def test_a_damaged_unfinished_training_is_one_clear_error(data: Dataset, unfinished: Path, damage: str) -> None:
    work = unfinished.parent / ".run.training"
    if damage == "checkpoint":
        for file in (work / "checkpoints").iterdir():
            file.unlink()
    else:
        (work / STATE).write_text('{"phase": "sel' if damage == "state" else '{"stage": 3}')
    with pytest.raises(AmzrecError, match=r"cannot be read .*--overwrite"):
        train(data, unfinished, CONFIG, resume=True)


def test_what_was_left_of_a_checkpoint_that_was_being_written_is_removed(
    data: Dataset, done: Run, unfinished: Path
) -> None:
    half = unfinished.parent / ".run.training" / "checkpoints" / "select-1-1_temp"  # of TensorFlow, killed meanwhile
    half.mkdir()
    (half / "part-00000-of-00001.data-00000-of-00001.tempstate1").touch()
    assert same(train(data, unfinished, CONFIG, resume=True), done)
    assert left(unfinished.parent) == ["run"]


def test_with_nothing_to_go_on_with_it_begins_at_the_start(data: Dataset, tmp_path: Path) -> None:
    assert train(data, tmp_path / "run", CONFIG.replace(epochs=1), resume=True).info.best_epochs


@pytest.mark.long
def test_going_on_in_the_middle_of_an_epoch_ends_the_same_to_the_last_bit(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amzrec.training.often, "EPOCH_SECONDS", 999.0)
    config = CONFIG.replace(batch_size=10, retrieval_weight=1.0, refit=True)
    whole = train(data, tmp_path / "whole", config)
    stops = [("choosing epochs 1", 2), ("choosing epochs 2", 4), ("refit", 1)]
    for label, step in stops:
        with pytest.raises(Interrupted, match=rf"step {step} of epoch .*--resume"):
            train(data, tmp_path / "run", config, resume=True, progress=CtrlC(label, step))
    run = train(data, tmp_path / "run", config, resume=True)
    assert same(run, whole)
    assert losses(run) == losses(whole)
    assert left(tmp_path) == ["run", "whole"]


def test_an_interrupt_while_an_epoch_is_judged_waits_for_its_end(
    data: Dataset, done: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(amzrec.training.often, "EPOCH_SECONDS", 999.0)
    with pytest.raises(Interrupted, match="after epoch 1 of choosing epochs"):
        train(data, tmp_path / "run", CONFIG, progress=CtrlC("epoch 1:"))
    assert same(train(data, tmp_path / "run", CONFIG, resume=True), done)


def test_interrupted_while_its_vectors_are_written_nothing_is_trained_again(
    data: Dataset, done: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Writing.put

    def write(writing: Writing, name: str, array: Any) -> Any:
        if name == "rating_query":
            raise KeyboardInterrupt
        return put(writing, name, array)

    with monkeypatch.context() as patch:
        patch.setattr(Writing, "put", write)
        with pytest.raises(Interrupted, match="vectors left to write"):
            train(data, tmp_path / "run", CONFIG)
    monkeypatch.setattr(amzrec.training.session.Session, "epoch", None)
    assert same(train(data, tmp_path / "run", CONFIG, resume=True), done)


def test_a_checkpoint_is_saved_after_so_many_steps(data: Dataset, tmp_path: Path) -> None:
    config = CONFIG.replace(batch_size=10)
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "run", config, checkpoint_every="3", progress=Stop("epoch 2"))
    state = State.read(tmp_path / ".run.training" / STATE)
    steps = len(data.train) // 10 + 1
    assert state.epoch * steps + state.step == 2 * steps // 3 * 3
    for wrong in ("0", "10 minutes", "1.5h", "-3"):
        with pytest.raises(AmzrecError, match=r"--checkpoint-every.*10m"):
            train(data, tmp_path / "other", checkpoint_every=wrong)


@pytest.mark.long
def test_a_replacement_that_was_interrupted_goes_on_without_being_allowed_again(data: Dataset, tmp_path: Path) -> None:
    before = train(data, tmp_path / "run", CONFIG.replace(epochs=1))
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "run", CONFIG, overwrite=True, progress=Stop("epoch 2"))
    assert open_run(tmp_path / "run").info == before.info
    assert train(data, tmp_path / "run", CONFIG, resume=True).info.recipe["epochs"] == CONFIG.epochs


def test_a_finished_run_is_not_trained_again(data: Dataset, done: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    said = Said()
    with monkeypatch.context() as patch:
        patch.setattr(amzrec.training.session.Session, "open_state", None)
        for overwrite in (False, True):
            again = train(data, done.path, CONFIG, resume=True, overwrite=overwrite, progress=said)
            assert again.info == done.info
    assert said.lines == [f"the run {done.path} is trained: its evaluation is left"] * 2
    with pytest.raises(AmzrecError, match=r"other settings or data \(--seed\).*in place of --resume"):
        train(data, done.path, CONFIG.replace(seed=3), resume=True)
    with pytest.raises(AmzrecError, match="--epochs"):
        train(data, done.path, CONFIG.replace(epochs=3), resume=True)


# --- names and places


@pytest.mark.long
def test_the_default_name_tells_the_tasks_and_is_never_taken_twice(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = CONFIG.replace(epochs=1)
    assert train(data, config=short).path == Path("runs/rating")
    with pytest.raises(KeyboardInterrupt):
        train(data, config=CONFIG, progress=Stop("epoch 2"))
    assert left(Path("runs")) == [".rating-2.training", "rating"]
    assert train(data, config=CONFIG, resume=True).path == Path("runs/rating-2")
    assert open_run().path == Path("runs/rating-2"), "the latest"


@pytest.mark.long
def test_an_interrupted_replacement_keeps_the_old_run(data: Dataset, tmp_path: Path) -> None:
    short = CONFIG.replace(epochs=1)
    before = train(data, tmp_path / "run", short).info
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "run", short.replace(seed=7), overwrite=True, progress=Stop("epoch 1"))
    assert open_run(tmp_path / "run").info == before
    after = train(data, tmp_path / "run", short.replace(seed=7), overwrite=True).info
    assert after.recipe["seed"] == 7
    assert left(tmp_path) == ["run"]


def test_a_folder_that_is_no_run_is_never_replaced(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("cat")
    with pytest.raises(AmzrecError, match="no run folder"):
        train(data, tmp_path / "photos", CONFIG, overwrite=True)
    assert left(tmp_path / "photos") == ["cat.jpg"]


def test_a_loss_that_is_no_number_is_one_clear_error(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(AmzrecError, match=r"no longer a number.*--learning-rate"):
        train(data, tmp_path / "run", CONFIG.replace(learning_rate=1e30, epochs=3))
    assert not (tmp_path / "run").exists()
