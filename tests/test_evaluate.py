"""The figures of metrics.json on the checkerboard, and against a slow evaluation that keeps the whole matrix."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from amzrec.commands.evaluate import evaluate
from amzrec.errors import AmzrecError
from amzrec.evaluation.testset import head_products
from amzrec.store.dataset import REVIEW_SCHEMA, Dataset, Reviews, open_dataset, reviews_table
from amzrec.store.manifest import write_manifest
from amzrec.store.ownership import RUN_FOLDER
from amzrec.store.run import Run
from conftest import add_features, write_checkerboard
from runs import parity_vectors, random_vectors, write_run

DAY = 86_400


@pytest.fixture(autouse=True)
def _no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longer than everything else here: one test looks at them."""
    if "pictures" not in request.node.name:
        monkeypatch.setattr("amzrec.commands.evaluate.draw", lambda *_: None)


@pytest.fixture(scope="module")
def parity(checkerboard: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    dataset = open_dataset(checkerboard)
    return write_run(tmp_path_factory.mktemp("parity") / "run", dataset, parity_vectors(dataset))


def change(folder: Path, part: str, reviews: Sequence[tuple[int, int, float | None, int | None]]) -> None:
    """Replace one part of a dataset folder by (customer row, product row, stars, timestamp)."""
    columns = zip(*reviews, strict=True)
    names = ("customer", "product", "stars", "timestamp")
    pq.write_table(
        pa.table(dict(zip(names, map(list, columns), strict=True)), schema=REVIEW_SCHEMA), folder / f"{part}.parquet"
    )


def random_dataset(folder: Path, seed: int, /, **info: Any) -> Dataset:
    """20 customers, 20 products, reviews at random; some without stars, some customers and products only in test."""
    write_checkerboard(folder)
    rng = np.random.default_rng(seed)
    cells = rng.permutation(400)[:180]
    customer, product = (cells // 20 + 1).astype(np.int32), (cells % 20 + 1).astype(np.int32)
    stars = rng.integers(1, 6, 180).astype(np.float32)
    stars[rng.random(180) < 0.15] = np.nan
    every = Reviews(customer, product, stars, rng.integers(0, 400 * DAY, 180))
    part = rng.choice(3, 180, p=[0.5, 0.15, 0.35])
    part[(customer > 16) | (product > 17)] = 2
    for number, name in enumerate(("train", "valid", "test")):
        pq.write_table(reviews_table(every.take(part == number)), folder / f"{name}.parquet")
    facts = json.loads((folder / "dataset.json").read_text())
    facts["protocol"] |= info
    (folder / "dataset.json").write_text(json.dumps(facts))
    return open_dataset(folder)


def test_a_model_that_understands_the_checkerboard_ranks_the_withheld_product_first(parity: Run) -> None:
    found = evaluate(parity)
    model = found["model"]
    assert model["rating"]["rmse"] == pytest.approx(0, abs=1e-6)
    # nothing removed: the product of customer u stands behind those of its parity with a lower number
    assert model["retrieval"] == {"top_1": 0.1, "top_5": 0.5, "top_10": 1.0, "top_50": 1.0, "top_100": 1.0}
    # train and valid removed: it is the only one left of its parity
    ranking = model["ranking"]
    assert [ranking[key] for key in ("recall@10", "ndcg@10", "mrr", "hit@10", "customers")] == [1, 1, 1, 1, 20]


def test_metrics_json_is_what_was_returned_and_the_pictures_are_there(parity: Run) -> None:
    found = evaluate(parity)
    assert json.loads((parity.path / "metrics.json").read_text()) == found
    assert (parity.path / "plots" / "coverage.png").read_bytes().startswith(b"\x89PNG")
    assert not list(parity.path.glob(".*"))


@pytest.mark.parametrize(("features", "untrained"), [("full", ["retrieval"]), ("ids", [])])
def test_figures_of_the_untrained_start_are_kept_and_named(
    checkerboard: Path, tmp_path: Path, features: str, untrained: list[str]
) -> None:
    facts = {"trained": ["rating"], "recipe": {"features": features}}
    found = evaluate(write_run(tmp_path / "run", checkerboard, parity_vectors(open_dataset(checkerboard)), **facts))
    assert found["untrained"] == untrained
    assert "retrieval" in found["model"]


def test_evaluating_twice_gives_the_same_figures_to_the_last_digit(parity: Run) -> None:
    assert evaluate(parity) == evaluate(parity)


def test_the_protocol_says_what_the_figures_were_measured_on(parity: Run) -> None:
    protocol = evaluate(parity)["protocol"]
    expected = {"split": "given", "seed": 42, "product_key": "id", "fit_rows": 220, "test_rows": 20, "candidates": 20}
    assert {key: protocol[key] for key in expected} == expected
    assert (protocol["unknown_product_rows"], protocol["unknown_customer_rows"]) == (0, 0)


def test_an_empty_slice_is_null_and_a_key_that_does_not_apply_is_left_out(parity: Run) -> None:
    found = evaluate(parity)
    assert found["model"]["slices"]["unknown_customer"] is None
    assert "retrieval" not in found["baselines"]["product_bias"]
    assert "rating" not in found["baselines"]["popularity"]
    assert "recent_popularity" not in found["baselines"]  # the checkerboard has no dates
    assert "ndcg@5" not in found["model"]["rating"]  # nobody has five test products


def slow_figures(dataset: Dataset, vectors: Any, fit_parts: list[str], min_stars: float) -> dict[str, float]:
    """The model's figures by sorting every row of the whole score matrix."""
    test, seen = dataset.test, Reviews.concat([dataset.train, dataset.valid])
    candidates = vectors.candidates.tolist()
    table = vectors.retrieval_candidate[candidates]
    hits, by_customer = {k: 0 for k in (1, 5, 10, 50, 100)}, dict[int, list[float]]()
    for c, p, s in zip(test.customer, test.product, test.stars, strict=True):
        scores = table @ vectors.retrieval_query[c]
        unseen = [i for i, row in enumerate(candidates) if row not in set(seen.product[seen.customer == c])]
        above = filtered = 10**9
        if p in candidates:
            mine = scores[candidates.index(p)]
            above, filtered = int((scores >= mine).sum()) - 1, int((scores[unseen] >= mine).sum()) - 1
        for k in hits:
            hits[k] += above < k
        if np.isnan(s) or s >= min_stars:
            by_customer.setdefault(c, []).append(filtered)
    recall = [sum(r < 10 for r in found) / len(found) for found in by_customer.values()]
    mrr = [1 / (min(found) + 1) if min(found) < 10**9 else 0 for found in by_customer.values()]
    return {f"top_{k}": n / len(test) for k, n in hits.items()} | {
        "recall@10": float(np.mean(recall)),
        "mrr": float(np.mean(mrr)),
        "customers": len(by_customer),
    }


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("fit_parts", [["train"], ["train", "valid"]])
@pytest.mark.parametrize("min_stars", [0.0, 4.0])
def test_the_figures_equal_a_slow_evaluation(tmp_path: Path, seed: int, fit_parts: list[str], min_stars: float) -> None:
    dataset = random_dataset(tmp_path / "dataset", seed, min_stars=min_stars)
    vectors = random_vectors(dataset, np.random.default_rng(seed))
    found = evaluate(write_run(tmp_path / "run", dataset, vectors, fit_parts=fit_parts))
    model = found["model"]
    slow = slow_figures(dataset, vectors, fit_parts, min_stars)
    assert {**model["retrieval"], **model["ranking"]} == pytest.approx(
        {**slow, **{key: model["ranking"][key] for key in ("ndcg@10", "hit@10", "coverage@10", "novelty@10")}}
    )
    fit = Reviews.concat([getattr(dataset, part) for part in fit_parts])
    rated = ~np.isnan(dataset.test.stars)
    mean = np.nanmean(fit.stars)
    assert found["baselines"]["global_mean"]["rating"]["rmse"] == pytest.approx(
        np.sqrt(np.mean((dataset.test.stars[rated] - mean) ** 2)), rel=1e-5
    )
    counts = np.bincount(fit.product, minlength=21)
    above = [
        sum(counts[q] >= counts[p] for q in vectors.candidates if q != p) if p in vectors.candidates else 99
        for p in dataset.test.product
    ]
    assert found["baselines"]["popularity"]["retrieval"]["top_5"] == pytest.approx(np.mean(np.array(above) < 5))
    json.dumps(found, allow_nan=False)


def test_slices_of_customers_and_products_add_up_to_all_rows(tmp_path: Path) -> None:
    dataset = random_dataset(tmp_path / "dataset", 5)
    found = evaluate(write_run(tmp_path / "run", dataset, random_vectors(dataset, np.random.default_rng(5))))
    slices, total = found["model"]["slices"], len(dataset.test)
    for one, other in (("known_customer", "unknown_customer"), ("head_product", "tail_product")):
        assert slices[one]["rows"] + slices[other]["rows"] == total
        pooled = sum(slices[name]["rows"] * slices[name]["retrieval"]["top_5"] for name in (one, other)) / total
        assert pooled == pytest.approx(found["model"]["retrieval"]["top_5"])
    assert slices["unknown_customer"]["rows"] == found["protocol"]["unknown_customer_rows"] > 0
    assert slices["top_rated"]["rows"] == int((dataset.test.stars == 5).sum())
    assert "recall@10" in slices["unknown_customer"]["ranking"]
    fitted = np.concatenate([dataset.train.product, dataset.valid.product])
    assert slices["new_product"]["rows"] == int((~np.isin(dataset.test.product, fitted)).sum()) > 0
    assert "rmse" in slices["new_product"]["rating"]


def test_head_products_make_up_half_of_the_train_rows(tmp_path: Path) -> None:
    folder = write_checkerboard(tmp_path / "d")
    # product 1 has 4 of 8 reviews: it alone is the head
    change(
        folder,
        "train",
        [(1, 1, 5, None), (2, 1, 5, None), (3, 1, 5, None), (4, 1, 5, None), *[(1, p, 5, None) for p in (2, 3, 4, 5)]],
    )
    assert np.flatnonzero(head_products(open_dataset(folder))).tolist() == [1]


def test_recent_popularity_knows_what_is_bought_now(tmp_path: Path) -> None:
    folder = write_checkerboard(tmp_path / "d")
    old = [(c, 1, 5.0, 0) for c in range(1, 11)]
    new = [(c, 2, 5.0, 1000 * DAY) for c in range(1, 6)]
    change(folder, "train", old + new)
    change(folder, "valid", [(c, 2, 5.0, 1000 * DAY) for c in (6, 7)])
    change(folder, "test", [(c, 2, 5.0, 1001 * DAY) for c in (8, 9)])
    dataset = open_dataset(folder)
    found = evaluate(write_run(tmp_path / "run", dataset, random_vectors(dataset, np.random.default_rng(0))))
    assert found["baselines"]["popularity"]["retrieval"]["top_1"] == 0
    assert found["baselines"]["recent_popularity"]["retrieval"]["top_1"] == 1
    # every half-life below 1000 days puts product 2 first, the longest of the equally good ones is taken
    assert found["protocol"]["half_life_days"] == 730


def dated_run(folder: Path, *, context: list[tuple[int, int, float]], trend: float = 0.0) -> Run:
    """20 products that nobody tested has seen, scored by row (the lowest first) plus the (period, product, value).

    Period 1 begins on day 100. The stars of period 0 are `trend` above those of period 1, which are 5 for everybody.
    """
    write_checkerboard(folder / "dataset")
    change(folder / "dataset", "train", [(20, row, 5.0, 0) for row in range(1, 21)])
    change(folder / "dataset", "valid", [(19, 1, 5.0, 0)])
    rows = [(1, 5, 4.0, 99 * DAY), (1, 6, 5.0, 100 * DAY), (2, 5, 5.0, 300 * DAY), (3, 5, 5.0, None)]
    change(folder / "dataset", "test", rows[::-1])
    dataset = open_dataset(folder / "dataset")
    vectors = parity_vectors(dataset)
    vectors.retrieval_query[:, :-1] = 0
    vectors.rating_query[:] = [0, 0, 0, 4]
    added = np.zeros((2, 21), np.float32)
    for period, product, value in context:
        added[period, product] = value
    edges, rating = np.array([100 * DAY]), np.array([trend, 0], np.float32)
    vectors = dataclasses.replace(vectors, context=added, context_edges=edges, rating_context=rating)
    return write_run(folder / "run", dataset, vectors)


def test_a_review_is_ranked_as_of_its_own_date_and_a_list_as_of_its_first_review(tmp_path: Path) -> None:
    found = evaluate(dated_run(tmp_path, context=[(0, 5, 1.0), (0, 6, -1.0)]))
    # in period 0 product 5 is first and 6 last; in period 1, and now (no date), 4 stand before 5 and 5 before 6
    assert found["model"]["retrieval"] == {"top_1": 0.25, "top_5": 0.75, "top_10": 1, "top_50": 1, "top_100": 1}
    # customer 1 is asked in period 0: 5 at rank 1, 6 at rank 20; customers 2 and 3 find it at rank 5
    ranking = found["model"]["ranking"]
    assert ranking["mrr"] == pytest.approx((1 + 1 / 5 + 1 / 5) / 3)
    assert ranking["recall@10"] == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert found["protocol"]["query_context"] == ["date"]


def test_without_anything_to_add_dates_change_nothing(tmp_path: Path) -> None:
    run = dated_run(tmp_path, context=[])
    dated = evaluate(run)
    undated = dataclasses.replace(run.vectors, context=None, rating_context=None, context_edges=None)
    vars(run)["vectors"] = undated
    plain = evaluate(run)
    assert plain["protocol"].pop("query_context") == []
    assert dated["protocol"].pop("query_context") == ["date"]
    assert dated.pop("as_of_now") == dated["model"]
    assert dated == plain


def test_stars_are_those_of_the_date(tmp_path: Path) -> None:
    found = evaluate(dated_run(tmp_path, context=[], trend=-1.0))
    assert found["model"]["rating"]["rmse"] == pytest.approx(0, abs=1e-6)


def test_dated_popularity_knows_what_was_bought_then_from_the_days_before(tmp_path: Path) -> None:
    folder = write_checkerboard(tmp_path / "d")
    old = [(c, 1, 5.0, 0) for c in range(1, 6)] + [(6, 2, 5.0, 0)]
    new = [(c, 2, 5.0, 1000 * DAY) for c in range(7, 17)]
    change(folder, "train", old + new)
    change(folder, "valid", [(17, 1, 5.0, DAY), (17, 2, 5.0, 1001 * DAY)])
    # on day 1 product 1 leads, and still on day 1000, since what is sold on that day is not known when it begins
    tested = [(18, 1, 5.0, DAY), (19, 1, 5.0, 1000 * DAY + 3600), (20, 2, 5.0, 1001 * DAY)]
    change(folder, "test", [*tested, (1, 2, 5.0, -1)])  # nothing is known before the first day
    dataset = open_dataset(folder)
    run = write_run(tmp_path / "run", dataset, random_vectors(dataset, np.random.default_rng(0)), fit_parts=["train"])
    found = evaluate(run)
    assert found["baselines"]["popularity"]["retrieval"]["top_1"] == 0.5
    assert found["baselines"]["recent_popularity"]["retrieval"]["top_1"] == 0.5
    assert found["baselines"]["dated_popularity"]["retrieval"]["top_1"] == 0.75
    assert found["protocol"]["dated_half_life_days"] == 1460
    assert "top_1" in found["differences"]["dated_popularity"]["retrieval"]


def test_clicks_alone_are_evaluated_without_any_rating(tmp_path: Path) -> None:
    folder = write_checkerboard(tmp_path / "d")
    for part in ("train", "valid", "test"):
        reviews = pq.read_table(folder / f"{part}.parquet").to_pylist()
        change(folder, part, [(r["customer"], r["product"], None, None) for r in reviews])
    info = json.loads((folder / "dataset.json").read_text()) | {"stars": None}
    (folder / "dataset.json").write_text(json.dumps(info))
    dataset = open_dataset(folder)
    found = evaluate(write_run(tmp_path / "run", dataset, random_vectors(dataset, np.random.default_rng(0))))
    assert "rating" not in found["model"]
    assert list(found["baselines"]) == ["popularity"]
    assert "top_rated" not in found["model"]["slices"]


def test_differences_are_those_of_the_figures_and_lie_in_their_interval(tmp_path: Path) -> None:
    dataset = random_dataset(tmp_path / "dataset", 7)
    found = evaluate(write_run(tmp_path / "run", dataset, random_vectors(dataset, np.random.default_rng(7))))
    for name, groups in found["differences"].items():
        for group, metrics in groups.items():
            for metric, gap in metrics.items():
                both = [found["model"][group][metric], found["baselines"][name][group][metric]]
                assert gap["difference"] == pytest.approx(both[0] - both[1], abs=1e-6)
                assert gap["low"] <= gap["difference"] + 1e-9
                assert gap["high"] >= gap["difference"] - 1e-9
    assert set(found["differences"]) == set(found["baselines"])


def test_a_dataset_of_another_split_is_refused(parity: Run, tmp_path: Path) -> None:
    other = random_dataset(tmp_path / "other", 1, seed=43)
    with pytest.raises(AmzrecError, match="another split"):
        evaluate(parity, other)


def test_a_dataset_that_is_gone_asks_for_another(checkerboard: Path, tmp_path: Path) -> None:
    dataset = open_dataset(checkerboard)
    run = write_run(tmp_path / "run", dataset, parity_vectors(dataset), dataset=str(tmp_path / "gone"))
    with pytest.raises(AmzrecError, match="--dataset"):
        evaluate(run)
    assert evaluate(run, checkerboard)["protocol"]["test_rows"] == 20


def test_a_dataset_without_test_rows_is_refused(tmp_path: Path) -> None:
    folder = write_checkerboard(tmp_path / "d")
    pq.write_table(REVIEW_SCHEMA.empty_table(), folder / "test.parquet")
    dataset = open_dataset(folder)
    with pytest.raises(AmzrecError, match="--test"):
        evaluate(write_run(tmp_path / "run", dataset, parity_vectors(dataset)))


def test_a_run_whose_history_was_changed_is_not_measured(checkerboard: Path, tmp_path: Path) -> None:
    dataset = open_dataset(checkerboard)
    run = write_run(tmp_path / "run", dataset, parity_vectors(dataset))
    history = run.path / "history.csv"
    history.write_text("phase,epoch,rating_loss,rating_constant\nselect,1,0.9,1.2\n")
    write_manifest(run.path, RUN_FOLDER)
    assert evaluate(run.path)["protocol"]["test_rows"]
    history.write_text(history.read_text().replace("0.9", "0.1"))
    with pytest.raises(AmzrecError, match=r"history.csv is not as it was written"):
        evaluate(run.path)


def test_unwritable_metrics_are_one_clear_error(checkerboard: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", checkerboard, parity_vectors(open_dataset(checkerboard)))
    (run.path / "metrics.json").mkdir()
    with pytest.raises(AmzrecError, match="cannot write"):
        evaluate(run)


@pytest.mark.parametrize("dated", [False, True])
def test_with_a_context_every_row_is_ranked_among_the_products_that_share_it(tmp_path: Path, dated: bool) -> None:
    dataset = random_dataset(tmp_path / "dataset", 4)
    kind: list[list[str]] = [[]] + [["kind=" + "abc"[p % 3]] for p in range(17)] + [[] for _ in range(3)]
    add_features(tmp_path / "dataset", kind)
    dataset = open_dataset(tmp_path / "dataset")
    vectors = random_vectors(dataset, np.random.default_rng(4))
    edges, context = np.array([200 * DAY]), np.random.default_rng(5).normal(size=(2, 21)).astype(np.float32)
    if dated:
        vectors = dataclasses.replace(vectors, context=context, context_edges=edges)
    found = evaluate(write_run(tmp_path / "run", dataset, vectors), context="kind")
    candidates, test = vectors.candidates.tolist(), dataset.test
    counts = np.bincount(Reviews.concat([dataset.train, dataset.valid]).product, minlength=21)
    hits = {"model": 0, "popularity": 0}
    for c, p, t in zip(test.customer, test.product, test.timestamp, strict=True):
        if p not in candidates:
            continue
        among = [i for i in candidates if kind[i] == kind[p] or not kind[p]]
        scores = vectors.retrieval_candidate[among] @ vectors.retrieval_query[c]
        if dated:
            scores += context[int(t >= edges[0])][among]
        hits["model"] += int((scores >= scores[among.index(p)]).sum()) <= 5
        hits["popularity"] += int((counts[among] >= counts[p]).sum()) <= 5
    assert found["model"]["retrieval"]["top_5"] == hits["model"] / len(test)
    assert found["baselines"]["popularity"]["retrieval"]["top_5"] == hits["popularity"] / len(test)
    assert 0 < hits["model"] < len(test)
    assert found["protocol"]["query_context"] == (["date"] if dated else []) + ["kind"]
    assert "ranking" not in found["model"]
    assert (tmp_path / "run" / "metrics_kind.json").exists()
    assert not (tmp_path / "run" / "metrics.json").exists()  # that is of another task


def test_a_context_that_no_product_has_is_refused(parity: Run) -> None:
    with pytest.raises(AmzrecError, match=r"--context kind: no product of .* has a kind"):
        evaluate(parity, context="kind")
