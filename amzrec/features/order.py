"""The columns of a step where retrieval reads products in their order, and which kind of steps a recipe has."""

from __future__ import annotations

import numpy as np

from amzrec.arrays import Ints
from amzrec.config import Recipe
from amzrec.features.candidates import Candidates, InBatch
from amzrec.features.columns import OrderColumns, RecentColumns, StepColumns
from amzrec.features.fitted import FittedReviews
from amzrec.features.recent import RECENT_PRODUCTS, OrderVotes, recent_columns
from amzrec.features.shares import WHOLE, Part, Share
from amzrec.features.steps import NO_CANDIDATE, HistorySteps, IdSteps, QueryVectors, Steps, UniformSource


def steps_of(fitted: FittedReviews, recipe: Recipe, uniform: UniformSource) -> Steps:
    """Return what makes the columns of the steps of a training."""
    if recipe.features == "ids":
        return IdSteps(fitted, recipe, uniform)
    return (OrderSteps if recipe.reads_order else HistorySteps)(fitted, recipe, uniform)


class OrderSteps(HistorySteps):
    """Makes the columns where retrieval reads the last products of a customer alone, and the rating whole histories."""

    def __init__(self, fitted: FittedReviews, recipe: Recipe, uniform: UniformSource) -> None:
        super().__init__(fitted, recipe, uniform)
        self.of_batch = InBatch(fitted, log_q=False)
        self.memory = OrderVotes(fitted) if recipe.learns_votes else None

    def columns(self, reviews: Ints, step: int, share: Share = WHOLE) -> StepColumns:
        """Make the columns of a step, as Steps.columns says."""
        fitted, recipe, seed = self.fitted, self.recipe, self.seed(step)
        part = self.part_of(reviews, share)
        mine = reviews[part.reviews]
        customer, product = fitted.customer[mine], fitted.product[mine]
        columns: StepColumns = {"reviews": self.review_columns(mine)}
        if "rating" in recipe.tasks:
            customers, products, part = self.parts_of(reviews, self.of_batch.of(fitted.product[reviews]), seed, share)
            columns["towers"] = self.tower_columns(mine, seed, part, customers, products, None)
        if "retrieval" in recipe.tasks:
            candidates = self.negatives.of(fitted.product[reviews]).part(part.reviews)
            recent = recent_columns(fitted, customer, fitted.timeline_slot[mine].astype(np.int64), RECENT_PRODUCTS)
            columns["order"] = self.order_columns(recent, candidates, seed, part)
            own = QueryVectors(customer, np.arange(len(mine)), shared=False)
            retrieval = self.retrieval_columns(mine, candidates, own)
            if self.memory:
                self.candidate_of_product[candidates.rows] = np.arange(len(candidates.rows))
                votes = self.memory.of(recent, product, self.candidate_of_product, len(candidates.rows))
                self.candidate_of_product[candidates.rows] = NO_CANDIDATE
                retrieval = retrieval._replace(votes=votes)
            columns["retrieval"] = retrieval
        return self.shared(columns, reviews, part)

    def order_columns(self, recent: RecentColumns, candidates: Candidates, seed: int, part: Part) -> OrderColumns:
        """Drop some of the last products, and some numbers of the query vectors, as this step draws."""
        share, dims = self.recipe.order_dropout, self.recipe.retrieval_dims
        widths = {3: recent.present.shape[1], 4: dims}
        drawn = {n: self.uniform(seed, n, part.size * w).reshape(-1, w)[part.reviews] for n, w in widths.items()}
        present = recent.present & (drawn[3] >= share)
        kept = (drawn[4] >= share) / np.float32(1 - share)
        return OrderColumns(
            recent._replace(present=present),
            kept.astype(np.float32),
            candidates.rows,
            candidates.products,
            candidates.place,
        )
