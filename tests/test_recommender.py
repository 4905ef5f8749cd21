"""The vectors at work: fold-in, rating head, similar products, near names."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from amzrec.answers.recommender import Recommender
from amzrec.errors import AmzrecError
from amzrec.store.dataset import open_dataset
from runs import parity_vectors, random_vectors

NOTHING = np.zeros(0, np.int32)


@pytest.fixture(scope="module")
def random(checkerboard: Path) -> Recommender:
    return Recommender(random_vectors(open_dataset(checkerboard), np.random.default_rng(1)))


@pytest.fixture(scope="module")
def parity(checkerboard: Path) -> Recommender:
    return Recommender(parity_vectors(open_dataset(checkerboard)))


def test_a_fold_in_of_nothing_new_gives_the_stored_query(random: Recommender) -> None:
    for customer in range(21):
        stored, folded = random.query(customer), random.fold_in(customer, NOTHING)
        np.testing.assert_allclose(folded.retrieval, stored.retrieval, atol=1e-5)
        np.testing.assert_allclose(folded.rating, stored.rating, atol=1e-5)


def test_a_liked_product_that_is_in_the_history_already_changes_nothing(random: Recommender) -> None:
    product, _ = random.seen(3, [0, 1])
    folded = random.fold_in(3, product[:2])
    np.testing.assert_allclose(folded.retrieval, random.query(3).retrieval, atol=1e-5)


def test_a_new_customer_folded_in_with_a_history_becomes_that_customer(random: Recommender) -> None:
    # the same reviews on another base: the difference of the queries is the difference of the bases
    product, stars = random.seen(5, [0, 1])
    folded, known = random.fold_in(0, product, stars), random.query(5)
    base = random.vectors.query_base
    dims, temperature = random.vectors.head.retrieval_dims, random.vectors.head.temperature
    gap = (base[5] - base[0])[:dims] / temperature
    np.testing.assert_allclose(known.retrieval[:-1] - folded.retrieval[:-1], gap, atol=1e-5)
    assert folded.rating[-2] == pytest.approx(known.rating[-2], abs=1e-6)


def test_test_reviews_are_not_part_of_the_history(random: Recommender) -> None:
    fitted, everything = random.seen(1, [0, 1])[0], random.seen(1)[0]
    assert set(everything) - set(fitted) == {1}


def test_a_run_without_histories_refuses_liked_products(checkerboard: Path) -> None:
    vectors = random_vectors(open_dataset(checkerboard), np.random.default_rng(1))
    vectors = dataclasses.replace(vectors, history_bag=np.zeros_like(vectors.history_bag))
    with pytest.raises(AmzrecError, match="--features full"):
        Recommender(vectors).fold_in(0, np.array([1], np.int32))


def test_the_rating_head_equals_a_slow_loop(random: Recommender) -> None:
    v, head = random.vectors, random.vectors.head
    customers, products = np.array([1, 7, 0], np.int32), np.array([4, 20, 2], np.int32)
    found = random.rate(v.rating_query[customers], products, clip=False)
    for line, (c, p) in enumerate(zip(customers, products, strict=True)):
        q, w = v.rating_query[c].astype(float), v.rating_candidate[p].astype(float)
        x = np.concatenate([q[:-1], w[:-1], q[:-2] * w[:-2]])
        (k0, b0), (k1, b1) = v.layers
        mlp = np.maximum(x @ k0 + b0, 0) @ k1 + b1
        expected = head.mean + q[-1] + w[-1] + (v.rating_weight * q[:-2] * w[:-2]).sum() + mlp[0]
        assert found[line] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_predicted_stars_stay_on_the_scale(random: Recommender) -> None:
    v = random.vectors
    every = np.arange(21, dtype=np.int32)
    raw = random.rate(v.rating_query[every], every, clip=False)
    assert raw.min() < 1
    assert raw.max() > 5
    clipped = random.rate(v.rating_query[every], every)
    assert clipped.min() == 1
    assert clipped.max() == 5


def test_similar_products_are_those_of_the_own_parity_without_itself(parity: Recommender) -> None:
    rows, scores = parity.similar(6, 9)
    assert rows.tolist() == [2, 4, 8, 10, 12, 14, 16, 18, 20]
    scores = scores - parity.vectors.retrieval_candidate[rows, -1] / 2  # all but half of their popularity
    assert scores == pytest.approx(np.full(9, scores[0]))


def test_similar_prefers_products_of_which_more_is_known(parity: Recommender) -> None:
    changed = parity.vectors.retrieval_candidate.copy()
    changed[[8, 14], :-1] *= [[3], [2]]
    changed[4, :-1] *= 0.1
    rows, scores = Recommender(dataclasses.replace(parity.vectors, retrieval_candidate=changed)).similar(6, 9)
    assert [rows[0], rows[1], rows[-1]] == [8, 14, 4]
    scores = scores - changed[rows, -1] / 2
    assert scores[0] == pytest.approx(3 * scores[2])


def test_similar_asks_what_the_product_is_who_has_it_and_half_of_how_popular_others_are(random: Recommender) -> None:
    v = random.vectors
    asked = np.append(v.retrieval_candidate[3, :-1] + random.fold_in(0, np.array([3], np.int32)).retrieval[:-1], 0.5)
    known = v.retrieval_candidate @ asked
    rows, scores = random.similar(3, 20)
    assert set(rows) == set(range(1, 21)) - {3}
    assert scores == pytest.approx(known[rows], rel=1e-5, abs=1e-5)
    assert (np.diff(scores) <= 0).all()


def test_similar_of_a_run_without_histories_reads_the_vectors_alone(random: Recommender) -> None:
    v = dataclasses.replace(random.vectors, history_bag=np.zeros_like(random.vectors.history_bag))
    rows, scores = Recommender(v).similar(3, 20)
    known = v.retrieval_candidate @ np.append(v.retrieval_candidate[3, :-1], 0.5)
    assert scores == pytest.approx(known[rows], rel=1e-5, abs=1e-5)


def test_candidates_with_gaps_are_still_the_right_rows(checkerboard: Path) -> None:
    vectors = random_vectors(open_dataset(checkerboard), np.random.default_rng(1))
    consecutive = Recommender(vectors).candidate_vectors
    assert np.shares_memory(consecutive, vectors.retrieval_candidate)
    vectors = dataclasses.replace(vectors, candidates=np.array([2, 5, 9, 20], np.int32))
    few = Recommender(vectors)
    rows, scores = few.retrieve(vectors.retrieval_query[3:4], 4)
    assert set(rows[0]) == {2, 5, 9, 20}
    assert scores[0] == pytest.approx(vectors.retrieval_candidate[rows[0]] @ vectors.retrieval_query[3], rel=1e-5)


def test_a_product_is_found_by_id_and_by_exact_title(parity: Recommender) -> None:
    assert parity.product("p07") == parity.product("Product 7") == 8


def test_an_unknown_product_names_the_nearest_titles(parity: Recommender) -> None:
    with pytest.raises(AmzrecError, match=r"no product 'Produkt 17'.*Product 17"):
        parity.product("Produkt 17")


@pytest.mark.parametrize("name", ["", "\N{SNOWMAN}", "x" * 5000])
def test_a_hopeless_name_is_still_one_clear_error(parity: Recommender, name: str) -> None:
    with pytest.raises(AmzrecError, match="there is no product"):
        parity.product(name)
