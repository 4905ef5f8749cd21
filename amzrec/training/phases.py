"""The phases of a training: `select` chooses epochs on valid, `refit` trains as long again on train + valid.

With --history sequence each of them is followed by `attend`, which does the same with attention.
"""

from __future__ import annotations

import dataclasses
import math

from amzrec import interrupts
from amzrec.arrays import Floats
from amzrec.config import Recipe
from amzrec.errors import AmzrecError
from amzrec.features.fitted import FittedReviews, fit_reviews
from amzrec.model.keras2 import graphs_as_written
from amzrec.store.dataset import Reviews
from amzrec.training.attending import attend, attend_again
from amzrec.training.choosing import choose_beside, choose_time, with_chosen_time
from amzrec.training.initial import initial_product_vectors
from amzrec.training.learner import Learner, tf
from amzrec.training.release import give_back_memory
from amzrec.training.session import WATCH, Session
from amzrec.training.start import Start
from amzrec.training.state import ATTEND, ATTEND_AGAIN, REFIT, SELECT, WRITE, Choices, MemoryChoice
from amzrec.training.warm import start_at
from amzrec.training.watch import Watch

TASKS = ("rating", "retrieval")


def run(session: Session) -> None:
    """Go through both phases, or through what is left of them, then write the files of the run."""
    gpus = tf.config.list_physical_devices("GPU")
    where = f"{len(gpus)} GPU" if gpus else "the CPU (TensorFlow sees no GPU)"
    number = session.replicas.number
    session.progress.say(f"training on {where}" + (f", {number} replicas" if number > 1 else ""))
    if session.recipe.attends and session.replicas.worker.workers > 1:
        raise AmzrecError(
            "--history sequence trains attention in one process, and this is a cluster of "
            f"{session.replicas.worker.workers}: add --history recent, or train without the other workers"
        )
    with graphs_as_written():
        if session.state.phase == SELECT:
            if session.start and not session.state.begun:
                inherit(session, session.start)
            if session.start is None or session.start.judged or not session.recipe.refit:
                select(session)
            session.begin_phase(ATTEND if session.recipe.attends else REFIT if session.recipe.refit else WRITE)
        if session.state.phase == ATTEND:
            attend(session)
            session.begin_phase(REFIT if session.recipe.refit else WRITE)
        if session.state.phase == REFIT:
            refit(session, session.state.choices)
            attention = session.state.choices.attention
            session.begin_phase(ATTEND_AGAIN if attention and attention.share else WRITE)
        if session.state.phase == ATTEND_AGAIN:
            attend_again(session, session.state.choices)
            session.begin_phase(WRITE)
    session.finish(["train", "valid"] if session.recipe.refit else ["train"])


def select(session: Session) -> Choices:
    """Train on train, and return what valid chooses: from where to start, the best epoch of each task, what beside it.

    Without valid reviews all epochs are trained and the last one is kept. Snapshots are kept only where no refit
    follows.
    """
    learner, watch = choose_epochs(session)
    if watch and session.recipe.attends:
        watch.save(session.work / WATCH)  # what stands beside the towers is chosen when attention is there
    elif watch and not session.start:
        with session.saving(learner, watch):
            choose_beside(session, learner.fitted, watch, [(0.0, watch.best)] if watch.best else [])
    if session.start and not session.recipe.refit:
        session.keep_memory(learner.fitted)
    learner.close()
    give_back_memory()
    return session.state.choices


def choose_epochs(session: Session) -> tuple[Learner, Watch | None]:
    """Train on train until valid sees no gain, noting the best epoch of each task; all epochs where there is no valid.

    Returns what learned, and what judged it on valid.
    """
    dataset, recipe, state = session.dataset, session.recipe, session.state
    watched = session.start.judged if session.start else len(dataset.valid) > 0
    fitted = fit_reviews(dataset, dataset.train, recipe)
    if not watched:
        state.choices.best = dict.fromkeys(recipe.tasks, recipe.epochs)
    watch = Watch(dataset, fitted.candidates, recipe.seed) if watched and session.chief else None
    if watched and not state.begun and not session.start:
        if watch:
            choose_time(session, fitted, watch)
        state.choices = Choices.of(session.replicas.agree(dataclasses.asdict(state.choices)))
    fitted = with_chosen_time(fitted, dataset.train, state.choices)
    learner = new_learner(session, fitted, watch)
    keep = not recipe.refit
    if not session.resumed(learner, watch):
        judge(session, learner, watch, 0, {})
        if keep:
            session.keep_snapshots(learner, tasks_best_at(0, recipe, state.choices))
    alone = recipe.attends and watched and recipe.tasks == ("retrieval",)  # attention needs no towers beside it
    most = 0 if alone else recipe.epochs
    while state.epoch < most and not (watched and out_of_patience(session)):
        with interrupts.held():
            facts = session.epoch(learner, watch, SELECT, most)
            judge(session, learner, watch, state.epoch, facts)
            if keep:
                session.keep_snapshots(learner, tasks_best_at(state.epoch, recipe, state.choices))
            session.checkpoint(learner, watch)
    return learner, watch


def inherit(session: Session, start: Start) -> None:
    """Take over what the run that is trained on had chosen on valid; all but the epochs, and what time says.

    That is chosen anew, on the valid reviews as they were prepared, since no weights take part in it.
    """
    choices, info, split = session.state.choices, start.run.info, start.split
    choices.half_life, choices.all_time_now, choices.trend = info.half_life, info.all_time_now, info.trend
    choices.svd_start, choices.moment = info.svd_start, start.run.vectors.head.moment
    choices.memory = None if info.memory is None else MemoryChoice(**info.memory)
    if not start.judged:
        choices.best = dict.fromkeys(session.recipe.tasks, session.recipe.epochs)
    if session.recipe.features != "ids" and split.has_time and len(split.valid):
        fitted = fit_reviews(split, split.train, session.recipe)
        choose_time(session, fitted, Watch(split, fitted.candidates, session.recipe.seed), split)


def refit(session: Session, choices: Choices) -> None:
    """Train on train + valid for the chosen epochs, and keep a snapshot of each task at its own best epoch."""
    dataset, recipe, state = session.dataset, session.recipe, session.state
    both = Reviews.concat([dataset.train, dataset.valid])
    fitted = with_chosen_time(fit_reviews(dataset, both, recipe), both, choices)
    learner = new_learner(session, fitted, None)
    if not session.resumed(learner, None):
        session.keep_snapshots(learner, tasks_best_at(0, recipe, choices))
    while state.epoch < choices.epochs:
        with interrupts.held():
            facts = session.epoch(learner, None, REFIT, choices.epochs)
            session.record(facts, {})
            session.keep_snapshots(learner, tasks_best_at(state.epoch, recipe, choices))
            session.checkpoint(learner, None)
    with session.saving(learner, None):
        session.keep_memory(fitted)
    learner.close()
    give_back_memory()


def tasks_best_at(epoch: int, recipe: Recipe, choices: Choices) -> list[str]:
    """Return the tasks whose best epoch is this one, so that their vectors must be kept now.

    A task that is not trained is kept as it started; or, where both tasks read all dimensions, as the best epoch of
    the other task left it.
    """
    untrained = choices.best[recipe.tasks[0]] if recipe.features == "ids" else 0
    return [task for task in TASKS if choices.best.get(task, untrained) == epoch]


def new_learner(session: Session, fitted: FittedReviews, watch: Watch | None) -> Learner:
    """Build the untrained model, whose products start at singular vectors where that ranks valid better.

    Valid decides that once, before the first epoch, by comparing it with popularity alone; the refit follows.
    """
    recipe, state, dataset = session.recipe, session.state, session.dataset
    if session.start:
        return warm_learner(session, session.start, fitted)
    deciding = state.phase == SELECT and len(dataset.valid) > 0 and not state.begun
    vectors: Floats | None = None
    if recipe.svd_start and (deciding or state.choices.svd_start):
        vectors = initial_product_vectors(fitted, recipe.retrieval_dims, recipe.own_vector, recipe.seed)
    learner = Learner(recipe, fitted, dataset, vectors, replicas=session.replicas)
    if deciding:
        better = False
        if vectors is not None and watch is not None:
            better = watch.start_figure(learner) > watch.popularity_figure(fitted)
        state.choices.svd_start = better = session.replicas.agree(better)
        if vectors is not None and not better:
            learner.close()
            give_back_memory()
            learner = Learner(recipe, fitted, dataset, replicas=session.replicas)
    learner.scratch = session.work if session.chief else None
    learner.prepare()
    return learner


def warm_learner(session: Session, start: Start, fitted: FittedReviews) -> Learner:
    """Build the model with the tables of a run; its epochs pass over the reviews that are new to it and some others."""
    fresh = start.fresh_of(fitted.customer, fitted.product)
    learner = Learner(session.recipe, fitted, session.dataset, fresh=fresh, replicas=session.replicas)
    start_at(learner, start)
    learner.scratch = session.work if session.chief else None
    learner.prepare()
    return learner


def judge(session: Session, learner: Learner, watch: Watch | None, epoch: int, facts: dict[str, float]) -> None:
    """Measure the model on valid, note each task whose best epoch this is, and record the epoch with its `facts`."""
    state = session.state
    figures: dict[str, float] = session.replicas.agree(watch.figures(learner) if watch else {})
    for task in session.recipe.tasks if len(session.dataset.valid) else ():
        now = deciding_figure(task, figures, session.recipe.reviews_together > 1)
        best = state.figures.get(task, -math.inf)
        if now > best or now == best == -math.inf:  # a task that valid cannot judge is kept as it is at the end
            state.choices.best[task], state.figures[task] = epoch, now
            if watch:
                watch.remember(learner, task)
    if epoch:
        session.record(facts, figures)


def deciding_figure(task: str, figures: dict[str, float], lists: bool) -> float:
    """Return the figure on valid that a task is judged by, the higher the better; −∞ where valid cannot judge it.

    `lists` tells whether the rating is learned by a loss over lists.
    """
    name = "valid_ndcg" if task == "retrieval" else "valid_ndcg@5" if lists else "valid_rmse"
    value = figures.get(name, math.nan) * (-1 if name == "valid_rmse" else 1)
    return value if math.isfinite(value) else -math.inf


def out_of_patience(session: Session) -> bool:
    """Tell whether no task that valid can judge has improved for `patience` epochs."""
    state = session.state
    best = [epoch for task, epoch in state.choices.best.items() if math.isfinite(state.figures.get(task, math.inf))]
    return bool(best) and state.epoch - max(best) >= session.recipe.patience
