"""Whether the moment moves the stars: what a customer gave near the time of a query, chosen on valid."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Self

import numpy as np

from amzrec.arrays import Array, Bools, Doubles, Floats, Lists, Rows
from amzrec.evaluation.testset import TestSet
from amzrec.store.dataset import Reviews
from amzrec.store.moment import Moment, nearby, spans
from amzrec.training.learner import Learner

SPANS = (150.0, 3600.0, 86_400.0, 30 * 86_400.0)  # seconds: a sitting, an hour, a day, a month
SHRINKAGES = (1.0, 3.0, 10.0)  # that are tried
MOST = 1_000_000  # fitted reviews whose residuals are worked out to choose by
FEWEST = 100  # valid reviews with stars below which nothing is chosen
RIDGE = 1e-3  # of the mean square, that keeps the shares apart where spans say the same
LEAST = 1e-12  # mean square of the stars that a span says, below which it says nothing: all reviews are far from it
FOLDS = 2


@dataclasses.dataclass(frozen=True)
class Residuals:
    """What the best epoch left of the stars of fitted reviews, and of the valid reviews of the same customers."""

    near: Lists  # for each of Q valid reviews the fitted reviews of its customer, as positions below
    fitted: Doubles  # [n] stars − expected
    times: Array  # [n] unix seconds
    valid: Doubles  # [Q] stars − expected
    moments: Array  # [Q] unix seconds
    customer: Rows  # [Q]

    @classmethod
    def of(cls, learner: Learner, testset: TestSet, stars: Doubles) -> Residuals:
        """Work them out with the weights that the learner has now; `stars` are what it expects of the valid reviews."""
        valid, sample = testset.reviews, sample_of(testset)
        fit = testset.fit.take(sample & ~np.isnan(testset.fit.stars))
        size = len(learner.fitted.customers)
        kept = ~np.isnan(valid.stars) & np.isin(valid.customer, np.unique(fit.customer))
        by_customer = Lists.of(fit.customer, np.arange(len(fit)), size)
        fit = fit.take(by_customer.items)
        return cls(
            spans(by_customer, valid.customer[kept]),
            fit.stars - expected(learner, fit),
            fit.timestamp,
            (valid.stars - stars)[kept],
            valid.timestamp[kept],
            valid.customer[kept],
        )

    def arrays(self) -> dict[str, Array]:
        """Return all arrays by their names, as `load` reads them."""
        named = {name: value for name, value in vars(self).items() if name != "near"}
        return named | {"near_offsets": self.near.offsets, "near_items": self.near.items}

    @classmethod
    def load(cls, kept: Mapping[str, Array]) -> Self:
        """Read the arrays that `arrays` returned."""
        rest = {name: kept[name] for name in ("fitted", "times", "valid", "moments", "customer")}
        return cls(Lists(kept["near_offsets"], kept["near_items"]), **rest)


def sample_of(testset: TestSet) -> Bools:
    """Tell which fitted reviews [n] are of the first customers of valid that have MOST of them together."""
    counts = np.bincount(testset.fit.customer, minlength=int(testset.customers.max(initial=0)) + 1)
    enough = testset.customers[np.cumsum(counts[testset.customers]) <= MOST]
    sample: Bools = np.isin(testset.fit.customer, enough)
    return sample


def expected(learner: Learner, reviews: Reviews) -> Doubles:
    """Predict the stars of fitted reviews [n], as of their periods."""
    customers, owner = np.unique(reviews.customer, return_inverse=True)
    products, which = np.unique(reviews.product, return_inverse=True)
    x, y, fitted = learner.queries(customers), learner.candidates(products), learner.fitted
    stars: list[Floats] = []
    for start in range(0, len(reviews), 1 << 16):
        part = slice(start, start + (1 << 16))
        stars.append(learner.stars(reviews.customer[part], reviews.product[part], x[owner[part]], y[which[part]]))
    trend = fitted.trend[fitted.popularity.period(reviews.timestamp)] * fitted.scale.unit
    found: Doubles = (np.concatenate([*stars, np.zeros(0, np.float32)]) + trend).astype(np.float64)
    return found


def choose_moment(residuals: Residuals, past_only: bool) -> Moment | None:
    """Choose the shrinkage and the shares that lower the squared error on valid; None where none lowers it.

    Shares are fitted on the customers of one half and judged on the other, and then on all of them.
    """
    target, found = residuals.valid, None
    if len(target) < FEWEST:
        return None
    fold, most = residuals.customer % FOLDS, 0.0
    for shrinkage in SHRINKAGES:
        shape = Moment(seconds=SPANS, shares=(0.0,) * len(SPANS), shrinkage=shrinkage, past_only=past_only)
        says = nearby(residuals.near, residuals.fitted, residuals.times, residuals.moments, shape)
        moved = np.zeros(len(target))
        for number in range(FOLDS):
            here = fold == number
            moved[here] = says[here] @ shares_of(says[~here], target[~here])
        gain = np.square(target) - np.square(target - moved)
        if gain.mean() > max(most, gain.std() / np.sqrt(len(gain))):
            most, found = gain.mean(), dataclasses.replace(shape, shares=tuple(shares_of(says, target).tolist()))
    return found


def shares_of(says: Doubles, target: Doubles) -> Doubles:
    """Fit shares [S], none below 0, by least squares: the most negative one is left out until none is."""
    shares, kept = np.zeros(says.shape[1]), np.flatnonzero(np.square(says).sum(axis=0) > LEAST * len(says))
    while len(kept):
        a = says[:, kept]
        gram = a.T @ a
        solved = np.linalg.solve(gram + RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram)), a.T @ target)
        if solved.min() >= 0:
            shares[kept] = solved
            break
        kept = np.delete(kept, solved.argmin())
    return shares
