"""The memory of pairs: built as documented, added up as a product of matrices, and an exact part of every answer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from amzrec.answers.index import ExactIndex
from amzrec.answers.recommender import Recommender
from amzrec.answers.scann import ScannIndex, without_scann
from amzrec.arrays import Lists
from amzrec.evaluation.judge import judge
from amzrec.evaluation.systems import RunSystem
from amzrec.evaluation.testset import line_up_test
from amzrec.features import company
from amzrec.features.attributes import Attributes
from amzrec.features.company import Company
from amzrec.features.memory import BACKWARD, CURVE, SHRINK, of_order
from amzrec.store.dataset import open_dataset
from amzrec.store.memory import FEW, Memory
from amzrec.store.vectors import Vectors, read_vectors, write_vectors
from amzrec.training.remember import climb, memory_of
from amzrec.training.state import MemoryChoice
from fits import fitted_of, reviews_of
from runs import random_vectors

RNG = np.random.default_rng(11)


def dense(memory: Memory) -> np.ndarray:
    """The memory as the matrix [N + 1, N + 1] that it stands for."""
    found = np.zeros((len(memory.neighbours), len(memory.neighbours)))
    found[memory.neighbours.owners, memory.neighbours.items] = memory.weights
    return found


def random_memory(size: int, pairs: int, fade: float = 1.0, last: int = 0) -> Memory:
    """Votes of both signs between random products; row 0, the unknown product, has none."""
    chosen = RNG.choice((size - 1) ** 2, pairs, replace=False)
    memory = Memory.of_pairs(1 + chosen // (size - 1), 1 + chosen % (size - 1), RNG.normal(size=pairs), size)
    return dataclasses.replace(memory, fade=fade, last=last)


# --- built


def test_what_followed_what_counts_by_distance_direction_and_how_often_both_come() -> None:
    found = dense(of_order(Lists.join([np.array([1, 2, 3]), np.array([2, 1])]), 4))
    root = {(a, b): np.sqrt((count(a) + SHRINK) * (count(b) + SHRINK)) for a in (1, 2, 3) for b in (1, 2, 3)}
    known = np.zeros((4, 4))
    known[1, 2] = (1 + BACKWARD) / root[1, 2]  # 2 comes next after 1 once, and just before it once
    known[2, 1] = (1 + BACKWARD) / root[2, 1]
    known[2, 3], known[3, 2] = 1 / root[2, 3], BACKWARD / root[3, 2]
    known[1, 3], known[3, 1] = 0.5 / root[1, 3], 0.5 * BACKWARD / root[3, 1]  # two steps apart
    np.testing.assert_allclose(found, CURVE * known, rtol=1e-6)


def count(product: int) -> int:
    """How often each product of the test above comes."""
    return {1: 2, 2: 2, 3: 1}[product]


@pytest.mark.parametrize("at_once", [1, 100, 700])
def test_a_memory_is_the_same_however_many_of_its_pairs_are_sorted_at_a_time(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    order = Lists.join([rng.permutation(np.arange(1, 30))[: rng.integers(0, 25)].astype(np.int32) for _ in range(40)])
    monkeypatch.setattr("amzrec.features.memory.NEIGHBOURS", 9)
    whole = of_order(order, 31)
    monkeypatch.setattr("amzrec.features.memory.AT_ONCE", at_once)
    found = of_order(order, 31)
    assert 0 < len(whole.weights) <= 9 * 31
    np.testing.assert_array_equal(found.weights, whole.weights)
    np.testing.assert_array_equal(found.neighbours.items, whole.neighbours.items)
    np.testing.assert_array_equal(found.neighbours.offsets, whole.neighbours.offsets)


def test_an_order_without_pairs_gives_an_empty_memory() -> None:
    for lists in (Lists.empty(3), Lists.join([np.array([2]), np.array([1])])):
        assert not len(of_order(lists, 4).weights)


def company_of_lists(lists: list[list[int]], size: int, near: bool = False) -> Company:
    """The company of all products but the unknown one."""
    histories = Lists.join([np.array(one, np.int32) for one in lists])
    return Company.of(histories, np.arange(1, size, dtype=np.int32), size, near)


def test_what_customers_share_is_the_closed_form_of_item_to_item_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company, "LEAST", 0.0)
    monkeypatch.setattr(company, "directions", lambda gram, votes: np.eye(len(votes), dtype=np.float32))
    lists = [[1, 2, 5], [2], [], [5, 3, 4, 1, 6], [6, 2], [3, 1, 2, 4]]
    x = np.zeros((6, 6))
    for customer, products in enumerate(lists):
        x[customer, np.array(products, int) - 1] = len(products) ** -0.35 if products else 0
    x *= np.sqrt(15 / (x**2).sum())  # all 15 reviews together count as before
    known = np.zeros((6, 6))
    for i in range(6):  # each column minimises |x_i − X b|² + 2 |b|² with b_i = 0
        others = np.delete(np.arange(6), i)
        known[others, i] = np.linalg.solve(x[:, others].T @ x[:, others] + 2 * np.eye(5), x[:, others].T @ x[:, i])
    np.testing.assert_allclose(dense(company_of_lists(lists, 7).memory(2.0))[1:, 1:], known, atol=1e-6)


@pytest.mark.parametrize("at_once", [1, 2, 512])
def test_products_near_in_time_count_more(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company, "AT_ONCE", at_once)
    found = company_of_lists([[4, 1, 3, 2], [2, 4]], 5, near=True).gram
    number = np.array([4, 2]) ** -0.7
    number *= 6 / (4 * number[0] + 2 * number[1])
    place = {4: 0, 1: 1, 3: 2, 2: 3}
    for i, j in [(1, 1), (1, 2), (4, 3), (2, 4)]:
        known = number[0] * (0.2 + 0.8 * np.exp(-abs(place[i] - place[j]) / 30))
        known += number[1] * (0.2 + 0.8 * np.exp(-1 / 30)) if (i, j) == (2, 4) else 0
        assert found[i - 1, j - 1] == pytest.approx(known, rel=1e-6) == found[j - 1, i - 1]


def test_a_chosen_memory_is_built_as_it_was_chosen_also_where_there_are_times() -> None:
    """As where a run without times is gone on from (`train --from`) with reviews that have some."""
    rows = [
        (customer, product, 5.0) for customer in range(1, 13) for product in range(1, 10) if (customer * product) % 4
    ]
    fitted = fitted_of(reviews_of(rows, [float(day) for day in range(len(rows))]), history="sequence")
    kinds = [dense(memory_of(fitted, MemoryChoice(kind, 1.0, 1.0))) for kind in ("customers", "near")]
    for number, lists in enumerate((fitted.customers.histories.partners, fitted.timelines)):
        known = Company.of(lists, fitted.candidates, len(fitted.products), number == 1).memory(1.0)
        np.testing.assert_allclose(kinds[number], dense(known), atol=1e-5)
    assert np.abs(kinds[0] - kinds[1]).max() > 1e-3


def test_half_of_a_vote_is_taken_along_the_leading_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company, "LEAST", 0.0)
    rng = np.random.default_rng(0)
    lists = [rng.permutation(9)[: rng.integers(1, 6)].tolist() for _ in range(60)]
    found = Company.of(Lists.join([np.array(one) for one in lists]), np.arange(9, dtype=np.int32), 9, False)
    whole = dense(found.memory(1.0))  # as many directions as products: the votes themselves
    monkeypatch.setattr(company, "DIRECTIONS", 2)
    monkeypatch.setattr(company, "ROUNDS", 30)
    leading = np.linalg.eigh(whole.T @ found.gram @ whole)[1][:, -2:]
    known = (whole + whole @ leading @ leading.T) / 2
    np.fill_diagonal(known, 0)
    np.testing.assert_allclose(dense(found.memory(1.0)), known, atol=1e-4)


def test_a_product_that_nobody_has_gets_the_votes_that_its_attributes_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company, "LEAST", 0.0)
    lists = [[1, 2], [1, 2, 3], [3, 1], [4, 5], [4, 5, 6], [6, 4]]
    pairs = company_of_lists(lists, 9)  # nobody has 7 and 8
    before = dense(pairs.memory(1.0))
    assert not before[:, 7:].any()
    shelves = Lists.join([np.array(one, np.int32) for one in ([], [0], [0], [0], [1], [1], [1], [1], [])])
    found = dense(pairs.memory(1.0, Attributes(shelves, 2)))
    np.testing.assert_array_equal(found[:, :7], before[:, :7])
    assert not found[7:].any(), "who has none of them cannot vote"
    assert (found[4:7, 7] > found[1:4, 7] + 0.01).all(), "4, 5 and 6 of its shelf are as 1, 2 and 3 of the other"
    worth = np.diag(pairs.gram)[:6] * 30 / (np.diag(pairs.gram)[:6] + 30)
    np.testing.assert_allclose(found[1:7, 8], before[1:7, 1:7] @ worth / worth.sum(), atol=1e-5)  # the mean


def test_too_many_products_to_solve_for_are_refused_and_none_give_no_votes() -> None:
    with pytest.raises(ValueError, match="6001 products are too many"):
        Company.of(Lists.empty(2), np.arange(6001, dtype=np.int32), 6001, False)
    none = Company.of(Lists.empty(2), np.zeros(0, np.int32), 3, False).memory(1.0)
    assert len(none.neighbours) == 3
    assert not len(none.weights)


# --- added up


@pytest.mark.parametrize(("fade", "last"), [(1.0, 0), (0.8, 0), (0.5, 3)])
@pytest.mark.parametrize("pairs", [12, 200])  # few votes, and so many that nearly all products have some
def test_votes_are_the_product_of_the_faded_history_with_the_memory(fade: float, last: int, pairs: int) -> None:
    memory = random_memory(16, pairs, fade, last)
    histories = [RNG.permutation(15)[:length] + 1 for length in (0, 1, 6, 15)]
    votes = memory.votes(Lists.join(histories))
    assert len(votes) == 4
    for query, history in enumerate(histories):
        row = np.zeros(16)
        for age, product in enumerate(history[::-1][: last or None]):
            row += fade**age * dense(memory)[product]
        row[history] = 0  # nobody reviews a product twice
        found = np.zeros(16)
        span = votes.products.span(query)
        found[votes.products.items[span]] = votes.weights[span]
        np.testing.assert_allclose(found, row, atol=1e-5)
        assert len(set(votes.products[query])) == len(votes.products[query])


# --- in answers


@pytest.fixture(scope="module")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Vectors]:
    """The checkerboard as a dataset, and random vectors with a memory of it."""
    from conftest import write_checkerboard

    folder = write_checkerboard(tmp_path_factory.mktemp("board") / "data")
    vectors = random_vectors(open_dataset(folder), np.random.default_rng(2))
    memory = random_memory(len(vectors.product_ids), 150)
    head = dataclasses.replace(vectors.head, memory_fade=0.7, memory_last=4, memory_per_log=1.5)
    lists, weights = memory.neighbours, 9 * np.abs(memory.weights)
    return folder, dataclasses.replace(
        vectors, head=head, memory_offsets=lists.offsets, memory_items=lists.items, memory_weights=weights
    )


def slow_scores(vectors: Vectors, customer: int) -> np.ndarray:
    """Scores of all product rows for a customer, with the votes of its fitted history."""
    recommender = Recommender(vectors)
    scores = vectors.retrieval_candidate @ vectors.retrieval_query[customer]
    assert vectors.memory
    history, votes = recommender.history(customer), np.zeros(len(scores))
    for age, product in enumerate(history[::-1][:4]):
        votes += 0.7**age * dense(vectors.memory)[product]
    votes[history] = 0
    return np.asarray(scores + 1.5 * np.log1p(votes))


@pytest.mark.parametrize("fade", [1.0, 0.7])
@pytest.mark.parametrize("last", [0, 4])
def test_one_history_votes_as_it_does_among_others(fade: float, last: int) -> None:
    rng = np.random.default_rng(6)
    pairs = np.unique(rng.integers(1, 100, 600) * 1000 + rng.integers(1, 100, 600))
    memory = Memory.of_pairs(pairs // 1000, pairs % 1000, rng.random(len(pairs)), 1000)
    memory = dataclasses.replace(memory, fade=fade, last=last, per_log=0.5)
    for length in (0, 1, 3, 20, FEW + 1):
        history = rng.permutation(np.arange(1, 100, dtype=np.int32))[:length]
        alone, among = memory.votes(Lists.join([history])), memory.votes(Lists.join([history, history[:2], history]))
        assert len(alone) == 1
        for query in (0, 2):
            np.testing.assert_array_equal(alone.products[0], among.products[query])
            np.testing.assert_array_equal(alone.weights, among.take(np.array([query])).weights)


def test_the_memory_comes_back_from_its_files(remembering: tuple[Path, Vectors], tmp_path: Path) -> None:
    write_vectors(tmp_path, remembering[1])
    again = read_vectors(tmp_path, verify=True)
    assert again.memory
    assert remembering[1].memory
    np.testing.assert_array_equal(dense(again.memory), dense(remembering[1].memory))
    assert (again.memory.fade, again.memory.last, again.memory.per_log) == (0.7, 4, 1.5)


@pytest.mark.parametrize("index", ["exact", "scann"])
def test_recommendations_are_the_best_by_vectors_and_votes_together(
    remembering: tuple[Path, Vectors], index: str
) -> None:
    if index == "scann" and (reason := without_scann()):
        pytest.skip(reason)
    vectors = remembering[1]
    plain = Recommender(vectors)
    kind = ExactIndex if index == "exact" else ScannIndex.build
    recommender = Recommender(vectors, kind(np.ascontiguousarray(plain.candidate_vectors), plain.candidates))
    changed = 0
    for customer in range(len(vectors.customer_ids)):
        query, seen = recommender.query(customer), recommender.seen(customer)[0]
        rows, scores = recommender.retrieve(query.retrieval[None], 5, [seen], [query.history])
        known = slow_scores(vectors, customer)
        left = np.setdiff1d(plain.candidates, seen)
        best = left[np.argsort(-known[left], kind="stable")][:5]
        count = min(5, len(left))
        np.testing.assert_allclose(scores[0][:count], known[best], rtol=1e-4, atol=1e-4)
        assert rows[0][:count].tolist() == best.tolist()
        np.testing.assert_allclose(recommender.scores(customer, best), known[best], rtol=1e-4, atol=1e-4)
        changed += rows[0][0] != recommender.retrieve(query.retrieval[None], 5, [seen])[0][0][0]
    assert changed > 0, "the votes must matter"


def test_folding_in_lets_what_a_new_customer_likes_vote(remembering: tuple[Path, Vectors]) -> None:
    recommender = Recommender(remembering[1])
    query = recommender.fold_in(0, np.array([3, 7], np.int32))
    assert query.history.tolist() == [3, 7], "in the order given"
    votes = recommender.votes([query.history])
    assert votes is not None
    known = 0.7 * dense(remembering[1].memory)[3] + dense(remembering[1].memory)[7]  # type: ignore[arg-type]
    known[[3, 7]] = 0
    found = np.zeros(len(known))
    found[votes.products.items] = votes.weights
    np.testing.assert_allclose(found, 1.5 * np.log1p(known), atol=1e-5)


def test_the_judge_ranks_with_the_votes(remembering: tuple[Path, Vectors]) -> None:
    folder, vectors = remembering
    testset = line_up_test(open_dataset(folder), ("train", "valid"), vectors.candidates)
    figures = judge(testset, RunSystem(Recommender(vectors)))
    ranked = figures.answers.ranked
    assert ranked is not None
    for place, (customer, product) in enumerate(zip(testset.reviews.customer, testset.reviews.product, strict=True)):
        scores = slow_scores(vectors, int(customer))[vectors.candidates]
        own = scores[testset.column[product]]
        assert ranked.above[place] == np.sum(scores >= own) - 1


def test_the_saved_model_answers_with_the_votes(remembering: tuple[Path, Vectors], tmp_path: Path) -> None:
    from amzrec.exports.saved_model import Served, tf

    vectors = remembering[1]
    served = Served(vectors, tmp_path, stars=False)
    customers = np.arange(len(vectors.customer_ids))
    names = tf.constant([vectors.customer_ids[int(row)] for row in customers])
    answer = served.recommend(names, tf.constant(3), tf.constant([[""]] * len(customers)))
    for row in customers:
        known = slow_scores(vectors, int(row))
        left = np.setdiff1d(vectors.candidates, Recommender(vectors).seen(int(row))[0])
        best = left[np.argsort(-known[left], kind="stable")][: int(answer["count"][row])]
        np.testing.assert_allclose(answer["score"][row][: len(best)], known[best], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("gains", "best", "asked"),
    [
        ([1, 2, 3, 2, 1], 3, 3),  # the first one: both its neighbours are asked
        ([1, 2, 3, 4, 5], 5, 3),  # rising to the end
        ([5, 4, 3, 2, 1], 1, 4),
        ([5, 6, 3, 2, 1], 2, 4),
        ([1, 2, 3, 3, 5], 3, 3),  # no gain is no reason to go on
    ],
)
def test_a_share_is_climbed_to_its_peak(gains: list[int], best: int, asked: int) -> None:
    seen: list[int] = []

    def gain(value: int) -> int:
        seen.append(value)
        return gains[value - 1]

    assert climb([1, 2, 3, 4, 5], 3, gain) == (best, gains[best - 1])  # type: ignore[arg-type]
    assert len(seen) == len(set(seen)) == asked
