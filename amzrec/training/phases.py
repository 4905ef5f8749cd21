"""One training: its phases, its state and checkpoints, and the files of the run it ends in."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import platform
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from amzrec import __version__
from amzrec.arrays import offsets_of
from amzrec.config import TrainConfig, flag
from amzrec.errors import AmzrecError, Progress
from amzrec.features.batches import SHRINK_CUSTOMER, bias_scale, fit_rows, with_prior, with_trend
from amzrec.features.popularity import HALF_LIVES
from amzrec.store.dataset import PARTS, Dataset, Reviews
from amzrec.store.documents import plain
from amzrec.store.run import CHECKPOINTS, HISTORY, RUN, TASKS, RunInfo
from amzrec.store.strings import Strings, feature_lists
from amzrec.store.vectors import VECTORS, Head, Vectors, write_vectors

if TYPE_CHECKING:
    from amzrec.features.batches import Fit
    from amzrec.training.learner import Learner, Watch

WATCHED = 20_000  # most valid reviews that an epoch is judged by
CHECKPOINT_SECONDS = 30.0  # least time between two checkpoints
STATE = "state.json"

Arrays = dict[str, np.ndarray[Any, Any]]


def tasks_of(config: TrainConfig) -> list[str]:
    """The tasks with a weight."""
    return [task for task in TASKS if getattr(config, f"{task}_weight") > 0]


@dataclasses.dataclass
class State:
    """Where a training stands: what a checkpoint holds beside the weights."""

    phase: str = "select"  # select: fitted on train, judged on valid; refit: fitted on train + valid
    epoch: int = 0  # finished epochs of this phase
    best: dict[str, int] = dataclasses.field(default_factory=dict)  # epoch by task, 0: as it started
    figures: dict[str, float] = dataclasses.field(default_factory=dict)  # of the best epochs, by task
    half_life: float | None = None  # days of the popularity prior, None: all time
    trend: bool = False  # whether the trend of the stars over time lowered the error on valid
    svd_start: bool = False  # whether starting at singular vectors ranks valid better than popularity does
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    checkpoint: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)  # configuration and fingerprint, to be equal

    @classmethod
    def read(cls, file: Path) -> State:
        """The state of an unfinished training; AmzrecError where it is damaged or of another version."""
        try:
            return cls(**json.loads(file.read_text()))
        except (ValueError, TypeError) as error:
            raise AmzrecError(
                f"the unfinished training in {file.parent} cannot be read ({error}): begin again with --overwrite"
            ) from error

    def changed(self, settings: dict[str, Any]) -> list[str]:
        """What is not as it was; epochs and patience may change as long as epochs are being chosen."""
        free = ("epochs", "patience") if self.phase == "select" else ()
        old, new = self.settings["config"], settings["config"]
        flags = [flag(name) for name in new if name not in free and old.get(name) != new[name]]
        return flags + [name for name in ("fingerprint", "protocol") if self.settings[name] != settings[name]]


class Training:
    """One training in its working folder."""

    def __init__(
        self,
        dataset: Dataset,
        config: TrainConfig,
        work: Path,
        resume: bool,
        overwrite: bool,
        tensorboard: bool,
        progress: Progress,
    ) -> None:
        self.dataset, self.config, self.work, self.progress = dataset, config, work, progress
        self.tensorboard = tensorboard
        self.tasks = tasks_of(config)
        if np.isnan(dataset.train.stars).all():
            self.tasks = ["retrieval"]
        self.started = time.monotonic()
        self.saved = self.started
        settings = {
            "config": config.to_json(),
            "fingerprint": dataset.info.fingerprint,
            "protocol": plain(dataset.protocol),
        }
        self.state = self.begin(settings, resume, overwrite)
        self.before = self.state.seconds

    def begin(self, settings: dict[str, Any], resume: bool, overwrite: bool) -> State:
        """A fresh working folder, or the state of the unfinished training that is there."""
        file = self.work / STATE
        if file.exists() and resume:
            state = State.read(file)
            if changed := state.changed(settings):
                raise AmzrecError(
                    f"the unfinished training in {self.work} had other settings or data ({', '.join(changed)}): "
                    "repeat its command with --resume, or begin again with --overwrite"
                )
            self.progress.say(f"going on after epoch {state.epoch} of {state.phase}")
            return dataclasses.replace(state, settings=settings)
        if file.exists() and not overwrite:
            raise AmzrecError(
                f"an unfinished training is in {self.work} (epoch {State.read(file).epoch}): go on with --resume, "
                "or begin again with --overwrite"
            )
        if resume:
            self.progress.say("there is no unfinished training of this name: beginning at the start")
        shutil.rmtree(self.work, ignore_errors=True)
        (self.work / CHECKPOINTS).mkdir(parents=True)
        return State(settings=settings)

    def run(self) -> None:
        """Both phases, then the folder's files."""
        from amzrec.model.keras2 import graphs_as_written, import_tensorflow

        self.progress.say("starting TensorFlow")
        gpus = import_tensorflow().config.list_physical_devices("GPU")
        self.progress.say(f"training on {len(gpus)} GPU" if gpus else "training on the CPU (TensorFlow sees no GPU)")
        refit = self.config.refit and len(self.dataset.valid) > 0
        with graphs_as_written():
            if self.state.phase == "select":
                self.phase(self.dataset.train, self.config.epochs, snapshots=not refit)
                if refit:
                    self.state = dataclasses.replace(self.state, phase="refit", epoch=0, checkpoint="")
            if refit:
                both = Reviews.concat([self.dataset.train, self.dataset.valid])
                self.phase(both, max(self.state.best.values()), snapshots=True)
        self.finish(["train", "valid"] if refit else ["train"])

    def phase(self, reviews: Reviews, epochs: int, snapshots: bool) -> None:
        """Fit on these reviews for at most `epochs`; in select, valid says how long."""
        from amzrec.training.learner import Watch

        state, config = self.state, self.config
        fit = fit_rows(self.dataset, reviews, config)
        judged = state.phase == "select" and len(self.dataset.valid) > 0
        if judged and state.epoch == 0 and not config.shared and self.dataset.has_time:
            choices = [None, *HALF_LIVES]
            trials = {
                days: Watch(self.dataset, with_prior(fit, reviews, days), WATCHED, config.seed) for days in choices
            }
            state.half_life = max(choices, key=lambda days: trials[days].prior_figure())
        fit = with_prior(fit, reviews, state.half_life)
        if judged and state.epoch == 0 and not config.shared and self.dataset.has_time:
            state.trend = Watch(self.dataset, with_trend(fit), WATCHED, config.seed).trend_gain() > 0
        fit = with_trend(fit) if state.trend else fit
        watch = Watch(self.dataset, fit, WATCHED, config.seed) if judged else None
        learner = self.learner(fit, watch)
        learner.steps()
        if state.checkpoint:
            learner.restore(self.work / CHECKPOINTS / state.checkpoint)
        elif state.epoch == 0:
            self.judge(learner, watch, 0, {}, snapshots)
        while state.epoch < epochs and not (watch and self.tired()):
            self.epoch(learner, watch, epochs, snapshots)
        if not watch and state.phase == "select":
            state.best = dict.fromkeys(self.tasks, state.epoch)
            for task in self.tasks:
                self.keep(learner, task)

    def learner(self, fit: Fit, watch: Watch | None) -> Learner:
        """The untrained model; whether products start at singular vectors is decided once, by valid."""
        from amzrec.training.initial import initial_product_vectors
        from amzrec.training.learner import Learner

        state, config, scale = self.state, self.config, bias_scale(fit)
        fresh = watch is not None and state.epoch == 0
        vectors = None
        if (
            config.svd_start
            and config.retrieval_loss == "softmax"
            and not config.shared
            and "retrieval" in self.tasks
            and (fresh or state.svd_start)
        ):
            vectors = initial_product_vectors(fit, config.retrieval_dims, config.own_vector, config.seed)
        learner = Learner(config, fit, self.dataset, scale, vectors)
        if watch is not None and fresh:
            state.svd_start = vectors is not None and watch.start_figure(learner) > watch.prior_figure()
            if vectors is not None and not state.svd_start:
                learner = Learner(config, fit, self.dataset, scale)
        return learner

    def tired(self) -> bool:
        """Whether no task that valid can judge has improved for `patience` epochs."""
        best = [self.state.best[task] for task, figure in self.state.figures.items() if math.isfinite(figure)]
        return bool(best) and self.state.epoch - max(best) >= self.config.patience

    def epoch(self, learner: Any, watch: Any, epochs: int, snapshots: bool) -> None:
        """One pass over the rows, then its row of the history and perhaps a checkpoint."""
        state, started = self.state, time.monotonic()
        number = state.epoch + 1
        label = f"{'choosing epochs' if state.phase == 'select' else 'refit on train + valid'} {number}/{epochs}"
        logs = self.work / "tensorboard" if self.tensorboard else None
        losses = learner.epoch(number, self.progress, label, logs, state.phase)
        seconds = time.monotonic() - started
        state.epoch = number
        if not all(math.isfinite(value) for value in losses.values()):
            raise AmzrecError(
                f"the loss is no longer a number in epoch {number}: lower --learning-rate "
                f"({self.config.rate(len(learner.fit))})"
            )
        facts = {"seconds": round(seconds, 3), "examples_per_second": round(learner.examples / seconds)} | losses
        self.judge(learner, watch, number, facts, snapshots)
        state.seconds = self.before + time.monotonic() - self.started
        if time.monotonic() - self.saved >= CHECKPOINT_SECONDS:
            self.checkpoint(learner)

    def judge(self, learner: Any, watch: Any, number: int, facts: dict[str, Any], snapshots: bool) -> None:
        """Measure on valid, keep what is a task's best, and add the history row."""
        state = self.state
        figures = watch.figures(learner) if watch else {}
        for task in self.tasks if watch else ():
            stars = figures.get("valid_ndcg@5", -figures.get("valid_rmse", math.nan))
            figure = stars if task == "rating" else figures["valid_ndcg"]
            figure, known = figure if math.isfinite(figure) else -math.inf, state.figures.get(task, -math.inf)
            if figure > known or figure == known == -math.inf:  # what valid cannot judge is kept as it is at the end
                state.best[task], state.figures[task] = number, figure
                if snapshots:
                    self.keep(learner, task)
        if state.phase == "refit":
            for task in self.tasks:
                if state.best[task] == number:
                    self.keep(learner, task)
        for task in set(TASKS) - set(
            self.tasks
        ):  # not trained: as it started, or with shared dimensions as the other task left it
            if snapshots and (number == 0 or (self.config.shared and number == state.best.get(self.tasks[0]))):
                self.keep(learner, task)
        if number:
            state.history.append(
                {"phase": state.phase, "epoch": number} | facts | {k: round(v, 6) for k, v in figures.items()}
            )
            shown = " ".join(f"{k.removeprefix('valid_')} {v:.4f}" for k, v in figures.items() if math.isfinite(v))
            rate = f"{facts['examples_per_second']:,} examples/s"
            self.progress.say(f"epoch {number}: {shown or 'fitted'}, {rate}")

    def keep(self, learner: Any, task: str) -> None:
        """Write the task's part of the vectors as they are now, for `finish` to read."""
        np.savez(self.work / f"{task}.npz", **learner.snapshot(task))

    def checkpoint(self, learner: Any) -> None:
        """Weights, optimizer and state, each whole before the older ones go."""
        state, folder = self.state, self.work / CHECKPOINTS
        old, state.checkpoint = state.checkpoint, f"{state.phase}-{state.epoch}"
        learner.save(folder / state.checkpoint)
        draft = self.work / f"{STATE}.new"
        draft.write_text(json.dumps(dataclasses.asdict(state)))
        draft.replace(self.work / STATE)
        if old and old != state.checkpoint:
            for file in folder.glob(f"{old}.*"):
                file.unlink()
        self.saved = time.monotonic()

    def finish(self, fit_parts: list[str]) -> None:
        """Assemble vectors/, history.csv and run.json."""
        state, dataset = self.state, self.dataset
        rating, retrieval = (dict(np.load(self.work / f"{task}.npz")) for task in TASKS)
        shutil.rmtree(self.work / VECTORS, ignore_errors=True)  # of an earlier try, where the disk was full
        write_vectors(self.work, assemble(dataset, rating, retrieval, fit_parts))
        columns = list(dict.fromkeys(key for row in state.history for key in row))
        with (self.work / HISTORY).open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(state.history)
        info = RunInfo(
            config=self.config.to_json(),
            trained=tuple(self.tasks),
            protocol=dataset.protocol,
            dataset=str(dataset.path.resolve()),
            fingerprint=dataset.info.fingerprint,
            source=dataset.info.source,
            fit_parts=tuple(fit_parts),
            best_epochs=state.best,
            half_life=state.half_life,
            trend=state.trend,
            svd_start=state.svd_start,
            seconds=round(self.before + time.monotonic() - self.started, 1),
            versions=versions(),
            finished=time.time(),
        )
        info.write(self.work / RUN)


def versions() -> dict[str, str]:
    """What the run was made with."""
    names = ("tensorflow", "tf-keras", "tensorflow-recommenders", "numpy")
    return {"amzrec": __version__, "python": platform.python_version()} | {name: version(name) for name in names}


def assemble(dataset: Dataset, rating: Arrays, retrieval: Arrays, fit_parts: list[str]) -> Vectors:
    """One Vectors of both tasks' snapshots; their dimensions stand side by side, so each keeps its own best epoch."""
    customers, products = dataset.customers, dataset.products
    every = Reviews.concat([dataset.train, dataset.valid, dataset.test])
    part = np.repeat(np.arange(3, dtype=np.uint8), [len(getattr(dataset, name)) for name in PARTS])
    order = np.lexsort((every.product, every.customer))
    arrays: dict[str, Any] = {
        name: rating[name] for name in ("rating_query", "rating_candidate", "rating_weight", "product_bias")
    }
    arrays |= {name: retrieval[name] for name in ("retrieval_query", "retrieval_candidate", "candidates")}
    arrays |= {name: retrieval[name].astype(np.int64) for name in ("product_counts", "customer_counts")}
    for name in ("query_base", "history_bag", "history_residual"):
        arrays[name] = np.concatenate([retrieval[f"retrieval_{name}"], rating[f"rating_{name}"]], axis=1)
    if len(retrieval["edges"]):
        arrays |= {"context": retrieval["context"], "context_edges": retrieval["edges"]}
    if rating["rating_context"].any():
        arrays |= {"rating_context": rating["rating_context"], "context_edges": retrieval["edges"]}
    strings: dict[str, Any] = {}
    if listed := feature_lists(products["features"].to_pylist()):
        strings["features"], lists = listed
        arrays |= {"feature_offsets": lists.offsets, "feature_items": lists.items}
    dims = retrieval["retrieval_query"].shape[1] - 1
    head = Head(
        mean=float(rating["mean"]) if np.isfinite(rating["mean"]) else None,
        low=float(rating["low"]),
        high=float(rating["high"]),
        bias_weight=float(rating["a_customer"]),
        bias_shrinkage=SHRINK_CUSTOMER,
        temperature=float(retrieval["temperature"]),
        retrieval_dims=dims,
        rating_start=dims,
        history="sequence" if retrieval["sequence"] else "bag",
        fit_tags=tuple(PARTS.index(name) for name in fit_parts),
    )
    return Vectors(
        **arrays,
        seen_offsets=offsets_of(np.bincount(every.customer, minlength=customers.num_rows)),
        seen_product=every.product[order],
        seen_stars=every.stars[order],
        seen_part=part[order],
        layers=[(rating[f"kernel_{i}"], rating[f"bias_{i}"]) for i in range(int(rating["layers"]))],
        head=head,
        customer_ids=Strings.of(customers["customer_id"].to_pylist()),
        product_ids=Strings.of(products["product_id"].to_pylist()),
        titles=Strings.of(["" if title is None else title for title in products["title"].to_pylist()]),
        **strings,
    )
