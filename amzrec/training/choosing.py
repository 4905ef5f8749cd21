"""What valid chooses beside the epochs: how time counts, and what stands beside the towers."""

from __future__ import annotations

import dataclasses
import math

from amzrec.evaluation import judge
from amzrec.evaluation.baselines import choose_half_life
from amzrec.features.fitted import FittedReviews
from amzrec.features.popularity import KERNEL_HALF_LIVES, Popularity
from amzrec.store.dataset import Dataset, Reviews
from amzrec.training.remember import Chosen, choose_memory
from amzrec.training.residuals import choose_moment
from amzrec.training.session import Session
from amzrec.training.state import Choices
from amzrec.training.watch import Watch, WatchedSystem

BOTH_SIDES = ("random", "per-customer", "given")  # splits after which later reviews of a customer may be known

Shares = list[tuple[float, WatchedSystem]]  # systems that retrieve, each with the share that attention has in it


def choose_time(session: Session, fitted: FittedReviews, watch: Watch, dataset: Dataset | None = None) -> None:
    """Choose on valid the half-life of the popularity that retrieval starts from, and whether stars follow a trend.

    Also whether what is popular at the end, or of all time, ranks better when it is asked as of now. `dataset` is what
    was fitted and is judged by, where it is not that of the session.
    """
    dataset, recipe, choices = dataset or session.dataset, session.recipe, session.state.choices
    if recipe.features == "ids" or not dataset.has_time:
        return
    by_half_life = {days: fitted.with_popularity(dataset.train, days) for days in (None, *KERNEL_HALF_LIVES)}
    choices.half_life = choose_half_life(list(by_half_life), lambda days: watch.popularity_figure(by_half_life[days]))
    now = (by_half_life[days].popularity.log_share_now for days in (choices.half_life, None))
    last, all_time = (watch.served_figure(log_share) for log_share in now)
    choices.all_time_now = all_time > last
    choices.trend = watch.trend_gain(by_half_life[choices.half_life].with_trend()) > 0


def with_chosen_time(fitted: FittedReviews, reviews: Reviews, choices: Choices) -> FittedReviews:
    """Return fitted reviews with the popularity over time and the trend that were chosen; `reviews` have the times."""
    if choices.half_life is not None:
        fitted = fitted.with_popularity(reviews, choices.half_life)
    if choices.all_time_now:
        fitted = fitted.with_popularity_now(Popularity.of_all_time(reviews.product, len(fitted.products)))
    return fitted.with_trend() if choices.trend else fitted


def choose_beside(session: Session, fitted: FittedReviews, watch: Watch, systems: Shares) -> None:
    """Choose on valid, with what the best epochs learned, what stands beside the towers: attention, memory, moment."""
    recipe, choices, split = session.recipe, session.state.choices, session.dataset.protocol.split
    best = -math.inf
    for share, system in systems if recipe.memory or choices.attention else ():
        chosen = with_memory(session, watch, system, fitted)
        if chosen.figure > best:
            best, choices.memory = chosen.figure, chosen.memory
            if choices.attention:
                choices.attention = dataclasses.replace(choices.attention, share=share)
    if recipe.memory and not recipe.refit:
        session.keep_memory(fitted)
    if watch.residuals is not None:
        choices.moment = choose_moment(watch.residuals, past_only=split not in BOTH_SIDES)


def with_memory(session: Session, watch: Watch, system: WatchedSystem, fitted: FittedReviews) -> Chosen:
    """Choose the memory that goes best with a system, where the recipe allows one."""
    if not session.recipe.memory:
        return Chosen(None, judge.watch(watch.testset, system)["ndcg"])
    return choose_memory(watch.testset, system, fitted, by_order=session.recipe.reads_order)
