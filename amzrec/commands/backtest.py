"""`amzrec backtest`: walk forward through time, update or train as production would, and measure on what came next."""

from __future__ import annotations

import datetime
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.answers.recommender import Recommender
from amzrec.config import PrepareConfig, TrainConfig
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.evaluation.baselines import all_baselines
from amzrec.evaluation.judge import judge
from amzrec.evaluation.metrics import without_untrained
from amzrec.evaluation.systems import RunSystem
from amzrec.evaluation.testset import line_up_test
from amzrec.renewal.later import later
from amzrec.renewal.windows import all_reviews, before, between, edges, seconds_of
from amzrec.reviews.cache import dataset_of
from amzrec.settings import require
from amzrec.store.dataset import Dataset
from amzrec.store.folders import asked_file, scratch_folder
from amzrec.store.ownership import check_file, is_picture
from amzrec.store.recipe import FIGURES
from amzrec.store.run import Run

Document = dict[str, Any]
ONCE, UPDATED, WARM, AGAIN = "trained_once", "updated", "warm_started", "trained_again"
WEIGHED_BY = {"rmse": "rated", "recall@10": "customers", "ndcg@10": "customers", "top_100": "reviews"}


def backtest(
    source: Any = None,
    config: TrainConfig | None = None,
    *,
    prepare: PrepareConfig | None = None,
    every: str = "7d",
    last: int = 8,
    retrain: bool = False,
    warm: bool = False,
    out: Path | str | None = None,
    progress: Progress = SILENT,
) -> Document:
    """Answer what a model would have done: train before the last windows of time, then measure on each window in turn.

    The windows are the `last` ones of the length `every` (12h, 7d, 4w) before the latest review. In each, systems meet
    reviews that came after all they know: "trained_once", before the first window; "updated", the same with the
    reviews of the windows before, as `update` lets them in; with `warm` "warm_started", which goes on from the one of
    the window before (`train --from`); and with `retrain` "trained_again", on all reviews before the window. Beside
    them the baselines, fitted on the same reviews as "updated". Who and what is new counts as unknown. `out` is a
    picture (PNG). Returns {"every", "windows": [{"from", "until", "reviews", …, "systems", "seconds": {system: of its
    last training or update}}], "overall": {system: figures of all windows}, "picture"}. Raises AmzrecError for reviews
    without times, and where none are left to train on.
    """
    if out is not None:
        if Path(out).suffix.lower() != ".png":
            raise AmzrecError(f"--out {out} names no picture: let it end in .png")
        check_file(Path(out), "the picture", is_picture)
    require(last >= 1, "last", last, "a whole number from 1, such as 8")
    length = seconds_of(every)
    dataset = dataset_of(source, prepare, progress=progress)
    reviews = all_reviews(dataset)
    moments = edges(reviews, length, last).tolist()
    windows = []
    with scratch_folder() as folder:
        walk = Walk(dataset, config or TrainConfig(), Path(folder), progress)
        first = walk.trained(moments[0])
        runs = {ONCE: first, UPDATED: first} | ({WARM: first} if warm else {})
        for number, (start, stop) in enumerate(itertools.pairwise(moments), 1):
            if retrain:
                runs[AGAIN] = runs[ONCE] if number == 1 else walk.trained(start)
            progress.say(f"window {number} of {last}: {day(start)} to {day(stop)}")
            came = between(dataset, reviews, start, stop)
            windows.append({"from": day(start), "until": day(stop)} | measured(runs, came))
            if number < last and len(came.train):
                runs[UPDATED] = walk.updated(runs[UPDATED], came)
                if warm:
                    runs[WARM] = walk.trained(stop, runs[WARM])
    document = {"every": every, "windows": windows, "overall": overall(windows), "picture": out and str(out)}
    if out is not None:
        from amzrec.evaluation import pictures

        with asked_file(Path(out), "the picture") as partial:
            pictures.draw_backtest(document, partial)
    return document


class Walk:
    """Trains and updates runs in a folder that goes when the walk is over."""

    def __init__(self, dataset: Dataset, config: TrainConfig, folder: Path, progress: Progress) -> None:
        self.dataset, self.config, self.folder, self.progress = dataset, config, folder, progress
        self.reviews, self.runs = all_reviews(dataset), 0

    def place(self) -> Path:
        """Name the next run folder."""
        self.runs += 1
        return self.folder / f"run-{self.runs}"

    def trained(self, moment: int, start: Run | None = None) -> Run:
        """Train on all reviews before a moment, from scratch or going on from a run."""
        from amzrec.commands.train import train

        known, config = before(self.dataset, self.reviews, moment), None if start else self.config
        return train(known, self.place(), config, start=start, progress=self.progress)

    def updated(self, run: Run, came: Dataset) -> Run:
        """Let the reviews of a window into a run."""
        from amzrec.commands.update import update

        return update(run, came, self.place(), progress=self.progress)


def measured(runs: dict[str, Run], came: Dataset) -> Document:
    """Measure runs on the reviews of a window, and the baselines of the run that was updated."""
    found: Document = {"reviews": len(came.train), "rated": int((~np.isnan(came.train.stars)).sum()), "customers": 0}
    systems: Document = {}
    for name, run in runs.items() if len(came.train) else ():
        dataset, vectors = later(run, came)
        testset = line_up_test(dataset, ("train",), np.asarray(vectors.candidates))
        model = judge(testset, RunSystem(Recommender(vectors))).to_json()
        systems[name] = figures_of(without_untrained(model, run.info.untrained))
        if name == UPDATED:
            found |= {
                "customers": (model.get("ranking") or {}).get("customers", 0),
                "unknown_customer_rows": int(testset.slices["unknown_customer"].sum()),
                "unknown_product_rows": int((testset.wanted < 0).sum()),
            }
            rivals = {system.name: judge(testset, system).to_json() for system in all_baselines(dataset, testset)}
            baselines = {name: figures_of(figures) for name, figures in rivals.items()}
    took = {
        name: run.info.updates[-1]["seconds"] if run.info.updates else run.info.seconds for name, run in runs.items()
    }
    return found | {"systems": systems | (baselines if systems else {}), "seconds": took}


def figures_of(figures: Document) -> dict[str, float]:
    """Take the figures that are compared, by FIGURES, from those of a system, as far as it has them."""
    found = {name: (figures.get(group) or {}).get(name) for name, (_, group) in FIGURES.items()}
    return {name: value for name, value in found.items() if value is not None}


def overall(windows: list[Document]) -> dict[str, dict[str, float]]:
    """Put the windows together, each figure as over all of their reviews, or customers; the RMSE of all squares."""
    names = dict.fromkeys(name for window in windows for name in window["systems"])
    found: dict[str, dict[str, float]] = {}
    for name in names:
        for figure, weight in WEIGHED_BY.items():
            there = [w for w in windows if figure in w["systems"].get(name, {}) and w[weight]]
            if not there:
                continue
            power = 2 if figure == "rmse" else 1
            values = np.array([window["systems"][name][figure] for window in there]) ** power
            mean = np.average(values, weights=[window[weight] for window in there])
            found.setdefault(name, {})[figure] = round(float(mean ** (1 / power)), 6)
    return found


def day(moment: int) -> str:
    """Write unix seconds as a day, or a minute of it, in UTC."""
    text = datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%d %H:%M")
    return text.removesuffix(" 00:00")
