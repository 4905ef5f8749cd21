"""How good a model in training is on valid: what chooses epochs, and what it starts from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.arrays import Array, Doubles, Floats, Rows
from amzrec.evaluation import judge
from amzrec.evaluation.baselines import PopularityBaseline
from amzrec.evaluation.systems import CustomerVotes, Scored, by_vectors
from amzrec.evaluation.testset import Queries, TestSet, line_up
from amzrec.features.fitted import FittedReviews
from amzrec.features.memory import LISTED_WITH, of_order
from amzrec.store.dataset import Dataset
from amzrec.store.memory import Votes
from amzrec.training.learner import Learner
from amzrec.training.residuals import Residuals

MOST = 20_000  # valid reviews that an epoch is judged by


@dataclasses.dataclass(frozen=True)
class LearnerSystem:
    """A model in training as a system to be judged, with the weights that it has now."""

    learner: Learner
    votes: Votes | None = None  # of the memory that is learned with
    name: str = "training"

    def stars(self, testset: TestSet) -> Doubles | None:
        """Predict the stars of each review [T], as of its period; None where the rating is not trained."""
        learner, reviews = self.learner, testset.reviews
        if "rating" not in learner.recipe.tasks:
            return None
        x = learner.queries(testset.customers)[testset.owner]
        products, which = np.unique(reviews.product, return_inverse=True)
        stars = learner.stars(reviews.customer, reviews.product, x, learner.candidates(products)[which])
        trend = learner.fitted.trend[learner.fitted.popularity.period(reviews.timestamp)]
        return (stars + trend * learner.fitted.scale.unit).astype(np.float64)

    def moments(self, testset: TestSet) -> Array | None:
        """Number the moments [T] by the periods of popularity."""
        return self.learner.fitted.popularity.period(testset.reviews.timestamp)

    def scores(self, testset: TestSet, queries: Queries) -> Scored | None:
        """Score all candidates for each query; None where retrieval is not trained."""
        if "retrieval" not in self.learner.recipe.tasks:
            return None
        learner, rows = self.learner, testset.candidates
        x, y = learner.retrieval_queries(testset.customers), learner.retrieval_candidates(rows)
        votes = CustomerVotes(self.votes, testset.column) if self.votes else None
        return by_vectors(*learner.retrieval_vectors(x, y, rows), queries, learner.context(rows), votes)


@dataclasses.dataclass(frozen=True)
class PopularitySystem:
    """Popularity over time alone: what an untrained model ranks by."""

    fitted: FittedReviews
    name: str = "popularity over time"

    def stars(self, testset: TestSet) -> Doubles | None:
        """Predict no stars."""
        return None

    def moments(self, testset: TestSet) -> Array | None:
        """Number the moments [T] by the periods of popularity."""
        return self.fitted.popularity.period(testset.reviews.timestamp)

    def scores(self, testset: TestSet, queries: Queries) -> Scored:
        """Score all candidates by their log share in the period of each query."""
        nobody, nothing = (
            np.zeros((rows, 1), np.float32) for rows in (len(testset.customers), len(testset.candidates))
        )
        return by_vectors(nobody, nothing, queries, self.fitted.popularity.log_share[:, testset.candidates])


@dataclasses.dataclass(frozen=True)
class WatchedSystem:
    """The retrieval of an epoch as a system: its vectors of the watched customers and of all candidates."""

    fitted: FittedReviews
    queries: Floats  # [G, Dr + 1]
    candidates: Floats  # [M, Dr + 1]
    votes: CustomerVotes | None = None
    name: str = "watched"

    def stars(self, testset: TestSet) -> Doubles | None:
        """Predict no stars."""
        return None

    def moments(self, testset: TestSet) -> Array | None:
        """Number the moments [T] by the periods of popularity."""
        return self.fitted.popularity.period(testset.reviews.timestamp)

    def scores(self, testset: TestSet, queries: Queries) -> Scored:
        """Score all candidates for each query, with the votes where there are some."""
        context = self.fitted.popularity.beyond_now(testset.candidates)
        return by_vectors(self.queries, self.candidates, queries, context, self.votes)


class Watch:
    """Judges on (a sample of) the valid reviews, whose products are ranked among what their customers do not have."""

    def __init__(self, dataset: Dataset, candidates: Rows, seed: int) -> None:
        """`candidates` [M] are the product rows to rank among."""
        valid = dataset.valid
        if len(valid) > MOST:
            valid = valid.take(np.sort(np.random.default_rng([seed, 2]).choice(len(valid), MOST, replace=False)))
        rng = np.random.default_rng([seed, 3])
        self.testset = line_up(dataset, valid, dataset.train, dataset.train, candidates, rng)
        self.best: WatchedSystem | None = None  # the retrieval of the best epoch, see `remember`
        self.votes: Votes | None = None  # of the memory that is learned with, see `votes_of`
        self.residuals: Residuals | None = None  # what the best epoch of the rating left, see `remember`

    def remember(self, learner: Learner, task: str) -> None:
        """Keep what this epoch learned of a task, by averaged weights, as the best, for what is chosen beside it."""
        rows, recipe = self.testset.candidates, learner.recipe
        if task == "rating" and recipe.moment:
            with learner.averaged():
                stars = LearnerSystem(learner).stars(self.testset)
                assert stars is not None
                self.residuals = Residuals.of(learner, self.testset, stars)
        if task == "rating":
            return
        with learner.averaged():
            x, y = learner.retrieval_queries(self.testset.customers), learner.retrieval_candidates(rows)
            self.best = WatchedSystem(learner.fitted, *learner.retrieval_vectors(x, y, rows))

    def save(self, file: Path) -> None:
        """Write what is remembered."""
        kept: dict[str, Any] = {}
        if self.best is not None:
            kept |= {"queries": self.best.queries, "candidates": self.best.candidates}
        if self.residuals is not None:
            kept |= self.residuals.arrays()
        np.savez(file, **kept)

    def load(self, file: Path, fitted: FittedReviews) -> None:
        """Read what `save` wrote."""
        with np.load(file, allow_pickle=False) as kept:
            if "queries" in kept:
                self.best = WatchedSystem(fitted, kept["queries"], kept["candidates"])
            if "near_items" in kept:
                self.residuals = Residuals.load(kept)

    def figures(self, learner: Learner) -> dict[str, float]:
        """Measure valid_rmse in stars and valid_ndcg, and valid_ndcg@5 of a loss over lists, with averaged weights."""
        with learner.averaged():
            found = judge.watch(self.testset, LearnerSystem(learner, self.votes_of(learner)))
        unwanted = () if learner.recipe.reviews_together > 1 else ("ndcg@5",)
        return {f"valid_{name}": value for name, value in found.items() if name not in unwanted}

    def votes_of(self, learner: Learner) -> Votes | None:
        """Add up the votes of the memory that is learned with, once; None where there is none."""
        if learner.recipe.learns_votes and self.votes is None:
            fitted = learner.fitted
            memory = of_order(fitted.timelines, len(fitted.products)).scaled(LISTED_WITH)
            self.votes = memory.votes(fitted.timelines.take(self.testset.customers))
        return self.votes

    def start_figure(self, learner: Learner) -> float:
        """Measure valid_ndcg of an untrained model."""
        return judge.watch(self.testset, LearnerSystem(learner))["ndcg"]

    def popularity_figure(self, fitted: FittedReviews) -> float:
        """Measure valid_ndcg of popularity over time alone."""
        return judge.watch(self.testset, PopularitySystem(fitted))["ndcg"]

    def served_figure(self, log_share: Floats) -> float:
        """Measure valid_ndcg of popularity [N + 1] alone, whenever a question is asked."""
        return judge.watch(self.testset, PopularityBaseline("popularity now", log_share))["ndcg"]

    def trend_gain(self, fitted: FittedReviews) -> float:
        """How much the trend lowers the squared error of the biases on the rated valid reviews, in model units."""
        valid = self.testset.reviews
        rated = ~np.isnan(valid.stars)
        trend = fitted.trend[fitted.popularity.period(valid.timestamp)]
        scale, sides = fitted.bias_scale(), ((fitted.customers, valid.customer), (fitted.products, valid.product))
        biases = [weight * side.biases.all[rows] for weight, (side, rows) in zip(scale, sides, strict=True)]
        rest = fitted.scale.to_model(valid.stars) - biases[0] - biases[1]
        without, with_it = (np.square(rest - t)[rated] for t in (0.0, trend))
        return float(without.mean() - with_it.mean()) if rated.any() else 0.0
