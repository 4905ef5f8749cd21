"""The start of the product vectors: the communities of a block matrix, nothing where there is too little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import amzrec
from amzrec.config import PrepareConfig, TrainConfig
from amzrec.features.fitted import FittedReviews
from amzrec.store.dataset import Dataset
from amzrec.training.initial import LENGTH, initial_product_vectors
from amzrec.training.watch import Watch
from fits import fitted_of, reviews_of


def communities(lonely: bool = False) -> FittedReviews:
    """Customers 1 .. 6 review products 1 .. 4, the others products 5 .. 8; with `lonely` product 9 has one review."""
    pairs = [(c, p) for c in range(1, 13) for p in (range(1, 5) if c <= 6 else range(5, 9)) if (c + p) % 5]
    pairs += [(1, 9)] if lonely else []
    reviews = reviews_of([(c, p, 4.0) for c, p in pairs])
    return fitted_of(reviews, own_vector=5)


def test_the_second_direction_of_two_communities_tells_them_apart() -> None:
    vectors = initial_product_vectors(communities(), 1, 2, seed=0)
    assert vectors is not None
    side = np.sign(vectors[1, 0])
    np.testing.assert_allclose(vectors[1:9, 0], side * LENGTH * np.repeat([1, -1], 4), atol=1e-5)
    assert not vectors[[0, 9]].any()


def test_it_is_the_singular_value_decomposition_of_the_normalised_matrix() -> None:
    fit = communities(lonely=True)
    matrix = np.zeros((13, 10))
    matrix[fit.customer, fit.product] = 1
    kept = matrix[1:, 1:9]  # the product with one review is left out
    normal = kept / np.sqrt(kept.sum(1, keepdims=True) * kept.sum(0))
    values, right = np.linalg.svd(normal)[1:]
    assert values[0] == pytest.approx(1)
    popular = np.sqrt(kept.sum(0) / kept.sum())
    np.testing.assert_allclose(normal.T @ normal @ popular, popular, atol=1e-9)  # what is left out of the directions
    right = np.linalg.svd(normal - normal @ np.outer(popular, popular))[2][:3].T
    known = LENGTH * right / np.linalg.norm(right, axis=1, keepdims=True)
    found = initial_product_vectors(fit, 3, 2, seed=1)
    assert found is not None
    np.testing.assert_allclose(found[1:9] @ found[1:9].T, known @ known.T, atol=1e-4)  # but for the signs
    assert not found[9].any()


def test_too_few_reviews_give_no_start() -> None:
    assert initial_product_vectors(communities(), 8, 2, seed=0) is None
    assert initial_product_vectors(communities(), 2, 30, seed=0) is None


@pytest.fixture
def parity(tmp_path: Path) -> Dataset:
    """Customers who review the odd products or the even ones, each of them equally popular."""
    rng = np.random.default_rng(3)
    lines = ["customer,product,stars"]
    for customer in range(60):
        lines += [f"c{customer},p{product},4" for product in rng.permutation(20)[:12] * 2 + customer % 2]
    (tmp_path / "reviews.csv").write_text("\n".join(lines) + "\n")
    return amzrec.prepare(tmp_path / "reviews.csv", tmp_path / "data", PrepareConfig(valid=0.2))


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_train_starts_there_where_valid_says_so(parity: Dataset, tmp_path: Path) -> None:
    config = TrainConfig(dim=12, epochs=1, rating_weight=0.0)
    assert amzrec.train(parity, tmp_path / "run", config).info.svd_start
    assert not amzrec.train(parity, tmp_path / "plain", config.replace(svd_start=False)).info.svd_start


@pytest.mark.long
@pytest.mark.usefixtures("eagerly")
def test_where_popularity_ranks_valid_better_it_trains_as_if_there_were_no_start(
    parity: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, "popularity_figure", lambda watch, fitted: 2.0)  # NDCG is at most 1
    config = TrainConfig(dim=12, epochs=2, rating_weight=0.0)
    run = amzrec.train(parity, tmp_path / "run", config)
    plain = amzrec.train(parity, tmp_path / "plain", config.replace(svd_start=False))
    assert not run.info.svd_start
    np.testing.assert_array_equal(run.vectors.retrieval_candidate, plain.vectors.retrieval_candidate)
