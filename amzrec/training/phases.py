"""The two phases of a training: `select` chooses epochs on valid, `refit` trains as long again on train + valid."""

from __future__ import annotations

import math
from typing import Any

from amzrec.arrays import Floats
from amzrec.config import Recipe
from amzrec.evaluation.baselines import choose_half_life
from amzrec.features.fitted import Fitted, fit
from amzrec.features.popularity import KERNELS
from amzrec.model.keras2 import graphs_as_written
from amzrec.store.dataset import Reviews
from amzrec.training.initial import initial_product_vectors
from amzrec.training.learner import Learner, tf
from amzrec.training.remember import choose_memory
from amzrec.training.session import Session
from amzrec.training.state import REFIT, SELECT, Choices
from amzrec.training.watch import Watch

TASKS = ("rating", "retrieval")


def run(session: Session) -> None:
    """Go through both phases, or what is left of them, then write the files of the run."""
    gpus = tf.config.list_physical_devices("GPU")
    session.progress.say(f"training on {len(gpus)} GPU" if gpus else "training on the CPU (TensorFlow sees no GPU)")
    with graphs_as_written():
        if session.state.phase == SELECT:
            select(session)
            if session.recipe.refit:
                session.begin_phase(REFIT)
        if session.recipe.refit:
            refit(session, session.state.choices)
    session.finish(["train", "valid"] if session.recipe.refit else ["train"])


def select(session: Session) -> Choices:
    """Train on train; valid says how long, and from where to start. Without valid all epochs are trained."""
    dataset, recipe, state = session.dataset, session.recipe, session.state
    watched = len(dataset.valid) > 0
    fitted = fit(dataset, dataset.train, recipe)
    if not watched:
        state.choices.best = dict.fromkeys(recipe.tasks, recipe.epochs)
    watch = Watch(dataset, fitted.candidates, recipe.seed) if watched else None
    if watch and not state.epoch:
        choose_time(session, fitted, watch)
    fitted = with_time(fitted, dataset.train, state.choices)
    learner = start(session, fitted, watch)
    keep = not recipe.refit
    if not session.resumed(learner):
        judge(session, learner, watch, 0, {})
        if keep:
            session.keep(learner, due(recipe, state.choices, 0))
    while state.epoch < recipe.epochs and not (watch and tired(session)):
        facts = session.epoch(learner, SELECT, recipe.epochs)
        judge(session, learner, watch, state.epoch, facts)
        if keep:
            session.keep(learner, due(recipe, state.choices, state.epoch))
        session.checkpoint(learner)
    if watch and recipe.memory:
        state.choices.memory = choose_memory(watch, fitted)
        if keep and state.choices.memory:
            session.keep_memory(fitted)
    return state.choices


def refit(session: Session, choices: Choices) -> None:
    """Train on train + valid for the chosen epochs, and keep each task at its own best one."""
    dataset, recipe, state = session.dataset, session.recipe, session.state
    both = Reviews.concat([dataset.train, dataset.valid])
    fitted = with_time(fit(dataset, both, recipe), both, choices)
    learner = start(session, fitted, None)
    if not session.resumed(learner):
        session.keep(learner, due(recipe, choices, 0))
    while state.epoch < choices.epochs:
        facts = session.epoch(learner, REFIT, choices.epochs)
        session.tell(facts, {})
        session.keep(learner, due(recipe, choices, state.epoch))
        session.checkpoint(learner)
    if choices.memory:
        session.keep_memory(fitted)


def due(recipe: Recipe, choices: Choices, epoch: int) -> list[str]:
    """The tasks whose vectors are those of this epoch.

    A task that is not trained stays as it started, or, where all dimensions are shared, as the other task left it.
    """
    untrained = choices.best[recipe.tasks[0]] if recipe.features == "ids" else 0
    return [task for task in TASKS if choices.best.get(task, untrained) == epoch]


def choose_time(session: Session, fitted: Fitted, watch: Watch) -> None:
    """Decide on valid the half-life of the popularity that retrieval starts from, and whether stars follow a trend."""
    dataset, recipe, choices = session.dataset, session.recipe, session.state.choices
    if recipe.features == "ids" or not dataset.has_time:
        return
    by_half_life = {days: fitted.with_popularity(dataset.train, days) for days in (None, *KERNELS)}
    choices.half_life = choose_half_life(list(by_half_life), lambda days: watch.popularity_figure(by_half_life[days]))
    choices.trend = watch.trend_gain(by_half_life[choices.half_life].with_trend()) > 0


def with_time(fitted: Fitted, reviews: Reviews, choices: Choices) -> Fitted:
    """Give fitted reviews the popularity over time and the trend that were chosen."""
    if choices.half_life is not None:
        fitted = fitted.with_popularity(reviews, choices.half_life)
    return fitted.with_trend() if choices.trend else fitted


def start(session: Session, fitted: Fitted, watch: Watch | None) -> Learner:
    """The untrained model; whether products start at singular vectors is decided once, by valid."""
    recipe, state, dataset = session.recipe, session.state, session.dataset
    deciding = watch is not None and state.epoch == 0
    vectors: Floats | None = None
    if recipe.svd_start and (deciding or state.choices.svd_start):
        vectors = initial_product_vectors(fitted, recipe.retrieval_dims, recipe.own_vector, recipe.seed)
    learner = Learner(recipe, fitted, dataset, vectors)
    if watch is not None and deciding:
        better = vectors is not None and watch.start_figure(learner) > watch.popularity_figure(fitted)
        state.choices.svd_start = better
        if vectors is not None and not better:
            learner = Learner(recipe, fitted, dataset)
    learner.prepare()
    return learner


def judge(session: Session, learner: Learner, watch: Watch | None, epoch: int, facts: dict[str, Any]) -> None:
    """Measure on valid, note which epoch is each task's best, and tell."""
    state, figures = session.state, watch.figures(learner) if watch else {}
    for task in session.recipe.tasks if watch else ():
        found, known = figure(task, figures, session.recipe.lists > 1), state.figures.get(task, -math.inf)
        if found > known or found == known == -math.inf:  # what valid cannot judge is kept as it is at the end
            state.choices.best[task], state.figures[task] = epoch, found
            if watch and task == "retrieval":
                watch.remember(learner)
    if epoch:
        session.tell(facts, figures)


def figure(task: str, figures: dict[str, float], lists: bool) -> float:
    """What a task is judged by on valid, the higher the better; −∞ where valid cannot judge it."""
    name = "valid_ndcg" if task == "retrieval" else "valid_ndcg@5" if lists else "valid_rmse"
    found = figures.get(name, math.nan) * (-1 if name == "valid_rmse" else 1)
    return found if math.isfinite(found) else -math.inf


def tired(session: Session) -> bool:
    """Whether no task that valid can judge has improved for `patience` epochs."""
    state = session.state
    best = [state.choices.best[task] for task, found in state.figures.items() if math.isfinite(found)]
    return bool(best) and state.epoch - max(best) >= session.recipe.patience
