"""The columns of a step where retrieval reads products in their order, and which kind of steps a recipe has."""

from __future__ import annotations

import numpy as np

from amzrec.arrays import Ints
from amzrec.config import Recipe
from amzrec.features.candidates import Candidates, InBatch
from amzrec.features.columns import OrderColumns, RecentColumns, StepColumns
from amzrec.features.fitted import FittedReviews
from amzrec.features.recent import RECENT_PRODUCTS, OrderVotes, recent_columns
from amzrec.features.steps import NO_CANDIDATE, HistorySteps, IdSteps, QueryVectors, Steps, UniformSource


def steps_of(fitted: FittedReviews, recipe: Recipe, uniform: UniformSource) -> Steps:
    """Return what makes the columns of the steps of a training."""
    if recipe.features == "ids":
        return IdSteps(fitted, recipe, uniform)
    return (OrderSteps if recipe.history == "recent" else HistorySteps)(fitted, recipe, uniform)


class OrderSteps(HistorySteps):
    """Makes the columns where retrieval reads the last products of a customer alone, and the rating whole histories."""

    def __init__(self, fitted: FittedReviews, recipe: Recipe, uniform: UniformSource) -> None:
        super().__init__(fitted, recipe, uniform)
        self.of_batch = InBatch(fitted, log_q=False)
        self.memory = OrderVotes(fitted) if recipe.learns_votes else None

    def columns(self, reviews: Ints, step: int) -> StepColumns:
        """Make the columns of a step, as Steps.columns says."""
        fitted, recipe, seed = self.fitted, self.recipe, self.seed(step)
        customer, product = fitted.customer[reviews], fitted.product[reviews]
        columns: StepColumns = {"reviews": self.review_columns(reviews)}
        if "rating" in recipe.tasks:
            sides = self.sides_of(reviews, self.of_batch.of(product), seed)
            columns["towers"] = self.tower_columns(reviews, seed, *sides, None)
        if "retrieval" in recipe.tasks:
            candidates = self.negatives.of(product)
            recent = recent_columns(fitted, customer, fitted.timeline_slot[reviews], RECENT_PRODUCTS["recent"])
            columns["order"] = self.order_columns(recent, candidates, seed)
            own = QueryVectors(customer, np.arange(len(reviews)), shared=False)
            retrieval = self.retrieval_columns(reviews, candidates, own)
            if self.memory:
                self.candidate_of_product[candidates.rows] = np.arange(len(candidates.rows))
                votes = self.memory.of(recent, product, self.candidate_of_product, len(candidates.rows))
                self.candidate_of_product[candidates.rows] = NO_CANDIDATE
                retrieval = retrieval._replace(votes=votes)
            columns["retrieval"] = retrieval
        return columns

    def order_columns(self, recent: RecentColumns, candidates: Candidates, seed: int) -> OrderColumns:
        """Drop some of the last products, and some numbers of the query vectors, as this step draws."""
        share, (reviews, last) = self.recipe.order_dropout, recent.present.shape
        dims = self.recipe.retrieval_dims
        present = recent.present & (self.uniform(seed, 3, reviews * last).reshape(reviews, last) >= share)
        kept = (self.uniform(seed, 4, reviews * dims).reshape(reviews, dims) >= share) / np.float32(1 - share)
        return OrderColumns(
            recent._replace(present=present),
            kept.astype(np.float32),
            candidates.rows,
            candidates.products,
            candidates.place,
        )
