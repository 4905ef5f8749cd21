"""`amzrec tune`: many short trainings, judged on valid, and the recipe of the best for `train --recipe`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amzrec.commands.train import recipe_for
from amzrec.config import PrepareConfig, Recipe, TrainConfig
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.reviews.cache import dataset_of, sources_of
from amzrec.settings import require, settings_of
from amzrec.store.dataset import Dataset
from amzrec.store.folders import tidy, whole_file, writing
from amzrec.store.ownership import TUNING_FOLDER, check_folder
from amzrec.store.recipe import SPLIT_SEED
from amzrec.tuning.front import Objective, Tried, chosen, objectives_of, pareto
from amzrec.tuning.space import Dimension, dimensions, given
from amzrec.tuning.study import address_of, document_of, enqueue_usual, open_study, reached, tried
from amzrec.tuning.work import Job, shown, work, work_together

DATABASE, MARKER, RECIPE, PICTURE = "study.db", "tune.json", "recipe.json", "front.png"
LOCKS = "study"  # beside which each process holds a lock
TRIALS = 20  # of a study, where neither trials nor minutes are given

Document = dict[str, Any]


def tune(
    source: Any = None,
    config: TrainConfig | None = None,
    *,
    prepare: PrepareConfig | None = None,
    trials: int | None = None,
    minutes: float | None = None,
    workers: int = 1,
    study: str | None = None,
    tuned: Sequence[str] = (),
    out: Path | str = "tune",
    progress: Progress = SILENT,
) -> Document:
    """Search settings that valid judges best, and write them as `out`/recipe.json, which `train --recipe` takes.

    Each trial trains on train and is judged on valid, as the first phase of `train` does; test reviews are never read.
    The first trial are the settings of `config` with their defaults; settings that `config` gives stay as they are.
    Searched are those of `tuning.space.RANGES` that count, or those named in `tuned`. Trials that are behind the median
    in every objective are stopped. It ends when the study has `trials` trials, of all commands and processes together,
    or after `minutes`; without either after TRIALS. `workers` processes share the work. The study is kept in
    `out`/study.db, or in the database `study` (postgresql://…, sqlite:///FILE): the same command goes on with it, also
    while another one is at it. Also writes front.png and tune.json, the document that is returned: {"study",
    "objectives", "dimensions", "trials", "front", "chosen": numbers of trials, "recipe", "picture"}.

    Raises AmzrecError where there are no valid reviews to choose on, where `out` holds something else, where the
    database cannot be used, and where no trial was finished in time.
    """
    require(trials is None or trials >= 1, "trials", trials, f"a whole number from 1, such as {TRIALS}")
    require(minutes is None or minutes > 0, "minutes", minutes, "a number above 0, such as 30")
    require(workers >= 1, "workers", workers, "a whole number from 1")
    out, config = Path(out), config or TrainConfig()
    check_folder(out, TUNING_FOLDER, True, sources_of(source, prepare))
    address = address_of(study, out / DATABASE)
    dataset = dataset_of(source, prepare, progress=progress)
    if not len(dataset.valid):
        raise AmzrecError(f"dataset {dataset.path} has no valid reviews to choose on: prepare it with --valid 0.1")
    recipe = recipe_for(dataset, config, progress)
    space = dimensions(recipe, config, [name.strip().replace("-", "_") for name in tuned])
    objectives = objectives_of(recipe)
    name = name_of(dataset, recipe, space)
    with writing("the results", out):
        out.mkdir(parents=True, exist_ok=True)
        tidy(out / LOCKS)
    begin(out, name, objectives)
    job = Job(
        dataset=str(dataset.path.resolve()),
        recipe=recipe.to_json(),
        dimensions=[dataclasses.asdict(each) for each in space],
        address=address,
        name=name,
        place=str((out / LOCKS).absolute()),
        trials=trials if trials is not None or minutes is not None else TRIALS,
        until=None if minutes is None else time.time() + 60 * minutes,
    )
    opened = open_study(address, name, objectives)
    with reached(address):
        enqueue_usual(opened, {each.name: getattr(recipe, each.name) for each in space})
        said = {trial.number for trial in tried(opened, objectives) if trial.state != "running"}
        if said:
            progress.say(f"going on with the study {name}, which has {len(said)} trials")
        progress.say(
            f"tuning {', '.join(each.name.replace('_', '-') for each in space)} on {len(dataset.valid):,} valid reviews"
        )
        try:
            for _ in work_together(job, workers) if workers > 1 else work(job, progress):
                tell(opened, objectives, said, progress)
        except KeyboardInterrupt:
            progress.say(f"stopped: {len(said)} trials are kept, and the same command goes on with them")
            raise
        tell(opened, objectives, said, progress)
        return written(out, opened, name, objectives, space, settings_given(config, prepare))


def name_of(dataset: Dataset, recipe: Recipe, space: Sequence[Dimension]) -> str:
    """Name the study of these reviews, this split and these settings, so that only the same are compared."""
    about = [dataset.info.fingerprint, dataclasses.asdict(dataset.protocol), recipe.to_json()]
    text = json.dumps([*about, [dataclasses.asdict(each) for each in space]], sort_keys=True)
    return f"amzrec-{hashlib.md5(text.encode()).hexdigest()[:12]}"


def begin(out: Path, name: str, objectives: Sequence[Objective]) -> None:
    """Mark the folder as one of `tune`, so that the same command may go on there."""
    if not (out / MARKER).exists():
        write(out / MARKER, {"study": name, "objectives": [dataclasses.asdict(each) for each in objectives]})


def tell(study: Any, objectives: Sequence[Objective], said: set[int], progress: Progress) -> None:
    """Say what each trial did that has ended since."""
    for trial in tried(study, objectives):
        if trial.state != "running" and trial.number not in said:
            said.add(trial.number)
            progress.say(shown(trial, objectives))


def settings_given(config: TrainConfig, prepare: PrepareConfig | None) -> Document:
    """Return what was given beside what is tuned, by the names of flags: of the split, and of the training."""
    split = {
        SPLIT_SEED if name == "seed" else name: value
        for name, setting in settings_of(PrepareConfig).items()
        if prepare is not None and (value := getattr(prepare, name)) != setting.default
    }
    preset = {"preset": config.preset} if config.preset != "full" else {}
    return split | preset | given(config)


def written(
    out: Path, study: Any, name: str, objectives: Sequence[Objective], space: Sequence[Dimension], fixed: Document
) -> Document:
    """Write what the study has found so far, and return it; AmzrecError where no trial was finished."""
    from amzrec.evaluation import pictures

    trials = tried(study, objectives)
    best, front = chosen(trials, objectives), pareto(trials, objectives)
    if best is None:
        reasons = [trial.failure for trial in trials if trial.failure]
        because = f": {reasons[-1]}" if reasons else " in time: give it more --minutes; what was begun is kept"
        raise AmzrecError(f"no trial of the study {name} was finished{because}")
    document = {
        "study": name,
        "objectives": [dataclasses.asdict(each) for each in objectives],
        "dimensions": [dataclasses.asdict(each) for each in space],
        "trials": [document_of(trial, objectives) for trial in trials],
        "front": [trial.number for trial in front],
        "chosen": best.number,
        "recipe": str(out / RECIPE),
        "picture": str(out / PICTURE),
    }
    write(out / RECIPE, fixed | changed(best))
    with whole_file(out / PICTURE, "the picture") as partial:
        pictures.draw_front(document, partial)
    write(out / MARKER, document)
    return document


def changed(trial: Tried) -> Document:
    """Return what a recipe has to say of a trial: nothing where the defaults are the best."""
    return {} if trial.usual else trial.settings


def write(file: Path, document: Document) -> None:
    """Write a JSON document whole or not at all."""
    with whole_file(file, "the results") as partial:
        partial.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
