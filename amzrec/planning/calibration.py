"""Ten seconds of the real thing, from which the seconds of a whole training follow."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amzrec.config import Recipe
from amzrec.errors import SILENT, Progress
from amzrec.planning.memory import JUDGES, run_bytes
from amzrec.planning.sizes import Phase, Sizes, sizes_of, step_sizes
from amzrec.store.dataset import Dataset, Reviews
from amzrec.training.session import LABELS, Session
from amzrec.training.state import MemoryChoice

LEAST_SAMPLE, SAMPLE_BATCHES = 100_000, 4  # reviews of a sample, and steps of full size that it must have reviews for
STEPPING = 4.0  # seconds in which steps are measured
IMPORTING = 4.0  # seconds to import TensorFlow, where that is done already
WRITTEN = 150e6  # bytes of vectors that are put together, written and checked in a second
EACH = ": each epoch"  # ends the name of a stage that is a part of another
ROW, ENTRY, DOT = 1100.0, 240.0, 6.0  # what a row of a table, a review of a history and a pair cost, per dimension


class Calibration(NamedTuple):
    """Seconds of the stages of a training, as they were measured on the sample, or on all of it where it is small."""

    sizes: Sizes  # of the sample
    importing: float
    fitting: float  # histories, popularity over time and what valid chooses before the first epoch
    building: float  # the model, with where it starts
    tracing: float  # the first step, beyond what a step takes
    step: float
    judging: float  # an epoch on valid
    pairing: float  # the memories of pairs that valid chooses from; all products are in them, in the sample as well
    beside: float  # what valid chooses beside the towers, but for those
    keeping: float  # a snapshot of both tasks


@dataclasses.dataclass
class Clock:
    """Seconds since it was last looked at, as `now` counts them."""

    now: Callable[[], float] = time.perf_counter
    last: float = 0.0

    def __post_init__(self) -> None:
        self.last = self.now()

    def lap(self) -> float:
        """Return the seconds since then."""
        before, self.last = self.last, self.now()
        return self.last - before


def calibrate(
    dataset: Dataset, recipe: Recipe, progress: Progress = SILENT, now: Callable[[], float] = time.perf_counter
) -> Calibration:
    """Train a few steps on a sample of customers with all their reviews, and take the time of each stage.

    TensorFlow is imported into this process. `now` counts seconds: of the wall, or of the processor.
    """
    progress.say("a few real steps, to take the time")
    there, clock = "tensorflow" in sys.modules, Clock(now)
    from amzrec.features.fitted import fit_reviews
    from amzrec.model.keras2 import graphs_as_written
    from amzrec.training import phases
    from amzrec.training.choosing import choose_beside, choose_time, with_chosen_time
    from amzrec.training.remember import kinds, memory_of
    from amzrec.training.snapshot import rating_snapshot, retrieval_snapshot
    from amzrec.training.watch import Watch

    importing = IMPORTING if there else clock.lap()
    sample = sample_of(dataset, max(LEAST_SAMPLE, SAMPLE_BATCHES * recipe.batch_size), recipe.seed)
    refitted = dataclasses.replace(recipe, refit=True)  # what is chosen is not kept
    session, train = Session(sample, refitted, Path(), SILENT, tensorboard=False), sample.train
    with graphs_as_written():
        clock.lap()
        fitted = fit_reviews(sample, train, recipe)
        watch = Watch(sample, fitted.candidates, recipe.seed) if len(sample.valid) else None
        if watch:
            choose_time(session, fitted, watch)
        fitted = with_chosen_time(fitted, train, session.state.choices)
        fitting = clock.lap()
        learner = phases.new_learner(session, fitted, watch)
        building = clock.lap()
        tracing, step = steps_of(learner, clock)
        clock.lap()
        if watch:
            watch.figures(learner)
            for task in recipe.tasks:
                watch.remember(learner, task)
        judging, pairing, beside = clock.lap(), 0.0, 0.0
        if watch and not recipe.attends:
            for kind, ridge in kinds(fitted) if recipe.memory and watch.best else ():
                memory_of(fitted, MemoryChoice(kind, ridge, 1.0))
            pairing = clock.lap()
            choose_beside(session, fitted, watch, [(0.0, watch.best)] if watch.best else [])
            beside = max(clock.lap() - pairing, 0.0)
        rating_snapshot(learner)
        retrieval_snapshot(learner)
        keeping = clock.lap()
    sizes = sizes_of(sample, dataclasses.replace(recipe, refit=False))
    return Calibration(sizes, importing, fitting, building, tracing, step, judging, pairing, beside, keeping)


def steps_of(learner: Any, clock: Clock) -> tuple[float, float]:
    """Return the seconds of the first step beyond those of a step, and of a step where one follows the other."""
    whole = learner.epoch_plan

    def seconds(number: int, steps: int) -> float:
        learner.epoch_plan = whole._replace(steps=steps)
        learner.epoch(number, SILENT, "", None, "select")
        return clock.lap()

    first = seconds(1, 1)
    few = min(2, whole.steps)
    step = seconds(2, few) / few
    more = int(np.clip(STEPPING / max(step, 1e-4), few, whole.steps))
    if more > few:
        step = seconds(3, more) / more
    learner.epoch_plan = whole
    return max(first - step, 0.0), step


def sample_of(dataset: Dataset, most: int, seed: int) -> Dataset:
    """Return a dataset of customers drawn at random with some `most` reviews in train; all where there are no more."""
    if len(dataset.train) <= most:
        return dataset
    drawn = np.random.default_rng([seed, 6]).random(dataset.customers.num_rows) < most / len(dataset.train)

    def of_them(part: Reviews) -> Reviews:
        return part.take(drawn[part.customer])

    sample = Dataset(dataset.path, dataset.info, dataset.customers, dataset.products)
    sample.__dict__.update(train=of_them(dataset.train), valid=of_them(dataset.valid))
    return sample


def work(sizes: Sizes, phase: Phase, recipe: Recipe) -> float:
    """Return what a step of a phase costs, in units that only compare steps."""
    step, dims = step_sizes(sizes, phase, recipe), recipe.width
    rows = 5 * (step.customers + step.products) + 2 * sum(step.partners)
    pairs = phase.batch * step.candidates * recipe.retrieval_dims * (recipe.retrieval_weight > 0)
    return ROW * rows * dims + ENTRY * sum(step.entries) * dims + DOT * pairs


def seconds_of(sizes: Sizes, recipe: Recipe, found: Calibration) -> dict[str, float]:
    """Return the seconds of each stage where every epoch is trained that the recipe allows.

    What was measured on a sample grows with the reviews, the rows or the work of a step, each as it does.
    """
    (measured,) = found.sizes.phases.values()
    unit = found.step / max(work(found.sizes, measured, recipe), 1.0)

    def grown(amount: Callable[[Phase], float], phase: Phase) -> float:
        return amount(phase) / max(amount(measured), 1.0)

    stages = {"starting TensorFlow": found.importing}
    for name, phase in sizes.phases.items():
        reviews = grown(lambda each: each.reviews, phase)
        fitting = found.fitting if name == "select" else found.fitting / 3  # the refit follows what valid has chosen
        epoch = phase.steps * unit * work(sizes, phase, recipe)
        if name == "select":
            epoch += found.judging * grown(lambda each: each.reviews / 2 + each.products.own, phase)
        stages[f"{LABELS[name]}: before the first epoch"] = (fitting + found.building) * reviews + found.tracing
        stages[f"{LABELS[name]}{EACH}"] = epoch
        stages[f"{LABELS[name]}: all {recipe.epochs} epochs"] = recipe.epochs * epoch
        if name == "select" and found.pairing + found.beside:
            asked, of = (max(min(each.judged, JUDGES), 1) for each in (sizes, found.sizes))
            stages["choosing what stands beside the towers"] = found.pairing + found.beside * asked / of
    kept = grown(lambda each: each.reviews + each.customers.rows + each.products.rows, sizes.largest)
    stages["writing the run"] = 2 * kept * found.keeping + run_bytes(sizes, recipe) / WRITTEN
    return stages


def total_of(stages: dict[str, float]) -> float:
    """Return the seconds of all stages, each epoch counted once."""
    return sum(seconds for name, seconds in stages.items() if not name.endswith(EACH))
