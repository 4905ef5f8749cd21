"""`amzrec update`: new reviews enter a run without training, and answer as if their customers had come with them."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from amzrec.answers.recommender import Recommender
from amzrec.arrays import Lists, offsets_of
from amzrec.cli.app import app
from amzrec.commands.evaluate import evaluate
from amzrec.commands.prepare import prepare
from amzrec.commands.recommend import recommend
from amzrec.commands.update import update
from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.features.memory import of_order
from amzrec.features.popularity import Popularity
from amzrec.service.events import Event
from amzrec.service.sqlite import SQLiteLedger
from amzrec.store.dataset import open_dataset
from amzrec.store.manifest import write_manifest
from amzrec.store.ownership import RUN_FOLDER
from amzrec.store.run import Run, open_run
from amzrec.store.strings import Strings, feature_lists
from amzrec.store.vectors import Vectors
from conftest import ROOT
from runs import parity_vectors, random_vectors, with_attention, write_run

DAY = 86_400
BEGUN = 1_400_000_000  # unix seconds of the first review of a timed run
HEADER = "customer,product,stars,timestamp\n"


def timed(vectors: Vectors) -> Vectors:
    """Vectors with a time of each review: one a day for each customer, in the order of its list."""
    place = np.arange(len(vectors.seen_product)) - np.repeat(vectors.seen_offsets[:-1], vectors.seen.lengths)
    return dataclasses.replace(vectors, seen_time=BEGUN + DAY * place.astype(np.int64))


def raters(vectors: Vectors, rng: np.random.Generator) -> Vectors:
    """Vectors with random tables of raters, and candidates that are made of them as Vectors says."""
    v, head = vectors, vectors.head
    customers, products, width = len(v.customer_ids), len(v.product_ids), v.query_base.shape[1]
    bag, residual = (rng.normal(size=(2, customers, width))).astype(np.float16)
    bag[0] = residual[0] = 0
    base = rng.normal(size=(products, width)).astype(np.float32)
    fitted = np.isin(v.seen_part, head.fit_tags)
    raters = np.bincount(v.seen_product[fitted], minlength=products)
    candidates, level = v.retrieval_candidate.copy(), np.zeros((products, width))
    rating = v.rating_candidate.copy()
    rating[:, -2] = v.product_bias
    for p in range(products):
        y, level[p] = slow_vector(v, p, bag, residual, base, rating[p, -2])
        candidates[p, :-1] = y[: head.retrieval_dims]
        rating[p, :-2] = y[head.rating_start :]
    return dataclasses.replace(
        v,
        retrieval_candidate=candidates,
        rating_candidate=rating,
        rater_bag=bag,
        rater_residual=residual,
        product_base=base,
        product_level=level.astype(np.float32),
        product_raters=raters.astype(np.int64),
        head=dataclasses.replace(head, product_bias_weight=0.7),
    )


def slow_vector(v: Vectors, p: int, bag: Any, residual: Any, base: Any, bias: float) -> tuple[Any, Any]:
    """The vector of a product from its raters, and its level, by the formula of Vectors, one review at a time."""
    total, level, n = np.zeros(bag.shape[1]), np.zeros(bag.shape[1]), 0
    for place in range(len(v.seen_product)):
        if v.seen_product[place] != p or v.seen_part[place] not in v.head.fit_tags:
            continue
        c = int(v.seen.owners[place])
        if not bag[c].any():
            continue
        n += 1
        total += bag[c].astype(float)
        if not np.isnan(v.seen_stars[place]):
            assert v.head.mean is not None
            beyond = v.seen_stars[place] - v.head.mean - v.rating_query[c, -2]
            total += beyond * residual[c].astype(float)
            level += residual[c].astype(float)
    return base[p] + (total - bias * level) / np.sqrt(n + 1), level


def run_of(folder: Path, dataset: Path, vectors: Vectors, **info: Any) -> Run:
    """A run with these vectors in a new folder."""
    return write_run(folder / "run", open_dataset(dataset), vectors, **info)


def written(folder: Path, *rows: str, name: str = "new.csv") -> Path:
    """A file of reviews."""
    file = folder / name
    file.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return file


@pytest.fixture
def run(checkerboard: Path, tmp_path: Path) -> Run:
    """A run of random vectors around the checkerboard, without times."""
    return run_of(tmp_path, checkerboard, random_vectors(open_dataset(checkerboard), np.random.default_rng(1)))


def same_arrays(one: Vectors, other: Vectors) -> bool:
    """Whether all arrays are equal, and the names."""
    mine, theirs = one.arrays(), other.arrays()
    return (
        mine.keys() == theirs.keys()
        and all(np.array_equal(mine[name], theirs[name], equal_nan=mine[name].dtype.kind == "f") for name in mine)
        and all(one.product_ids[row] == other.product_ids[row] for row in range(len(one.product_ids)))
    )


def test_an_update_is_the_same_however_many_reviews_are_settled_and_added_up_at_a_time(
    checkerboard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = timed(random_vectors(open_dataset(checkerboard), np.random.default_rng(1)))
    fitted = np.isin(vectors.seen_part, (0, 1))
    assert vectors.seen_time is not None
    popular = Popularity.of(vectors.seen_product[fitted], vectors.seen_time[fitted], 21, 30.0)
    vectors = raters(
        dataclasses.replace(vectors, context=popular.log_share - popular.log_share_now, context_edges=popular.edges),
        np.random.default_rng(3),
    )
    run, late = run_of(tmp_path, checkerboard, vectors, half_life=30.0), BEGUN + 100 * DAY
    known = vectors.customer_ids[4], vectors.product_ids[int(vectors.seen[4][0])]  # a pair that the run has
    rows = [f"{known[0]},{known[1]},1,{late}", *(f"u{c:02},p{p:02},{1 + (c + p) % 5},{late + p * DAY}"
            for c in range(0, 20, 3) for p in (1, 8, 14)), *(f"ann{n},p0{n},5,{late}" for n in range(4)),
            f"ann0,new,4,{late}", f"u05,new,2,{late}"]  # fmt: skip
    file = written(tmp_path, *rows)
    whole = update(run, file, tmp_path / "whole")
    for module in ("renewal.ledger", "renewal.customers", "renewal.products", "features.popularity"):
        monkeypatch.setattr(f"amzrec.{module}.AT_ONCE", 3)
    parts = update(run, file, tmp_path / "parts")
    assert whole.info.updates[-1]["replaced"] > 0
    assert {**whole.info.updates[-1], "seconds": 0} == {**parts.info.updates[-1], "seconds": 0}
    mine, theirs = whole.vectors.arrays(), parts.vectors.arrays()
    assert mine.keys() == theirs.keys()
    for name, array in mine.items():
        np.testing.assert_allclose(theirs[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
    assert not np.array_equal(whole.vectors.retrieval_candidate[:21], run.vectors.retrieval_candidate)


# --- customers


@pytest.mark.parametrize("read", ["all", "recent", "attention"])
def test_a_customer_answers_after_an_update_as_after_a_fold_in_of_the_same_reviews(
    checkerboard: Path, tmp_path: Path, read: str
) -> None:
    vectors = timed(random_vectors(open_dataset(checkerboard), np.random.default_rng(1)))
    if read != "all":
        vectors = dataclasses.replace(vectors, recent_weights=np.array([1, 0.7, 0.5], np.float32))
    if read == "attention":
        vectors = with_attention(vectors)
    run, late = run_of(tmp_path, checkerboard, vectors), BEGUN + 100 * DAY
    file = written(tmp_path, f"u03,p12,4,{late}", f"u03,p08,1,{late + DAY}", f"u07,p02,5,{late}")
    new = update(run, file, tmp_path / "new").vectors
    model, updated = Recommender(run.vectors), Recommender(new)
    for customer, liked, stars in ((4, [13, 9], [4, 1]), (8, [3], [5])):
        folded = model.fold_in(customer, np.array(liked, np.int32), np.array(stars, np.float32))
        stored = updated.query(customer)
        np.testing.assert_allclose(stored.retrieval, folded.retrieval, atol=1e-5)
        np.testing.assert_allclose(stored.rating, folded.rating, atol=1e-5)
        assert stored.history.tolist() == folded.history.tolist()
        assert set(liked) <= set(updated.seen(customer)[0].tolist())
    untouched = np.setdiff1d(np.arange(21), [4, 8])
    np.testing.assert_array_equal(new.retrieval_query[untouched], run.vectors.retrieval_query[untouched])


def test_what_came_is_not_recommended_again(checkerboard: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path, checkerboard, parity_vectors(open_dataset(checkerboard)))
    best = recommend("u03", run, k=1)["recommendations"][0]["product_id"]
    new = update(run, written(tmp_path, f"u03,{best},5,"), tmp_path / "new")
    assert best not in [entry["product_id"] for entry in recommend("u03", new, k=20)["recommendations"]]


def test_a_new_customer_answers_from_its_reviews_as_one_who_likes_them(run: Run, tmp_path: Path) -> None:
    new = update(run, written(tmp_path, "ann,p04,5,", "ann,p06,2,", "a bob,p01,1,"), tmp_path / "new")
    model, updated = Recommender(run.vectors), Recommender(new.vectors)
    row = updated.customer("ann")
    assert row > 20
    assert updated.knows(row)
    assert new.vectors.customer_ids[updated.customer("a bob")] == "a bob"
    assert updated.customer("u19") == 20
    folded = model.fold_in(0, np.array([5, 7], np.int32), np.array([5, 2], np.float32))
    np.testing.assert_allclose(updated.query(row).retrieval, folded.retrieval, atol=1e-5)
    np.testing.assert_allclose(updated.query(row).rating, folded.rating, atol=1e-5)
    assert recommend("ann", new, k=2)["answered_from"] == "model"
    assert new.info.updates[-1]["new_customers"] == 2


# --- reviews that the run has already


def test_the_same_file_changes_nothing_the_second_time(run: Run, tmp_path: Path) -> None:
    file = written(tmp_path, "u03,p12,4,", "ann,p99,5,", "u03,p03,2,")  # p03 is the test review of u03
    once = update(run, file, tmp_path / "once")
    twice = update(once, file, tmp_path / "twice")
    assert same_arrays(once.vectors, twice.vectors)
    assert not same_arrays(run.vectors, once.vectors)
    facts = [made.info.updates[-1] for made in (once, twice)]
    assert [(f["reviews"], f["replaced"], f["known"]) for f in facts] == [(2, 1, 0), (0, 0, 3)]
    assert [step["run"] for step in twice.info.updates] == [str(run.path), str(once.path)]


@pytest.mark.parametrize(
    ("row", "stars"),
    [
        ("u03,p05,2,{late}", 2.0),  # later: it replaces
        ("u03,p05,2,1", 5.0),  # earlier: the run's own stays
        ("u03,p05,,{late}", 5.0),  # a click says nothing of the stars
    ],
)
def test_of_two_reviews_of_a_product_the_later_one_stays(
    checkerboard: Path, tmp_path: Path, row: str, stars: float
) -> None:
    run = run_of(tmp_path, checkerboard, timed(random_vectors(open_dataset(checkerboard), np.random.default_rng(1))))
    before, given = Recommender(run.vectors).seen(4)
    assert given[before.tolist().index(6)] == 5
    rows = row.format(late=BEGUN + 99 * DAY), f"u01,p06,3,{BEGUN + 99 * DAY}"
    new = Recommender(update(run, written(tmp_path, *rows), tmp_path / "new").vectors)
    after, given = new.seen(4)
    assert sorted(after) == sorted(before)
    assert given[after.tolist().index(6)] == stars
    assert int(new.vectors.customer_counts[4]) == int(run.vectors.customer_counts[4])
    assert len(new.vectors.seen_product) == len(run.vectors.seen_product) + 1


def test_reviews_are_listed_by_customer_and_time_as_training_lists_them(checkerboard: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path, checkerboard, timed(random_vectors(open_dataset(checkerboard), np.random.default_rng(1))))
    file = written(tmp_path, f"u03,p12,4,{BEGUN + DAY // 2}", f"u03,p10,4,{BEGUN - DAY}", f"ann,p01,4,{BEGUN}")
    new = update(run, file, tmp_path / "new").vectors
    old = [*run.vectors.seen[4]]
    assert [*new.seen[4]] == [11, old[0], 13, *old[1:]]
    assert [*new.seen[21]] == [2]
    assert new.seen_time is not None
    for customer in range(1, 22):
        assert (np.diff(new.seen_time[new.seen.span(customer)]) >= 0).all()
        if customer != 4 and customer < 21:
            assert [*new.seen[customer]] == [*run.vectors.seen[customer]]
    assert new.customer_counts.tolist() == [
        int(np.isin(new.seen_part[new.seen.span(c)], (0, 1)).sum()) for c in range(22)
    ]


# --- products


def test_vectors_of_products_follow_their_raters_by_the_formula(checkerboard: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    vectors = raters(random_vectors(open_dataset(checkerboard), rng), rng)
    run = run_of(tmp_path, checkerboard, vectors)
    # a new product, an old one with a known rater more, one whose stars change, one with a new customer alone
    file = written(tmp_path, "u03,new,4,", "u05,new,2,", "u03,p12,1,", "u03,p05,2,", "ann,p08,5,", "ann,new,5,")
    new = update(run, file, tmp_path / "new").vectors
    assert new.rater_bag is not None
    assert new.rater_residual is not None
    assert new.product_base is not None
    assert new.product_raters is not None
    assert vectors.product_raters is not None
    assert new.product_raters[[13, 6, 9, 21]].tolist() == [
        vectors.product_raters[13] + 1, vectors.product_raters[6], vectors.product_raters[9], 2,
    ]  # fmt: skip
    # what raters said before is taken by the biases that they had; only those of u03, u05 and ann have changed
    fitted = np.isin(new.seen_part, new.head.fit_tags)
    assert new.head.mean is not None
    for p in (9, 13, 21, 2):
        mine = (new.seen_product == p) & fitted
        stars = new.seen_stars[mine]
        bias = float((stars - new.head.mean).sum() / (len(stars) + 5))
        expected_bias = bias if p != 2 else float(run.vectors.rating_candidate[2, -2])
        assert new.rating_candidate[p, -2] == pytest.approx(expected_bias, abs=1e-5)
    bias = float(new.rating_candidate[21, -2])
    total, level = np.zeros(6), np.zeros(6)
    for c, given in ((4, 4.0), (6, 2.0)):
        total += new.rater_bag[c] + (given - new.head.mean - run.vectors.rating_query[c, -2]) * new.rater_residual[c]
        level += new.rater_residual[c].astype(float)
    y = new.product_base[21] + (total - bias * level) / np.sqrt(3)
    np.testing.assert_allclose(new.retrieval_candidate[21, :-1], y[:4], atol=1e-3)
    np.testing.assert_allclose(new.rating_candidate[21, :-2], y[2:], atol=1e-3)
    gap = new.rating_candidate[13, -2] - run.vectors.rating_candidate[13, -2]
    assert new.rating_candidate[13, -1] - run.vectors.rating_candidate[13, -1] == pytest.approx(0.7 * gap, abs=1e-5)
    # nothing else moves
    others = np.setdiff1d(np.arange(21), [6, 9, 13])
    np.testing.assert_array_equal(new.rating_candidate[others], run.vectors.rating_candidate[others])
    np.testing.assert_array_equal(new.retrieval_candidate[others, :-1], run.vectors.retrieval_candidate[others, :-1])


def test_a_new_product_is_a_candidate_with_its_title_and_features(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "new.csv"
    file.write_text("customer,product,stars,title,category\nu03,shoe,5,A Shoe,Shoes\nu05,p02,5,,\n")
    columns = "customer=customer,product=product,stars=stars,title=title,category=category"
    new = update(run, file, tmp_path / "new", PrepareConfig(columns=columns))
    model = Recommender(new.vectors)
    assert model.find_product("A Shoe") == model.find_product("shoe") == 21
    assert 21 in model.candidates
    shoes = recommend("u09", new, k=21, only=["category=Shoes"])["recommendations"]
    assert [(entry["product_id"], entry["title"]) for entry in shoes] == [("shoe", "A Shoe")]
    assert "shoe" in [entry["product_id"] for entry in recommend("u09", new, k=21)["recommendations"]]
    assert new.info.updates[-1]["new_products"] == 1


def test_a_new_product_without_known_raters_is_like_those_of_its_features_and_words(
    checkerboard: Path, tmp_path: Path
) -> None:
    vectors, side = parity_vectors(open_dataset(checkerboard)), [["category=odd"], ["category=even"]]
    listed = feature_lists([[], *(side[row % 2] for row in range(20))])  # rows 1, 3, … are odd
    assert listed
    names: Any = {"features": listed[0], "feature_offsets": listed[1].offsets, "feature_items": listed[1].items}
    run = run_of(tmp_path, checkerboard, dataclasses.replace(vectors, **names))
    file = tmp_path / "new.csv"
    file.write_text("customer,product,stars,category\nann,x,5,odd\nann,y,5,even\nann,z,5,\n")
    new = update(run, file, tmp_path / "new").vectors
    x, y, z = new.retrieval_candidate[21:, :-1]
    odd, even = vectors.retrieval_candidate[1, :-1], vectors.retrieval_candidate[2, :-1]
    assert x @ odd > z @ odd > y @ odd
    assert y @ even > z @ even > x @ even
    np.testing.assert_allclose(z, vectors.retrieval_candidate[1:, :-1].mean(axis=0), atol=0.02)


def test_popularity_is_counted_to_the_new_end_of_the_data(checkerboard: Path, tmp_path: Path) -> None:
    vectors = timed(random_vectors(open_dataset(checkerboard), np.random.default_rng(1)))
    fitted = np.isin(vectors.seen_part, (0, 1))
    assert vectors.seen_time is not None
    before = Popularity.of(vectors.seen_product[fitted], vectors.seen_time[fitted], 21, 30.0)
    b, learned = vectors.retrieval_candidate.copy(), np.random.default_rng(2).normal(size=21)
    b[:, -1] = before.log_share_now + learned
    context = before.log_share - before.log_share_now
    times = vectors.seen_time[fitted]
    vectors = dataclasses.replace(
        vectors, retrieval_candidate=b, context=context, context_edges=before.edges,
        rating_context=np.linspace(1, 0, before.periods).astype(np.float32),
    )  # fmt: skip
    run = run_of(tmp_path, checkerboard, vectors, half_life=30.0)
    late = BEGUN + 300 * DAY
    new = update(run, written(tmp_path, *(f"c{i},p04,5,{late}" for i in range(9))), tmp_path / "new").vectors
    product = np.append(vectors.seen_product[fitted], [5] * 9)
    now = Popularity.of(product, np.append(times, [late] * 9), 21, 30.0)
    np.testing.assert_allclose(new.retrieval_candidate[:, -1], now.log_share_now + learned, atol=1e-5)
    assert new.context is not None
    assert new.context_edges is not None
    known = np.where(np.arange(21) > 0, now.log_share - now.log_share_now, 0)  # of row 0 nothing is known
    np.testing.assert_allclose(new.context, known, atol=1e-6)
    np.testing.assert_array_equal(new.context_edges, now.edges)
    assert new.rating_context is not None
    assert len(new.rating_context) == len(now.edges) + 1
    assert new.rating_context[-1] == 0
    assert np.argmax(new.retrieval_candidate[:, -1] - learned) == 5


# --- memory


def test_the_memory_of_what_followed_what_is_that_of_all_reviews(checkerboard: Path, tmp_path: Path) -> None:
    vectors = timed(random_vectors(open_dataset(checkerboard), np.random.default_rng(1)))
    memory = of_order(fitted_lists(vectors), 21).scaled(3.0)
    lists = memory.neighbours
    vectors = dataclasses.replace(
        vectors,
        memory_offsets=lists.offsets, memory_items=lists.items, memory_weights=memory.weights,
        head=dataclasses.replace(
            vectors.head, memory_fade=memory.fade, memory_last=memory.last, memory_per_log=memory.per_log
        ),
    )  # fmt: skip
    run = run_of(tmp_path, checkerboard, vectors, memory={"kind": "order", "ridge": 0.0, "share": 3.0})
    late = BEGUN + 99 * DAY
    new = update(run, written(tmp_path, f"u03,new,4,{late}", f"ann,new,4,{late}"), tmp_path / "new").vectors
    expected = of_order(fitted_lists(new), 22)
    assert new.memory is not None
    np.testing.assert_array_equal(new.memory.neighbours.offsets, expected.neighbours.offsets)
    np.testing.assert_array_equal(new.memory.neighbours.items, expected.neighbours.items)
    np.testing.assert_allclose(new.memory.weights, expected.weights)
    assert new.memory.per_log == 3.0
    assert 21 in new.memory.neighbours[int(run.vectors.seen[4][-2])]  # the last fitted one of u03 votes for it


def fitted_lists(vectors: Vectors) -> Lists:
    """The fitted products of each customer, in their order."""
    kept = np.isin(vectors.seen_part, vectors.head.fit_tags)
    counts = np.bincount(vectors.seen.owners[kept], minlength=len(vectors.seen))
    return Lists(offsets_of(counts), vectors.seen_product[kept])


# --- what is refused, and what is said


def test_a_source_without_a_review_and_a_run_that_reviews_cannot_enter_are_one_error(
    run: Run, checkerboard: Path, tmp_path: Path
) -> None:
    with pytest.raises(AmzrecError, match="no reviews"):
        update(run, written(tmp_path), tmp_path / "new")
    vectors = run.vectors
    sequence = dataclasses.replace(vectors, head=dataclasses.replace(vectors.head, history="sequence"))
    ids = dataclasses.replace(vectors, history_bag=np.zeros_like(vectors.history_bag))
    for number, (changed, said) in enumerate(((sequence, "sequence"), (ids, "ids"))):
        other = run_of(tmp_path / str(number), checkerboard, changed)
        with pytest.raises(AmzrecError, match=said):
            update(other, written(tmp_path, "u03,p12,4,"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_dataset_folder_is_let_in_whole_if_its_products_are_named_alike(run: Run, tmp_path: Path) -> None:
    file = written(tmp_path, "u03,p12,4,", "u05,p14,4,", "u07,p16,3,", "ann,p01,5,")
    dataset = prepare(file, tmp_path / "dataset", PrepareConfig(test=0.4, valid=0.3))
    assert len(dataset.test) + len(dataset.valid)
    assert update(run, dataset.path, tmp_path / "new").info.updates[-1]["reviews"] == 4
    titled = tmp_path / "titled.csv"
    titled.write_text("customer,product,product_title,stars\nu03,p12,One,4\nu05,p14,Two,3\n")
    by_title = prepare(titled, tmp_path / "by_title", PrepareConfig(product_key="title", test=0, valid=0))
    with pytest.raises(AmzrecError, match=r"by their title, those of run .* by their id"):
        update(run, by_title, tmp_path / "other")


@pytest.mark.parametrize("key", ["parent", "title"])
def test_a_table_without_what_names_products_in_the_run_has_their_names_as_ids(
    run: Run, tmp_path: Path, key: str
) -> None:
    protocol = dataclasses.replace(open_dataset(run.info.dataset).protocol, product_key=key)  # type: ignore[arg-type]
    named = dataclasses.replace(run, info=dataclasses.replace(run.info, protocol=protocol))
    named.info.write(run.path / "run.json")
    write_manifest(run.path, RUN_FOLDER)
    (tmp_path / "new.csv").write_text(f"{HEADER}nobody,p03,5,{BEGUN}\nnobody,p05,4,{BEGUN}\n")
    made = update(run.path, tmp_path / "new.csv", tmp_path / "new")
    assert made.info.updates[-1]["new_products"] == 0
    assert made.info.updates[-1]["reviews"] == 2
    with pytest.raises(AmzrecError, match="there is no file or folder"):
        update(run.path, tmp_path / "missing.csv", tmp_path / "other")


def test_a_run_is_never_updated_in_its_own_place(run: Run, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()}
    with pytest.raises(AmzrecError, match="choose another --run"):
        update(run, written(tmp_path, "u03,p12,4,"), run.path, overwrite=True)
    assert {file: file.read_bytes() for file in run.path.rglob("*") if file.is_file()} == before


def test_an_updated_run_has_no_figures_of_the_run_before(run: Run, tmp_path: Path) -> None:
    evaluate(run)
    new = update(run, written(tmp_path, "u03,p12,4,"), tmp_path / "new")
    assert sorted(file.name for file in new.path.iterdir()) == ["manifest.json", "run.json", "vectors"]
    with pytest.raises(AmzrecError, match="--later LATER"):
        evaluate(new)


def test_the_command_says_what_came_in_and_a_click_is_none_of_the_stars(run: Run, tmp_path: Path) -> None:
    file = written(tmp_path, "u03,p12,4,", "ann,p01,9,", "ann,,3,", "u01,p06,5,", *(f"b{i},p02,5," for i in range(20)))
    words = ["update", str(run.path), str(file), "--run", str(tmp_path / "new"), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    came = json.loads(done.stdout)["update"]
    assert (came["reviews"], came["rejected"], came["new_customers"], came["off_scale"]) == (23, 1, 21, 1)
    done = CliRunner().invoke(app, [*words[:-2], str(tmp_path / "again")])
    assert "23 new reviews" in done.stdout
    assert "Next:  amzrec serve" in done.stdout
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "exists already" in done.stderr


def test_an_update_imports_no_tensorflow(run: Run, tmp_path: Path) -> None:
    words = ["update", str(run.path), str(written(tmp_path, "u03,p12,4,")), "--run", str(tmp_path / "new")]
    code = (
        "import sys; from amzrec.cli.app import app\n"
        f"try: app({words!r})\nexcept SystemExit as end: assert not end.code\n"
        "print('LOADED', *[p for p in ('tensorflow', 'tf_keras') if p in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stderr.rpartition("LOADED")[2].split() == []
    assert open_run(tmp_path / "new").info.updates


# --- events of the service


@pytest.mark.parametrize("key", ["id", "parent"])
def test_the_events_of_the_service_enter_a_run(checkerboard: Path, tmp_path: Path, key: str) -> None:
    dataset = open_dataset(checkerboard)
    protocol = dataclasses.replace(dataset.protocol, product_key=key)
    run = run_of(tmp_path, checkerboard, random_vectors(dataset, np.random.default_rng(1)), protocol=protocol)
    ledger = SQLiteLedger(tmp_path / "events.db")
    ledger.append(
        [
            [Event("u03", "p12", None, BEGUN, "view"), Event("u03", "p08", 1.0, BEGUN, "review")],
            [Event("ann", "Product 4", 5.0, BEGUN, "review"), Event("ann", "a new one", None, BEGUN, "purchase")],
        ]
    )
    new = update(run, tmp_path / "events.db", tmp_path / "new")  # while the service has it open
    ledger.close()
    model = Recommender(new.vectors)
    products, stars = model.seen(4)
    given = dict(zip(products.tolist(), stars.tolist(), strict=True))
    assert np.isnan(given[13])
    assert given[9] == 1
    assert sorted(model.seen(model.customer("ann"))[0]) == [5, 21]  # named by its title, as the service allows
    assert new.vectors.product_ids[21] == "a new one"


# --- evaluate --later


def test_a_run_is_measured_on_later_reviews_that_it_does_not_have(checkerboard: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path, checkerboard, parity_vectors(open_dataset(checkerboard)))
    # u03 likes odd products: p03 is its test review, which the run has; p17 it has in train
    file = written(tmp_path, "u03,p12,5,", "u04,p09,1,", "ann,p00,5,", "u03,new,5,", "u03,p17,5,", "u03,p03,5,")
    document = evaluate(run, later=file)
    assert document["protocol"]["split"] == "later"
    assert document["protocol"]["test_rows"] == 4
    assert document["protocol"]["unknown_product_rows"] == 1
    assert document["protocol"]["unknown_customer_rows"] == 1
    assert document["protocol"]["fit_rows"] == 220
    assert document["model"]["retrieval"]["top_1"] == 0.25  # the first of all for one who is not known: p00
    assert document["model"]["rating"]["mae"] == pytest.approx((4 + 0 + 2 + abs(stars_of_new(run) - 5)) / 4, abs=1e-5)
    assert (run.path / "metrics_later.json").is_file()
    assert not (run.path / "metrics.json").exists()
    with pytest.raises(AmzrecError, match="none is left"):
        evaluate(run, later=written(tmp_path, "u03,p17,5,", "u04,p10,5,"))
    with pytest.raises(AmzrecError, match="leave --dataset out"):
        evaluate(run, checkerboard, later=file)


def stars_of_new(run: Run) -> float:
    """What a run answers for a product that it does not know: the stars of row 0."""
    model = Recommender(run.vectors)
    return float(model.rate(run.vectors.rating_query[[4]], np.array([0]))[0])


# --- strings


def test_grown_strings_are_found_one_by_one_and_all_at_once() -> None:
    known = Strings.of(["", "b", "ä", "b", "aa", "zz"])
    more = pa.array(["c", "a", "é", "b\x00", "zzz"], pa.large_binary())
    grown = known.grown(more)
    values = [grown[row] for row in range(len(grown))]
    assert values == ["", "b", "ä", "b", "aa", "zz", "c", "a", "é", "b\x00", "zzz"]
    assert [grown.raw(row) for row in grown.order] == sorted(value.encode() for value in values)
    wanted = ["zz", "nobody", "b", "", "~", "a"]
    assert grown.rows_of(pa.array(wanted, pa.large_binary())).tolist() == [5, -1, 1, 0, -1, 7]
    for value in wanted:
        assert grown.find(value) == (None if value in ("nobody", "~") else values.index(value))
