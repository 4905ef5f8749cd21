"""How good a model in training is on valid: what chooses epochs, and what it starts from."""

from __future__ import annotations

import numpy as np

from amzrec.answers.ranks import rank
from amzrec.arrays import Floats, Lists
from amzrec.evaluation.metrics import MISS, draw_lists, list_ndcg
from amzrec.features.fitted import Fitted
from amzrec.store.dataset import Dataset
from amzrec.training.learner import Learner

MOST = 20_000  # valid reviews that an epoch is judged by


class Watch:
    """Judges a model on (a sample of) the valid reviews: RMSE of its stars, NDCG of each review's full rank.

    The rank is among the candidates that the customer has not reviewed in the fitted reviews, as of the review's
    period; a product that is no candidate counts 0.
    """

    def __init__(self, dataset: Dataset, fitted: Fitted, seed: int) -> None:
        valid = dataset.valid
        if len(valid) > MOST:
            valid = valid.take(np.sort(np.random.default_rng([seed, 2]).choice(len(valid), MOST, replace=False)))
        self.fitted = fitted
        asked = np.stack([valid.customer, fitted.popularity.period(valid.timestamp)])
        (customer, self.period), owner = np.unique(asked, axis=1, return_inverse=True)  # one list per question
        order = np.argsort(owner, kind="stable")
        self.valid, owner = valid.take(order), owner[order]
        self.customers, self.customer_of = np.unique(customer, return_inverse=True)
        position = np.full(len(fitted.products), -1)
        position[fitted.candidates] = np.arange(len(fitted.candidates))
        self.positives = Lists.of(owner, position[self.valid.product], len(customer))
        reviewed = fitted.customers.histories.partners.take(customer)
        self.seen = Lists(reviewed.offsets, position[reviewed.items])
        self.rated = ~np.isnan(self.valid.stars)
        rated = np.flatnonzero(self.rated)
        self.lists = rated[draw_lists(self.valid.customer[rated], np.random.default_rng([seed, 3]))]  # [L, LIST]

    def figures(self, learner: Learner) -> dict[str, float]:
        """valid_rmse in stars and valid_ndcg, from averaged weights; NaN where there is nothing to measure."""
        fitted, figures = self.fitted, dict[str, float]()
        products = np.union1d(fitted.candidates, self.valid.product).astype(np.int32)
        with learner.averaged():
            x, y = learner.queries(self.customers), learner.candidates(products)
            if "rating" in learner.recipe.tasks:
                own = np.searchsorted(self.customers, self.valid.customer)
                stars = learner.stars(
                    self.valid.customer, self.valid.product, x[own], y[np.searchsorted(products, self.valid.product)]
                )
                period = fitted.popularity.period(self.valid.timestamp)
                figures |= self.rating(stars + fitted.trend[period] * fitted.scale.unit, learner.recipe.lists > 1)
            if "retrieval" in learner.recipe.tasks:
                place = np.searchsorted(products, fitted.candidates)
                figures["valid_ndcg"] = self.retrieval(learner, x, y[place])
        return figures

    def start_figure(self, learner: Learner) -> float:
        """valid_ndcg of an untrained model."""
        return self.retrieval(learner, learner.queries(self.customers), learner.candidates(self.fitted.candidates))

    def rating(self, stars: Floats, lists: bool) -> dict[str, float]:
        """RMSE of these stars of the valid reviews [n], and NDCG of lists of one customer where it is asked for."""
        scale = self.fitted.scale
        error = (np.clip(stars, scale.low, scale.high) - self.valid.stars)[self.rated]
        figures = {"valid_rmse": float(np.sqrt(np.mean(np.square(error)))) if len(error) else float("nan")}
        if lists:
            gains = list_ndcg(self.valid.stars[self.lists], stars[self.lists], scale.low, scale.high)
            figures["valid_ndcg@5"] = float(np.nanmean(gains)) if len(gains) else float("nan")
        return figures

    def retrieval(self, learner: Learner, x: Floats, y: Floats) -> float:
        """valid_ndcg of the tower vectors of the watched customers and of all candidates."""
        candidates = self.fitted.candidates
        queries, vectors = learner.retrieval_vectors(x, y, candidates)
        return self.ndcg(queries[self.customer_of], vectors, learner.context(candidates))

    def trend_gain(self) -> float:
        """How much the trend lowers the squared error of the biases on the rated valid reviews, in model units."""
        fitted, valid = self.fitted, self.valid
        value, scale = fitted.scale.to_model(valid.stars), fitted.bias_scale()
        trend = fitted.trend[fitted.popularity.period(valid.timestamp)]
        biases = (side.biases.all[rows] for side, rows in
                  ((fitted.customers, valid.customer), (fitted.products, valid.product)))  # fmt: skip
        rest = value - sum(weight * bias for weight, bias in zip(scale, biases, strict=True))
        without, with_it = (np.square(rest - t)[self.rated] for t in (0.0, trend))
        return float(without.mean() - with_it.mean()) if self.rated.any() else 0.0

    def popularity_figure(self) -> float:
        """valid_ndcg of popularity alone, in the period of each review."""
        table = self.fitted.popularity.log_share[:, self.fitted.candidates]
        nothing = np.zeros((len(self.customer_of), 1), np.float32), np.zeros((table.shape[1], 1), np.float32)
        return self.ndcg(*nothing, table)

    def ndcg(self, queries: Floats, candidates: Floats, prior: Floats) -> float:
        """Mean over the valid reviews of 1 / log2(1 + rank)."""
        each = np.arange(len(queries))
        above = rank(queries, candidates, each, self.positives, self.seen, 0, prior, self.period).above_unseen
        gains = np.where(above == MISS, 0.0, 1.0 / np.log2(np.minimum(above, MISS - 2) + 2.0))
        return float(gains.mean()) if len(gains) else float("nan")
