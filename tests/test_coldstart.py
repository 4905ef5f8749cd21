"""Products without reviews: what their attributes say, against a dense solution and where the truth is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

import amzrec
from amzrec.arrays import Lists
from amzrec.config import TrainConfig
from amzrec.features.attributes import Attributes
from amzrec.features.profiles import Profiles
from amzrec.features.ridge import by_attributes
from amzrec.renewal.memory import remembered
from amzrec.training.coldstart import vectors_from_attributes
from fits import fitted_of, random_reviews

RNG = np.random.default_rng(0)


def side_of(counts: list[int], attributes: list[list[int]], number: int) -> Profiles:
    """The product side with these reviews and attributes; row 0 is the unknown one."""
    offsets = np.cumsum([0, *(len(each) for each in attributes)])
    lists = Lists(offsets, np.array([entry for each in attributes for entry in each], np.int32))
    products = fitted_of(random_reviews()).products
    return dataclasses.replace(products, counts=np.array(counts), attributes=Attributes(lists, number))


def test_it_is_the_ridge_regression_solved_densely() -> None:
    counts = [0, 4, 30, 1, 0, 200, 7, 0]
    attributes = [[], [0, 1], [1], [0, 2, 3], [2, 3], [1, 3], [], [0, 1, 2]]
    vectors = RNG.normal(size=(8, 3)).astype(np.float32)
    worth = np.array(counts) * 30 / (np.array(counts) + 30)
    matrix = np.zeros((8, 4))
    for row, each in enumerate(attributes):
        matrix[row, each] = 1 / np.sqrt(len(each) + 1)
    mean = (worth[:, None] * vectors).sum(0) / worth.sum()
    solved = np.linalg.solve(
        matrix.T @ (worth[:, None] * matrix) + 30 * np.eye(4), matrix.T @ (worth[:, None] * (vectors - mean))
    )
    side = side_of(counts, attributes, 4)
    found = vectors_from_attributes(side, vectors, 30.0)
    np.testing.assert_allclose(found, mean + matrix @ solved, atol=1e-5)
    of_update = by_attributes(side.attributes, side.counts, vectors, 30.0)  # without TensorFlow
    np.testing.assert_allclose(of_update, mean + matrix @ solved, atol=1e-4)


@pytest.mark.parametrize("n_attributes", [0, 4])
def test_a_product_without_attributes_gets_the_mean_by_reviews_and_new_ones_say_nothing(n_attributes: int) -> None:
    vectors = np.array([[9.0], [1.0], [3.0], [50.0]], np.float32)
    found = vectors_from_attributes(side_of([0, 10, 10, 0], [[], [], [], []], n_attributes), vectors, 30.0)
    np.testing.assert_allclose(found, np.full((4, 1), 2.0), atol=1e-6)


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> amzrec.Run:
    """Two shelves of 10 products; odd customers love one and even customers the other; one of each is new."""
    folder = tmp_path_factory.mktemp("shelves")
    lines, asked = ["customer,product,stars"], ["customer,product,stars"]
    for customer in range(60):
        mine = customer % 2
        shelf = RNG.permutation(9)[:7]
        lines += [f"c{customer},{'ab'[mine]}{product},5" for product in shelf]
        lines += [f"c{customer},{'ab'[1 - mine]}{product},1" for product in shelf[:3]]
    asked += ["c0,a9,5", "c0,b9,1"]
    titles = ["product_id,title,category"]
    titles += [f"{shelf}{product},Thing {shelf}{product},shelf {shelf}" for shelf in "ab" for product in range(10)]
    for name, text in (("base", lines), ("test", asked), ("titles", titles)):
        (folder / f"{name}.csv").write_text("\n".join(text) + "\n")
    columns = "customer=customer,product=product,stars=stars"
    prepare = amzrec.PrepareConfig(
        columns=columns,
        titles=str(folder / "titles.csv"),
        split="given",
        test_source=str(folder / "test.csv"),
        catalogue="all",
    )
    config = TrainConfig(dim=12, head=(), epochs=25, batch_size=128, refit=False)
    return amzrec.train(folder / "base.csv", folder / "run", config, prepare=prepare)


@pytest.mark.slow
def test_a_new_product_is_retrieved_and_rated_by_what_its_shelf_is_to_the_customer(shelves: amzrec.Run) -> None:
    model = amzrec.load(shelves.path)
    right = better = 0
    for customer in range(1, 60):  # the first one has them in test, and is not told of them again
        liked, other = ("a9", "b9") if customer % 2 == 0 else ("b9", "a9")
        stars = model.rate(f"c{customer}", [liked, other]).set_index("product_id")["stars"]
        better += stars[liked] > stars[other] + 0.5
        everything = model.recommend(f"c{customer}", k=20).reset_index(drop=True)
        place = {name: position for position, name in enumerate(everything["product_id"])}
        right += place[liked] < place[other]
    assert right >= 56
    assert better >= 56


@pytest.mark.slow
def test_products_with_reviews_keep_what_they_learned(shelves: amzrec.Run) -> None:
    v = shelves.vectors
    rows = v.candidates
    assert (v.product_counts[rows] == 0).sum() == 2
    for name in ("rating_candidate", "retrieval_candidate"):
        assert len(np.unique(np.asarray(getattr(v, name))[rows].round(6), axis=0)) == 20, "no two products are alike"


@pytest.mark.slow
def test_an_update_lets_customers_vote_for_products_without_reviews(shelves: amzrec.Run) -> None:
    v = shelves.vectors
    row = {name: number for number, name in enumerate(v.product_ids)} | {"b10": len(v.product_ids)}
    mine = [[row[f"{'ab'[customer % 2]}{place}"] for place in RNG.permutation(9)[:4]] for customer in range(60)]
    vectors = dataclasses.replace(v, memory_offsets=np.zeros(len(row), np.int64))
    new = pa.table({"title": ["Thing b10"], "features": [["category=shelf b"]]})
    candidates = np.arange(1, len(row), dtype=np.int32)
    choice = {"kind": "customers", "ridge": 1.0, "share": 1.0}
    lists = Lists.join([np.array(one, np.int32) for one in mine])
    arrays, stays = remembered(vectors, choice, lists, candidates, new)
    assert not stays
    votes = np.zeros((len(row), len(row)))
    neighbours = Lists(arrays["memory_offsets"], arrays["memory_items"])
    votes[neighbours.owners, neighbours.items] = arrays["memory_weights"]
    for liked, other, asked in (("a", "b", "a9"), ("b", "a", "b9"), ("b", "a", "b10")):
        likes, others = (votes[[row[f"{shelf}{place}"] for place in range(9)], row[asked]] for shelf in (liked, other))
        assert likes.min() > others.max() + 0.01
