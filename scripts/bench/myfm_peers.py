"""myFM on the rows of a dataset: Bayesian factorization machines, as its authors set them up for MovieLens."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, diags, hstack, identity

from amzrec.arrays import Array, Lists
from amzrec.evaluation.systems import Peer, System
from amzrec.evaluation.testset import TestSet
from amzrec.store.dataset import Dataset, Reviews
from amzrec.store.strings import feature_lists
from amzrec.store.times import NO_TIME

RANK, ITERATIONS = 10, 512
DAY = 86_400


def myfm_peers(
    testset: TestSet, dataset: Dataset, iterations: int = ITERATIONS
) -> Iterator[tuple[str, Callable[[], System]]]:
    """Regression and ordered probit, each with attributes of both sides and days, and with ids and histories alone."""
    for told, note in ((True, "myFM"), (False, "myFM, without attributes and days")):
        for probit in (False, True):
            kind = "ordered probit" if probit else "regression"

            def fit(told: bool = told, probit: bool = probit) -> System:
                with contextlib.redirect_stderr(io.StringIO()):  # a bar of progress for each
                    return Peer("peer", rated=stars_of(testset, dataset, told, probit, iterations))

            yield f"{note}, {kind}", fit


def stars_of(testset: TestSet, dataset: Dataset, told: bool, probit: bool, iterations: int) -> Array:
    """The stars [T] that myFM predicts for the reviews of a test set; `told` are attributes and days."""
    import myfm

    fit = testset.fit.take(np.flatnonzero(~np.isnan(testset.fit.stars)))
    columns = columns_of(fit, dataset, told)
    (days, blocks), (test_days, test_blocks) = (columns.of(part) for part in (fit, testset.reviews))
    kept = {"n_iter": iterations, "n_kept_samples": iterations, "group_shapes": columns.groups}
    if not probit:
        model = myfm.MyFMRegressor(rank=RANK, random_seed=1)
        model.fit(days, fit.stars.astype(np.float64), X_rel=blocks, **kept)
        return np.asarray(model.predict(test_days, test_blocks))
    values, classes = np.unique(fit.stars, return_inverse=True)
    model = myfm.MyFMOrderedProbit(rank=RANK, random_seed=1)
    model.fit(days, classes, X_rel=blocks, **kept)
    return np.asarray(model.predict_proba(test_days, test_blocks) @ values)


@dataclasses.dataclass(frozen=True)
class Columns:
    """What myFM reads of a review: its day, and what is known of its customer and of its product."""

    days: Array | None  # ascending; None where they are not told
    customers: Any  # sparse [C + 1, …]
    products: Any  # sparse [N + 1, …]
    groups: list[int]  # columns of each kind, which have a prior of their own

    def of(self, reviews: Reviews) -> tuple[Any, list[Any]]:
        """The sparse columns of reviews [n] themselves, and the blocks that they point into."""
        import myfm

        sides = (reviews.customer, self.customers), (reviews.product, self.products)
        blocks = [myfm.RelationBlock(rows.astype(np.int64), table) for rows, table in sides]
        if self.days is None:
            return csr_matrix((len(reviews), 0)), blocks
        day = reviews.timestamp // DAY
        place = np.minimum(np.searchsorted(self.days, day), len(self.days) - 1)
        known = (self.days[place] == day).astype(np.float64)
        return csr_matrix((known, (np.arange(len(day)), place)), (len(day), len(self.days))), blocks


def columns_of(fit: Reviews, dataset: Dataset, told: bool) -> Columns:
    """The columns: ids, implicit histories, and where they are `told` attributes of both sides and days."""
    customers, products = dataset.customers.num_rows, dataset.products.num_rows
    seen = csr_matrix((np.ones(len(fit)), (fit.customer, fit.product)), (customers, products))
    days = np.unique(fit.timestamp // DAY) if told and not (fit.timestamp == NO_TIME).any() else None
    groups, sides = [] if days is None else [len(days)], []
    for history, table in ((seen, dataset.customers), (seen.T.tocsr(), dataset.products)):
        counts = np.asarray(history.sum(axis=1)).ravel()
        parts = [identity(len(counts), format="csr"), diags(1 / np.sqrt(np.maximum(counts, 1))) @ history]
        if told:
            parts += one_hot(table["features"].to_pylist())
        groups += [part.shape[1] for part in parts]
        sides.append(hstack(parts, format="csr"))
    return Columns(days, sides[0], sides[1], groups)


def one_hot(features: list[list[str]]) -> list[Any]:
    """A sparse matrix for each name of a feature, with a column for each of its values."""
    if (found := feature_lists(features)) is None:
        return []
    strings, lists = found
    whole = one_hot_of(lists, len(strings))
    names = np.array([strings[row].partition("=")[0] for row in range(len(strings))])
    return [whole[:, names == name] for name in dict.fromkeys(names.tolist())]


def one_hot_of(lists: Lists, width: int) -> Any:
    """Lists of column numbers as a sparse matrix of ones."""
    return csr_matrix((np.ones(len(lists.items)), (lists.owners, lists.items)), (len(lists), width))
