"""One training in its working folder, where its epochs are recorded and saved and the files of its run are written."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import platform
import shutil
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amzrec import __version__, heap, interrupts
from amzrec.config import Recipe
from amzrec.errors import AmzrecError, Progress
from amzrec.store.dataset import Dataset, Reviews
from amzrec.store.documents import plain
from amzrec.store.folders import make_private, private_folder
from amzrec.store.history import write_history
from amzrec.store.manifest import new_identity, write_manifest
from amzrec.store.ownership import RUN_FOLDER
from amzrec.store.run import CHECKPOINTS, RUN, Run, RunInfo, identity
from amzrec.store.vectors import VECTORS, Writing, write_vectors
from amzrec.store.weights import WEIGHTS, write_weights
from amzrec.training.often import Often
from amzrec.training.state import ATTEND, ATTEND_AGAIN, REFIT, SELECT, MemoryChoice, State

if TYPE_CHECKING:
    from amzrec.features.fitted import FittedReviews
    from amzrec.training.learner import Learner
    from amzrec.training.start import Start
    from amzrec.training.strategy import Replicas
    from amzrec.training.watch import Watch

NO_FOLDER = Path(os.devnull)  # nothing can be written below it
STATE = "state.json"  # file that says where an unfinished training stands
MEMORY = "memory.npz"  # file with the memory of pairs that was chosen
TABLES = "tables.npz"  # file with the tables of a task at its best epoch
ATTENTION = "attention.npz"  # file with the attention that was learned
WATCH = "watch.npz"  # file with what the towers say of valid, while attention is trained
LABELS = {SELECT: "choosing epochs", REFIT: "refit on train + valid"}
LABELS |= {ATTEND: "attention: choosing epochs", ATTEND_AGAIN: "attention: refit on train + valid"}


class Session:
    """A training under way: its dataset, recipe and state, and the folder that becomes the run when it is finished."""

    def __init__(
        self,
        dataset: Dataset,
        recipe: Recipe,
        work: Path | None,
        progress: Progress,
        tensorboard: bool = False,
        often: Often | None = None,
        start: Start | None = None,
    ) -> None:
        """Set up a training that begins in the folder `work`; call `open_state` before anything else.

        `start` is what it goes on from, whose dataset is `dataset` then; None: from scratch. A worker that is not the
        chief of its cluster has no folder, and calls `join` alone.
        """
        self.dataset, self.recipe, self.work, self.progress = dataset, recipe, work or NO_FOLDER, progress
        self.start = start
        self.logs = self.work / "tensorboard" if tensorboard else None
        self.started, self.often = time.monotonic(), often or Often()
        self.settings = settings_of(dataset, recipe, start.run if start else None)
        self.state = State(self.settings)
        self.earlier_seconds = 0.0  # that the training took before it was interrupted
        self.evaluated: dict[str, Any] | None = None  # figures of an earlier run of this recipe, for run.json
        self.chief = True  # whether this process judges and writes; of a cluster only one does

    @functools.cached_property
    def replicas(self) -> Replicas:
        """Return the replicas that train together: one, unless `join` says otherwise."""
        from amzrec.training.strategy import ONE

        return ONE

    def join(self, replicas: Replicas) -> None:
        """Train with the other workers of a cluster, from the state of the chief on, which has opened it.

        Raises AmzrecError where this worker has other settings or data than the chief.
        """
        self.replicas, self.chief = replicas, replicas.worker.chief
        state = replicas.agree(dataclasses.asdict(self.state))
        if self.chief:
            return
        self.state = State.of(state)
        if changed := self.state.changed(self.settings, anything=True):
            raise AmzrecError(
                f"worker {replicas.worker.number} has other settings or data than the chief ({', '.join(changed)}): "
                "give the same command to all workers"
            )

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
            self.progress.say(f"going on after {state.reached()}")
            self.state = dataclasses.replace(state, settings=self.settings)
            self.earlier_seconds = state.seconds
            return
        if file.exists() and not overwrite:
            raise AmzrecError(
                f"an unfinished training is in {self.work} (after {State.read(file).reached()}): go on with "
                "--resume, or begin again with --overwrite"
            )
        if resume:
            self.progress.say("there is no unfinished training of this name: beginning at the start")
        shutil.rmtree(self.work, ignore_errors=True)
        private_folder(self.work)
        (self.work / CHECKPOINTS).mkdir()
        self.state.replaces = overwrite

    def begin_phase(self, phase: str) -> None:
        """Go on to the next phase, which stands before its first epoch and needs no weights of the one before."""
        self.state = dataclasses.replace(self.state, phase=phase, epoch=0, step=0, checkpoint="")
        if not self.chief:
            return
        self.state.write(self.work / STATE)
        for left in (self.work / CHECKPOINTS).iterdir():
            if left.is_dir():  # TensorFlow was killed while it wrote a checkpoint
                shutil.rmtree(left)
            else:
                left.unlink()

    def resumed(self, learner: Learner, watch: Watch | None) -> bool:
        """Tell whether this phase goes on after some step; if so give the learner its weights, the watch its best."""
        if self.state.checkpoint:
            learner.restore(self.work / CHECKPOINTS / self.state.checkpoint if self.chief else None)
            if watch:
                watch.load(self.work / CHECKPOINTS / f"{self.state.checkpoint}.watch.npz", learner.fitted)
        return self.state.begun

    def epoch(self, learner: Learner, watch: Watch | None, phase: str, epochs: int) -> dict[str, float]:
        """Pass once more over the reviews, and return what the history records of it: seconds, speed and losses.

        `epochs` is how many there may be, for the label of the progress. A checkpoint is saved after a step where one
        is due, or where a signal asks to end, which is then raised. Raises AmzrecError for a loss that is no number.
        """
        state, started, number = self.state, time.monotonic(), self.state.epoch + 1
        plan, done = learner.epoch_plan, self.state.step

        def after_step(step: int) -> None:
            state.step = step
            self.often.steps += 1
            if interrupts.waits() or self.often.due():
                self.save(learner, watch)
            if interrupts.waits():
                raise KeyboardInterrupt

        label = f"{LABELS[phase]} {number}/{epochs}"
        with heap.reused():
            losses = learner.epoch(number, self.progress, label, self.logs, phase, done, after_step)
        seconds = time.monotonic() - started
        state.epoch, state.step = number, 0
        if not all(math.isfinite(value) for value in losses.values()):
            raise AmzrecError(
                f"the loss is no longer a number in epoch {number}: lower --learning-rate ({self.recipe.learning_rate})"
            )
        return {
            "seconds": round(seconds, 3),
            "examples_per_second": round((plan.steps - done) * plan.batch_size / seconds),
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

    def keep_snapshots(self, learner: Learner, tasks: list[str]) -> None:
        """Write what these tasks have learned by now into the working folder, where `finish` reads it."""
        from amzrec.training.snapshot import rating_snapshot, retrieval_snapshot
        from amzrec.training.weights import save_tables

        for task in tasks if self.chief else ():
            heap.give_back()
            # not kept in a variable: that of the task before would be held while the next one is made
            (rating_snapshot(learner) if task == "rating" else retrieval_snapshot(learner)).save(
                self.work / f"{task}.npz"
            )
            if task in self.recipe.tasks:
                save_tables(learner, self.work / f"{task}.{TABLES}")
            if task == "retrieval" and self.recipe.learns_votes and not len(self.dataset.valid):
                from amzrec.features.memory import LISTED_WITH

                self.state.choices.memory = MemoryChoice("order", 0.0, LISTED_WITH)
                self.keep_memory(learner.fitted)

    def keep_memory(self, fitted: FittedReviews) -> None:
        """Write the memory that was chosen, built from these reviews, for `finish` to read."""
        from amzrec.training.remember import memory_of
        from amzrec.training.snapshot import MemorySnapshot

        choice = self.state.choices.memory
        if choice is not None and self.chief:
            MemorySnapshot.of(memory_of(fitted, choice)).save(self.work / MEMORY)

    def checkpoint(self, learner: Learner, watch: Watch | None) -> None:
        """Save at the end of an epoch, where a checkpoint is due or a signal asks to end."""
        if interrupts.waits() or self.often.due(end_of_epoch=True):
            self.save(learner, watch)

    def save(self, learner: Learner, watch: Watch | None) -> None:
        """Save weights, optimizer, state and watch; the checkpoint before is removed when the new one is whole.

        Of a cluster the chief does it, at any time: it waits for nobody.
        """
        if not self.chief:
            return
        state, folder = self.state, self.work / CHECKPOINTS
        name = f"{state.phase}-{state.epoch}-{state.step}"
        if name == state.checkpoint:  # nothing was learned since
            return
        learner.save(folder / name)
        if watch:
            watch.save(folder / f"{name}.watch.npz")
        state.seconds = self.earlier_seconds + time.monotonic() - self.started
        old, state.checkpoint = state.checkpoint, name
        state.write(self.work / STATE)
        if old:
            for file in folder.glob(f"{old}.*"):
                file.unlink()
        self.often.saved()

    @contextlib.contextmanager
    def saving(self, learner: Learner, watch: Watch | None) -> Iterator[None]:
        """Save before an interrupt of the block goes on, which must leave the learner and the state as they are."""
        try:
            yield
        except KeyboardInterrupt:
            self.save(learner, watch)
            raise

    def finish(self, fit_parts: list[str]) -> None:
        """Write the files of the run: vectors/, weights/, history.csv and run.json; of a cluster the chief does.

        `fit_parts` are the parts of the dataset that the kept model was fitted on.
        """
        if not self.chief:
            return
        from amzrec.training.assembly import Learned, assemble
        from amzrec.training.attended import AttentionSnapshot
        from amzrec.training.release import give_back_memory
        from amzrec.training.snapshot import MemorySnapshot, RatingSnapshot, RetrievalSnapshot

        state, dataset = self.state, self.dataset
        retrieval, attention = RetrievalSnapshot.load(self.work / "retrieval.npz"), None
        share = state.choices.attention.share if state.choices.attention else 0.0
        if share:
            attention = AttentionSnapshot.load(self.work / ATTENTION)
            retrieval = attention.beside(retrieval, share)
        learned = Learned(
            RatingSnapshot.load(self.work / "rating.npz"),
            retrieval,
            MemorySnapshot.load(self.work / MEMORY) if state.choices.memory else None,
            state.choices.moment,
            attention.reader(share, float(retrieval.temperature)) if attention else None,
        )
        shutil.rmtree(self.work / VECTORS, ignore_errors=True)  # of an earlier try, where the disk was full
        read = "recent" if self.recipe.history == "sequence" and attention is None else self.recipe.history
        writing = Writing(self.work)
        write_vectors(self.work, assemble(dataset, learned, read, fit_parts, writing.put), writing)
        del learned, retrieval, attention
        give_back_memory()
        self.keep_weights(fit_parts)
        write_history(self.work, state.history)
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
            attention=None if state.choices.attention is None else dataclasses.asdict(state.choices.attention),
            moment=None if state.choices.moment is None else dataclasses.asdict(state.choices.moment),
            evaluated=self.evaluated,
            ancestors=() if self.start is None else self.start.ancestors,
            seconds=round(self.earlier_seconds + time.monotonic() - self.started, 1),
            versions=versions(),
            finished=time.time(),
            identity=new_identity(),
        )
        info.write(self.work / RUN)
        write_manifest(self.work, RUN_FOLDER)
        make_private(self.work)

    def keep_weights(self, fit_parts: list[str]) -> None:
        """Write `weights/`, from which `train --from` goes on."""
        from amzrec.training.weights import merged, steps_in, trained_on

        recipe, state, old = self.recipe, self.state, self.start and self.start.weights
        shutil.rmtree(self.work / WEIGHTS, ignore_errors=True)
        files = {task: self.work / f"{task}.{TABLES}" for task in recipe.tasks}
        fitted = Reviews.concat([getattr(self.dataset, part) for part in fit_parts])
        write_weights(
            self.work,
            merged(files, state.choices.best, recipe),
            trained_on(self.dataset, fitted, recipe),
            steps=max(steps_in(file) for file in files.values()),
            epochs=old.index.epochs if old else len(state.history),
        )


def settings_of(dataset: Dataset, recipe: Recipe, start: Run | None = None) -> dict[str, Any]:
    """Return what must be equal for a training to go on: settings, source, split, and the run that it started from."""
    fingerprint, protocol = dataset.info.fingerprint, plain(dataset.protocol)
    known = None if start is None else identity(start)
    return {"recipe": recipe.to_json(), "fingerprint": fingerprint, "protocol": protocol, "from": known}


def tidy(folder: Path) -> None:
    """Remove from the folder of a finished run what only an unfinished training needs."""
    tables = f"rating.{TABLES}", f"retrieval.{TABLES}"
    for name in ("rating.npz", "retrieval.npz", *tables, MEMORY, ATTENTION, WATCH, STATE):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def versions() -> dict[str, str]:
    """Return the versions of amzrec, Python and the libraries that training depends on."""
    names = ("tensorflow", "tf-keras", "tensorflow-recommenders", "numpy")
    return {"amzrec": __version__, "python": platform.python_version()} | {name: version(name) for name in names}
