"""One training in its working folder, where its epochs are recorded and saved and the files of its run are written."""

from __future__ import annotations

import csv
import dataclasses
import math
import platform
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amzrec import __version__
from amzrec.config import Recipe
from amzrec.errors import AmzrecError, Progress
from amzrec.store.dataset import Dataset
from amzrec.store.documents import plain
from amzrec.store.folders import make_private, private_folder
from amzrec.store.run import CHECKPOINTS, HISTORY, RUN, RunInfo
from amzrec.store.vectors import VECTORS, write_vectors
from amzrec.training.state import REFIT, SELECT, MemoryChoice, State

if TYPE_CHECKING:
    from amzrec.features.fitted import FittedReviews
    from amzrec.training.learner import Learner
    from amzrec.training.watch import Watch

CHECKPOINT_SECONDS = 30.0  # least time between two checkpoints
STATE = "state.json"  # file that says where an unfinished training stands
MEMORY = "memory.npz"  # file with the memory of pairs that was chosen
LABELS = {SELECT: "choosing epochs", REFIT: "refit on train + valid"}


class Session:
    """A training under way: its dataset, recipe and state, and the folder that becomes the run when it is finished."""

    def __init__(self, dataset: Dataset, recipe: Recipe, work: Path, progress: Progress, tensorboard: bool) -> None:
        """Set up a training that begins in the folder `work`; call `open_state` before anything else."""
        self.dataset, self.recipe, self.work, self.progress = dataset, recipe, work, progress
        self.logs = work / "tensorboard" if tensorboard else None
        self.started = self.saved = time.monotonic()
        self.settings = {
            "recipe": recipe.to_json(),
            "fingerprint": dataset.info.fingerprint,
            "protocol": plain(dataset.protocol),
        }
        self.state = State(self.settings)
        self.earlier_seconds = 0.0  # that the training took before it was interrupted
        self.evaluated: dict[str, Any] | None = None  # figures of an earlier run of this recipe, for run.json

    def open_state(self, resume: bool, overwrite: bool) -> None:
        """Begin in a fresh working folder, or with `resume` go on with the unfinished training that is there.

        Raises AmzrecError where one is there that is neither resumed nor overwritten, and where the one to be resumed
        had other settings or data.
        """
        file = self.work / STATE
        if file.exists() and resume:
            state = State.read(file)
            if changed := state.changed(self.settings):
                raise AmzrecError(
                    f"the unfinished training in {self.work} had other settings or data ({', '.join(changed)}): "
                    "repeat its command with --resume, or begin again with --overwrite"
                )
            self.progress.say(f"going on after epoch {state.epoch} of {state.phase}")
            self.state = dataclasses.replace(state, settings=self.settings)
            self.earlier_seconds = state.seconds
            return
        if file.exists() and not overwrite:
            raise AmzrecError(
                f"an unfinished training is in {self.work} (epoch {State.read(file).epoch}): go on with --resume, "
                "or begin again with --overwrite"
            )
        if resume:
            self.progress.say("there is no unfinished training of this name: beginning at the start")
        shutil.rmtree(self.work, ignore_errors=True)
        private_folder(self.work)
        (self.work / CHECKPOINTS).mkdir()

    def begin_phase(self, phase: str) -> None:
        """Go on to the next phase, which stands before its first epoch."""
        self.state = dataclasses.replace(self.state, phase=phase, epoch=0, checkpoint="")

    def resumed(self, learner: Learner, watch: Watch | None) -> bool:
        """Tell whether this phase goes on after some epoch; if so give the learner its weights, the watch its best."""
        if self.state.checkpoint:
            learner.restore(self.work / CHECKPOINTS / self.state.checkpoint)
            if watch:
                watch.load(self.work / CHECKPOINTS / f"{self.state.checkpoint}.watch.npz", learner.fitted)
        return self.state.epoch > 0

    def epoch(self, learner: Learner, phase: str, epochs: int) -> dict[str, float]:
        """Pass once more over the reviews, and return what the history records of it: seconds, speed and losses.

        `epochs` is how many there may be, for the label of the progress. Raises AmzrecError for a loss that is no
        number.
        """
        state, started, number = self.state, time.monotonic(), self.state.epoch + 1
        losses = learner.epoch(number, self.progress, f"{LABELS[phase]} {number}/{epochs}", self.logs, phase)
        seconds = time.monotonic() - started
        state.epoch = number
        if not all(math.isfinite(value) for value in losses.values()):
            raise AmzrecError(
                f"the loss is no longer a number in epoch {number}: lower --learning-rate ({self.recipe.learning_rate})"
            )
        return {
            "seconds": round(seconds, 3),
            "examples_per_second": round(learner.epoch_plan.reviews / seconds),
        } | losses

    def record(self, facts: dict[str, float], figures: dict[str, float]) -> None:
        """Add the present epoch to the history and tell how it went.

        `facts` is what `epoch` returned, `figures` what was measured on valid.
        """
        state = self.state
        rounded = {name: round(value, 6) for name, value in figures.items()}
        state.history.append({"phase": state.phase, "epoch": state.epoch, **facts, **rounded})
        shown = " ".join(f"{k.removeprefix('valid_')} {v:.4f}" for k, v in figures.items() if math.isfinite(v))
        self.progress.say(f"epoch {state.epoch}: {shown or 'fitted'}, {facts['examples_per_second']:,} examples/s")
        state.seconds = self.earlier_seconds + time.monotonic() - self.started

    def keep_snapshots(self, learner: Learner, tasks: list[str]) -> None:
        """Write what these tasks have learned by now into the working folder, where `finish` reads it."""
        from amzrec.training.snapshot import rating_snapshot, retrieval_snapshot

        for task in tasks:
            snapshot = rating_snapshot(learner) if task == "rating" else retrieval_snapshot(learner)
            snapshot.save(self.work / f"{task}.npz")
            if task == "retrieval" and self.recipe.learns_votes and not len(self.dataset.valid):
                from amzrec.features.memory import LISTED_WITH

                self.state.choices.memory = MemoryChoice("order", 0.0, LISTED_WITH)
                self.keep_memory(learner.fitted)

    def keep_memory(self, fitted: FittedReviews) -> None:
        """Write the memory that was chosen, built from these reviews, for `finish` to read."""
        from amzrec.training.remember import memory_of
        from amzrec.training.snapshot import MemorySnapshot

        choice = self.state.choices.memory
        if choice is not None:
            MemorySnapshot.of(memory_of(fitted, choice)).save(self.work / MEMORY)

    def checkpoint(self, learner: Learner, watch: Watch | None) -> None:
        """Save weights, optimizer, state and watch, unless that was done less than CHECKPOINT_SECONDS ago.

        The checkpoint before is removed when the new one is whole.
        """
        if time.monotonic() - self.saved < CHECKPOINT_SECONDS:
            return
        state, folder = self.state, self.work / CHECKPOINTS
        old, state.checkpoint = state.checkpoint, f"{state.phase}-{state.epoch}"
        learner.save(folder / state.checkpoint)
        if watch:
            watch.save(folder / f"{state.checkpoint}.watch.npz")
        state.write(self.work / STATE)
        if old and old != state.checkpoint:
            for file in folder.glob(f"{old}.*"):
                file.unlink()
        self.saved = time.monotonic()

    def finish(self, fit_parts: list[str]) -> None:
        """Write the files of the run: vectors/, history.csv and run.json.

        `fit_parts` are the parts of the dataset that the kept model was fitted on.
        """
        from amzrec.training.assembly import Learned, assemble
        from amzrec.training.snapshot import MemorySnapshot, RatingSnapshot, RetrievalSnapshot

        state, dataset = self.state, self.dataset
        learned = Learned(
            RatingSnapshot.load(self.work / "rating.npz"),
            RetrievalSnapshot.load(self.work / "retrieval.npz"),
            MemorySnapshot.load(self.work / MEMORY) if state.choices.memory else None,
            state.choices.moment,
        )
        shutil.rmtree(self.work / VECTORS, ignore_errors=True)  # of an earlier try, where the disk was full
        write_vectors(self.work, assemble(dataset, learned, self.recipe.history, fit_parts))
        columns = list(dict.fromkeys(key for row in state.history for key in row))
        with (self.work / HISTORY).open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(state.history)
        info = RunInfo(
            recipe=self.recipe.to_json(),
            trained=self.recipe.tasks,
            protocol=dataset.protocol,
            dataset=str(dataset.path.resolve()),
            fingerprint=dataset.info.fingerprint,
            source=dataset.info.source,
            fit_parts=tuple(fit_parts),
            best_epochs=state.choices.best,
            half_life=state.choices.half_life,
            trend=state.choices.trend,
            all_time_now=state.choices.all_time_now,
            svd_start=state.choices.svd_start,
            memory=None if state.choices.memory is None else dataclasses.asdict(state.choices.memory),
            moment=None if state.choices.moment is None else dataclasses.asdict(state.choices.moment),
            evaluated=self.evaluated,
            seconds=round(self.earlier_seconds + time.monotonic() - self.started, 1),
            versions=versions(),
            finished=time.time(),
        )
        info.write(self.work / RUN)
        make_private(self.work)


def tidy(folder: Path) -> None:
    """Remove from the folder of a finished run what only an unfinished training needs."""
    for name in ("rating.npz", "retrieval.npz", MEMORY, STATE):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def versions() -> dict[str, str]:
    """Return the versions of amzrec, Python and the libraries that training depends on."""
    names = ("tensorflow", "tf-keras", "tensorflow-recommenders", "numpy")
    return {"amzrec": __version__, "python": platform.python_version()} | {name: version(name) for name in names}
