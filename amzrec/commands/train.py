"""train: learn from a dataset and write a run folder, with what each task had learned at its own best epoch."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.config import PrepareConfig, Recipe, TrainConfig
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.reviews.cache import dataset_of, sources_of
from amzrec.store.dataset import Dataset
from amzrec.store.folders import cannot_write, replace_folder
from amzrec.store.folders import tidy as tidy_beside
from amzrec.store.locks import alone
from amzrec.store.ownership import RUN_FOLDER, check_folder
from amzrec.store.recipe import last_figures
from amzrec.store.run import RUNS, Run, open_run
from amzrec.training.session import STATE, Session, tidy


def train(
    source: Any = None,
    run: Path | str | None = None,
    config: TrainConfig | None = None,
    *,
    prepare: PrepareConfig | None = None,
    overwrite: bool = False,
    resume: bool = False,
    tensorboard: bool = False,
    repeats: Run | Path | str | None = None,
    progress: Progress = SILENT,
) -> Run:
    """Train on a source or a dataset, by default the embedded sample, and write the run folder `run`.

    Without `run` it is runs/joint, runs/rating or runs/retrieval, by the weights of `config`, with a number where that
    is taken. `prepare` says how a source is prepared before it is trained on, `overwrite` replaces a run, `resume` goes
    on with an unfinished training of that name, and `tensorboard` writes logs for TensorBoard into the run. `repeats`
    is the run whose settings these are: where no reviews are held out to test on, its figures are kept in run.json.
    Raises AmzrecError for data without anything to learn from, for a `run` that exists where `overwrite` is not given,
    and for one that is no run folder in any case.
    """
    config = config or TrainConfig()
    folder = Path(run) if run is not None else free_name(config, resume)
    check_folder(folder, RUN_FOLDER, overwrite, sources_of(source, prepare))
    dataset = dataset_of(source, prepare, progress=progress)
    recipe = recipe_for(dataset, config, progress)
    figures = last_figures(open_run(repeats), recipe.to_json()) if repeats and dataset.protocol.untested else None
    work = folder.parent / f".{folder.name}.training"
    try:
        with alone(folder, progress):
            try:
                tidy_beside(folder)
                session = Session(dataset, recipe, work, progress, tensorboard)
                session.evaluated = figures
                session.open_state(resume, overwrite)
                progress.say("starting TensorFlow")
                from amzrec.training import phases

                phases.run(session)
                check_folder(folder, RUN_FOLDER, overwrite, sources_of(source, prepare))  # what came there meanwhile
                replace_folder(work, folder)
                tidy(folder)
            finally:
                if not (work / STATE).exists():
                    shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        kept = "what was reached is kept: go on with --resume" if (work / STATE).exists() else "nothing was left there"
        raise cannot_write("the run folder", folder, error, kept) from error
    return open_run(folder)


def free_name(config: TrainConfig, resume: bool) -> Path:
    """Name the run folder: runs/joint, or joint-2, joint-3 … where that is taken.

    A task that is trained alone gives its name in place of "joint". With `resume` it is the newest unfinished training
    of such a name, if there is one.
    """
    name = "rating" if config.retrieval_weight == 0 else "retrieval" if config.rating_weight == 0 else "joint"
    if resume:
        unfinished = sorted(RUNS.glob(f".{name}*.training/{STATE}"), key=lambda file: file.stat().st_mtime)
        if unfinished:
            return RUNS / unfinished[-1].parent.name[1 : -len(".training")]
    names = [name, *(f"{name}-{number}" for number in range(2, 10_000))]
    return next(RUNS / n for n in names if not (RUNS / n).exists())


def recipe_for(dataset: Dataset, config: TrainConfig, progress: Progress = SILENT) -> Recipe:
    """Decide every setting that was left open, for this dataset.

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
            progress.say("valid shows that order tells what comes next: retrieval reads the last products (recent)")
            return dataclasses.replace(config, history="recent").resolve(dataset.facts(config.refit))
    return recipe
