"""train: learn from a dataset and write a run folder, with what each task had learned at its own best epoch."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from amzrec.config import PrepareConfig, Recipe, TrainConfig
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.interrupts import Interrupted
from amzrec.planning.machine import memory_available
from amzrec.planning.report import check_fits
from amzrec.reviews.cache import dataset_of, sources_of
from amzrec.store.dataset import Dataset
from amzrec.store.documents import plain
from amzrec.store.folders import cannot_write, sweep
from amzrec.store.folders import tidy as tidy_beside
from amzrec.store.locks import alone
from amzrec.store.numbered import publish, recover
from amzrec.store.ownership import RUN_FOLDER, check_folder
from amzrec.store.recipe import last_figures
from amzrec.store.run import RUN, RUNS, Run, finished_runs, is_measured, open_run
from amzrec.store.weights import open_weights
from amzrec.training.cluster import worker_of
from amzrec.training.often import Often
from amzrec.training.session import STATE, Session, settings_of, tidy
from amzrec.training.state import WRITE, State

if TYPE_CHECKING:
    from amzrec.training.start import Start

LONG = 5  # reviews per customer above which attention beside a bag of the last products is worth its time (LOG.md)


def train(
    source: Any = None,
    run: Path | str | None = None,
    config: TrainConfig | None = None,
    *,
    prepare: PrepareConfig | None = None,
    overwrite: bool = False,
    resume: bool = False,
    tensorboard: bool = False,
    checkpoint_every: str | None = None,
    repeats: Run | Path | str | None = None,
    start: Run | Path | str | None = None,
    anyway: bool = False,
    strategy: str = "one",
    progress: Progress = SILENT,
) -> Run:
    """Train on a source or a dataset, by default the embedded sample, and write the run folder `run`.

    Without `run` it is runs/joint, runs/rating or runs/retrieval, by the weights of `config`, with a number where that
    is taken. `prepare` says how a source is prepared before it is trained on, `overwrite` replaces a run, `resume` goes
    on with an unfinished training of that name, or returns the run that it has become, and `tensorboard` writes logs
    for TensorBoard into the run. `checkpoint_every` is a time or a number of steps (training/often.py). `repeats`
    is the run whose settings these are: where no reviews are held out to test on, its figures are kept in run.json.

    `start` is a run to go on from: what it knows keeps its weights, what is new to it is added, and a few epochs pass
    over what is new. The settings are those of that run then; `config` gives all of them where one is to be another.

    `strategy` says which devices share each step: one, mirrored (all GPUs of this host), multi-worker (those of all
    workers that TF_CONFIG lists) or auto. Of a cluster the chief writes and returns the run; the processes of the other
    workers end here (SystemExit).

    Raises AmzrecError for data without anything to learn from, for a `run` that exists where `overwrite` is not given,
    for one that is no run folder in any case, for a `start` that cannot be gone on from, and, unless it is to be tried
    `anyway`, for more than memory holds; raises Interrupted for a Ctrl-C after which `resume` can go on.
    """
    often, old = Often(checkpoint_every), None if start is None else open_run(start)
    if not worker_of(strategy).chief:
        train_along(source, config, prepare, old, strategy, progress)
    folder = Path(run) if run is not None else free_name(config or TrainConfig(), resume)
    work = folder.parent / f".{folder.name}.training"
    recover(folder)
    going_on = resume and (work / STATE).exists()
    overwrite = overwrite or (going_on and State.read(work / STATE).replaces)
    finished = resume and not going_on and (folder / RUN).is_file()
    sources = [*sources_of(source, prepare), *([] if old is None else [open_weights(old.folder).folder])]
    check_folder(folder, RUN_FOLDER, overwrite or finished, sources)
    dataset, recipe, begun = lessons(source, config, prepare, old, strategy, progress)
    settings = settings_of(dataset, recipe, old)
    if finished and (done := finished_before(folder, settings, overwrite, progress)):
        release(strategy, settings)
        return done
    if not anyway:
        check_fits(dataset, recipe, memory_available())
    figures = last_figures(open_run(repeats), recipe.to_json()) if repeats and dataset.protocol.untested else None
    try:
        with alone(folder, progress):
            try:
                tidy_beside(folder)
                session = Session(dataset, recipe, work, progress, tensorboard, often, begun)
                session.evaluated = figures
                session.open_state(resume, overwrite)
                progress.say("starting TensorFlow")
                learn(session, strategy, lambda: become(work, folder, overwrite, sources))
            finally:
                if not (work / STATE).exists():
                    shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        kept = "what was reached is kept: go on with --resume" if (work / STATE).exists() else "nothing was left there"
        raise cannot_write("the run folder", folder, error, kept) from error
    except KeyboardInterrupt as stopped:
        if not (work / STATE).exists():
            raise
        raise Interrupted(f"what was reached is kept, after {State.read(work / STATE).reached()}", folder) from stopped
    return open_run(folder).remembered()


def learn(session: Session, strategy: str, write: Callable[[], None] = lambda: None) -> None:
    """Go through the phases of a training on the devices of a strategy, and write what came of it.

    The workers of a cluster all wait at the end until the chief has written.
    """
    from amzrec.training import phases
    from amzrec.training.strategy import replicas_of, together

    replicas = replicas_of(strategy)
    with together(replicas):
        session.join(replicas)
        phases.run(session)
    write()
    with together(replicas):
        replicas.agree(None)


def become(work: Path, folder: Path, overwrite: bool, sources: Sequence[str | Path]) -> None:
    """Make what was learned in `work` the run in `folder`; AmzrecError for what came there meanwhile."""
    check_folder(folder, RUN_FOLDER, overwrite, sources)
    publish(work, folder, overwrite)
    tidy(folder)


def finished_before(folder: Path, settings: dict[str, Any], overwrite: bool, progress: Progress) -> Run | None:
    """Return the run that stands in a folder where it is what a training of these settings ends as.

    Where it has other settings or data it is None with `overwrite`, and else raises AmzrecError.
    """
    run = open_run(folder)
    of_data = {"fingerprint": run.info.fingerprint, "protocol": run.info.protocol and plain(run.info.protocol)}
    parent = run.info.ancestors[-1].identity if run.info.ancestors else None
    was = State({"recipe": run.info.recipe, "from": parent} | of_data, phase=WRITE)
    if changed := was.changed(settings) if not run.info.updates else ["updates"]:
        if overwrite:
            return None
        raise AmzrecError(
            f"the run {folder} is finished, and had other settings or data ({', '.join(changed)}): choose another "
            "--run, or put --overwrite in place of --resume to replace it"
        )
    with alone(folder, progress):
        tidy(folder)  # of a training that was killed as it became the run
        sweep(run.path)  # of an evaluation that was killed
    unmeasured = is_measured(run) is False
    progress.say(f"the run {folder} is trained: {'its evaluation is left' if unmeasured else 'nothing is left to do'}")
    return run


def lessons(
    source: Any,
    config: TrainConfig | None,
    prepare: PrepareConfig | None,
    old: Run | None,
    strategy: str,
    progress: Progress,
) -> tuple[Dataset, Recipe, Start | None]:
    """Return what is learned from and how, and what is gone on from, if there is an `old` run."""
    worker = worker_of(strategy)
    if worker.workers > 1:
        from amzrec.training.strategy import cluster_of

        cluster_of(worker)  # before TensorFlow computes anything, which it does to read datasets of its own
    dataset = dataset_of(source, prepare, progress=progress)
    if old is None:
        return dataset, recipe_for(dataset, config or TrainConfig(), progress, worker.workers == 1), None
    from amzrec.training.start import Start

    begun = Start.of(old, dataset)
    return begun.dataset, begun.recipe(config), begun


def train_along(
    source: Any,
    config: TrainConfig | None,
    prepare: PrepareConfig | None,
    old: Run | None,
    strategy: str,
    progress: Progress,
) -> NoReturn:
    """Train as a worker that is not the chief of its cluster; it writes nothing but what `prepare` keeps in a cache."""
    dataset, recipe, begun = lessons(source, config, prepare, old, strategy, progress)
    progress.say("starting TensorFlow")
    learn(Session(dataset, recipe, None, progress, start=begun), strategy)
    raise SystemExit(0)


def release(strategy: str, settings: dict[str, Any]) -> None:
    """Let the other workers of a cluster end, where the chief finds its run finished."""
    if worker_of(strategy).workers > 1:
        from amzrec.training.strategy import replicas_of

        replicas = replicas_of(strategy)
        replicas.agree(dataclasses.asdict(State(settings, phase=WRITE)))
        replicas.agree(None)


def free_name(config: TrainConfig, resume: bool) -> Path:
    """Name the run folder: runs/joint, or joint-2, joint-3 … where that is taken.

    A task that is trained alone gives its name in place of "joint". With `resume` it is the newest unfinished training
    of such a name, if there is one, or else the newest run of such a name, if it is still to be evaluated.
    """
    name = "rating" if config.retrieval_weight == 0 else "retrieval" if config.rating_weight == 0 else "joint"
    if resume:
        unfinished = sorted(RUNS.glob(f".{name}*.training/{STATE}"), key=lambda file: file.stat().st_mtime)
        if unfinished:
            return RUNS / unfinished[-1].parent.name[1 : -len(".training")]
        unmeasured = [run for run in finished_runs(RUNS) if re.fullmatch(rf"{name}(-\d+)?", run.name)]
        if unmeasured and is_measured(open_run(unmeasured[-1])) is False:
            return unmeasured[-1]
    names = [name, *(f"{name}-{number}" for number in range(2, 10_000))]
    return next(RUNS / n for n in names if not (RUNS / n).exists())


def recipe_for(dataset: Dataset, config: TrainConfig, progress: Progress = SILENT, by_itself: bool = True) -> Recipe:
    """Decide every setting that was left open, for this dataset, and a process that trains `by_itself` or in a cluster.

    Raises AmzrecError where the dataset has nothing that the tasks could learn from.
    """
    if len(dataset.train) == 0:
        raise AmzrecError(f"dataset {dataset.path} has no train reviews: nothing to learn from")
    if config.retrieval_weight > 0 and len(np.unique(dataset.train.product)) < 2:
        raise AmzrecError(f"dataset {dataset.path} has only one product in train: retrieval needs at least two")
    recipe = config.resolve(dataset.facts(config.refit))
    if config.history == "auto" and recipe.may_read_order:
        from amzrec.training.order import order_pays

        if order_pays(dataset, config.seed):
            said = "valid shows that order tells what comes next: retrieval reads the last products"
            mean = len(dataset.train) / max(len(np.unique(dataset.train.customer)), 1)
            long = mean > LONG and by_itself  # attention is not trained by several processes
            more = f", and as customers have {mean:.0f} on average, through attention as well (sequence)"
            progress.say(said + (more if long else " (recent)"))
            chosen = dataclasses.replace(config, history="sequence" if long else "recent")
            return chosen.resolve(dataset.facts(config.refit))
    return recipe
