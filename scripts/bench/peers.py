"""The best peers on the rows of a run, judged as the run is: Surprise, implicit and EASE.

myFM stands in `myfm_peers.py`, the table of what followed what in `transitions.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from amzrec.evaluation.judge import Figures as Judged
from amzrec.evaluation.judge import judge
from amzrec.evaluation.systems import Peer, System
from amzrec.evaluation.testset import TestSet, line_up_run
from amzrec.store.dataset import Dataset
from amzrec.store.run import Run
from trained import Figures, short

EASE_L2, ALS_FACTORS, WIDTH = 300.0, 64, 64


def peers(run: Run, dataset: Dataset, slow: bool) -> dict[str, Figures]:
    """Surprise, implicit and EASE, fitted on the rows that the run was fitted on."""
    testset = line_up_run(run, dataset)
    return judged(testset, [*rating_peers(testset, slow), *retrieval_peers(testset)])


def judged(testset: TestSet, peers: Iterable[tuple[str, Callable[[], System]]]) -> dict[str, Figures]:
    """The figures of peers, and the seconds that each took to be fitted and to answer."""
    return {name: short(found.to_json()) | {"seconds": seconds} for name, found, seconds in fitted(testset, peers)}


def fitted(testset: TestSet, peers: Iterable[tuple[str, Callable[[], System]]]) -> Iterator[tuple[str, Judged, float]]:
    """The name, all figures and the seconds of peers."""
    for name, fit in peers:
        start = time.monotonic()
        system = fit()
        seconds = time.monotonic() - start
        yield name, judge(testset, system), seconds


def rating_peers(testset: TestSet, slow: bool) -> Iterator[tuple[str, Callable[[], System]]]:
    """Surprise's models; the settings of SVD are those published as tuned on ML-100K."""
    import surprise

    low, high = (testset.scale.min, testset.scale.max) if testset.scale else (1.0, 5.0)
    fit = testset.fit.take(np.flatnonzero(~np.isnan(testset.fit.stars)))
    rows = surprise.Dataset(surprise.Reader(rating_scale=(low, high)))
    triples = zip(fit.customer.tolist(), fit.product.tolist(), fit.stars.tolist(), strict=True)
    rows = rows.construct_trainset([(c, p, s, None) for c, p, s in triples])

    def answers(model: Any) -> Callable[[], System]:
        def stars() -> System:
            model.fit(rows)
            pairs = zip(testset.reviews.customer.tolist(), testset.reviews.product.tolist(), strict=True)
            return Peer("peer", rated=np.array([model.predict(c, p, clip=False).est for c, p in pairs]))

        return stars

    yield "Surprise biases", answers(surprise.BaselineOnly(verbose=False))
    tuned = {"n_factors": 50, "n_epochs": 60, "lr_all": 0.005, "reg_all": 0.08}
    yield "Surprise SVD, tuned", answers(surprise.SVD(**tuned, random_state=1))
    if slow:
        yield "Surprise SVD++", answers(surprise.SVDpp(random_state=1))


def retrieval_peers(testset: TestSet) -> Iterator[tuple[str, Callable[[], System]]]:
    """implicit's ALS and BPR, EASE (Steck 2019, eq. 8) and EASE cut to 64 directions, which is two towers."""
    from implicit.als import AlternatingLeastSquares
    from implicit.bpr import BayesianPersonalizedRanking
    from scipy.sparse import csr_matrix

    column = testset.column[testset.fit.product]
    kept = column >= 0
    customers = int(max(testset.fit.customer.max(), testset.customers.max())) + 1
    shape = (customers, len(testset.candidates))
    seen = csr_matrix((np.ones(kept.sum(), np.float32), (testset.fit.customer[kept], column[kept])), shape=shape)

    def factors(model: Any) -> Callable[[], System]:
        def ranked() -> System:
            model.fit(seen, show_progress=False)
            return Peer("peer", customers=model.user_factors[testset.customers], candidates=model.item_factors)

        return ranked

    def ease(rank: int = 0) -> Callable[[], System]:
        def ranked() -> System:
            gram = np.asarray((seen.T @ seen).todense(), np.float64)
            gram[np.diag_indices_from(gram)] += EASE_L2
            inverse = np.linalg.inv(gram)
            weights = -inverse / np.diag(inverse)
            np.fill_diagonal(weights, 0.0)
            query = np.asarray(seen[testset.customers].todense(), np.float32)
            if not rank:
                return Peer("peer", customers=query, candidates=weights.T.astype(np.float32))
            left, size, right = np.linalg.svd(weights)
            queries = query @ (left[:, :rank] * size[:rank])
            return Peer("peer", customers=queries, candidates=right[:rank].T.astype(np.float32))

        return ranked

    als = AlternatingLeastSquares(ALS_FACTORS, regularization=0.05, alpha=1.0, iterations=15, random_state=1)
    yield "implicit ALS, 64", factors(als)
    yield "implicit BPR, 64", factors(BayesianPersonalizedRanking(WIDTH, random_state=1))
    if len(testset.candidates) < 10_000:  # it inverts products x products
        yield "EASE", ease()
        yield "EASE, rank 64", ease(WIDTH)
