"""`amzrec backtest`: nothing that came later is known, and each window meets what had been let in before it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from amzrec.commands.backtest import backtest, overall
from amzrec.commands.prepare import prepare
from amzrec.config import PrepareConfig, TrainConfig
from amzrec.errors import AmzrecError
from amzrec.renewal.windows import all_reviews, before, between, edges, seconds_of
from amzrec.store.dataset import Dataset
from amzrec.store.ownership import is_picture

DAY = 86_400
START = 1_400_000_000  # unix seconds
FIGURES = {"rmse", "top_100", "recall@10", "ndcg@10"}


def reviews_file(folder: Path) -> Path:
    """Reviews of 12 old customers over 40 days, then of `ann` on days 41 and 48 and of `bob` on day 48 alone."""
    rng = np.random.default_rng(0)
    lines = ["customer,product,stars,timestamp"]
    for customer in range(12):
        for product in rng.permutation(10)[:6]:
            lines.append(f"c{customer},p{product},{1 + product % 5},{START + DAY * int(rng.integers(0, 40))}")
    lines += [f"ann,p{p},{1 + p % 5},{START + 41 * DAY}" for p in range(4)]
    lines += [f"{who},p{p},{1 + p % 5},{START + 48 * DAY}" for who in ("ann", "bob") for p in (6, 7)]
    lines += [f"c1,late,3,{START + 48 * DAY}"]
    file = folder / "reviews.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """These reviews, prepared."""
    folder = tmp_path_factory.mktemp("backtest")
    return prepare(reviews_file(folder), folder / "dataset", PrepareConfig(test=0.3))


def named(dataset: Dataset) -> set[tuple[str, str, float, int]]:
    """The reviews of a dataset with the ids that its rows stand for."""
    reviews = all_reviews(dataset)
    customers, products = (
        table[name].to_pylist()
        for table, name in ((dataset.customers, "customer_id"), (dataset.products, "product_id"))
    )
    columns = zip(
        *(getattr(reviews, name).tolist() for name in ("customer", "product", "stars", "timestamp")), strict=True
    )
    return {(customers[c], products[p], s, t) for c, p, s, t in columns}


def test_a_dataset_before_a_moment_knows_nobody_and_nothing_that_came_later(dataset: Dataset) -> None:
    moment = START + 41 * DAY
    early = before(dataset, all_reviews(dataset), moment)
    assert named(early) == {review for review in named(dataset) if review[3] < moment}
    ids = early.customers["customer_id"].to_pylist(), early.products["product_id"].to_pylist()
    assert sorted(ids[0]) == ["", *sorted(f"c{c}" for c in range(12))]
    assert "late" not in ids[1]
    assert early.products["row"].to_pylist() == list(range(len(ids[1])))
    counts = np.bincount(early.train.product, minlength=len(ids[1])).tolist()
    assert early.products["count"].to_pylist() == counts
    assert counts[1:] == sorted(counts[1:], reverse=True)
    assert early.train.timestamp.max() <= early.valid.timestamp.min()
    assert 0 < len(early.valid) < len(early.train) / 4
    assert not len(early.test)


def test_windows_end_after_the_latest_review_and_hold_every_review_after_the_first_moment(dataset: Dataset) -> None:
    reviews = all_reviews(dataset)
    moments = edges(reviews, seconds_of("1w"), 2)
    assert moments.tolist() == [START + days * DAY + 1 for days in (34, 41, 48)]
    windows = [named(between(dataset, reviews, *pair)) for pair in itertools.pairwise(moments)]
    assert windows[0] | windows[1] == {review for review in named(dataset) if review[3] >= moments[0]}
    assert not windows[0] & windows[1]


@pytest.mark.parametrize(("text", "seconds"), [("7d", 7 * DAY), ("12h", DAY // 2), ("4w", 28 * DAY)])
def test_lengths_of_windows_are_hours_days_or_weeks(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


def test_what_cannot_be_walked_through_is_one_error(dataset: Dataset, tmp_path: Path) -> None:
    for wrong in ("7", "0d", "d", "1m", "-1d"):
        with pytest.raises(AmzrecError, match=r"--every is .*12h, 7d or 4w"):
            seconds_of(wrong)
    with pytest.raises(AmzrecError, match="lower --last or --every"):
        backtest(dataset, every="8w", last=2)
    with pytest.raises(AmzrecError, match="--last"):
        backtest(dataset, last=0)
    (tmp_path / "undated.csv").write_text("customer,product,stars\na,b,1\nc,d,2\ne,f,3\n")
    with pytest.raises(AmzrecError, match="3 of 3 have none"):
        backtest(tmp_path / "undated.csv")
    with pytest.raises(AmzrecError, match=r"let it end in \.png"):
        backtest(dataset, out=tmp_path / "picture.pdf")


def test_all_windows_together_are_weighed_by_what_each_figure_is_counted_over() -> None:
    systems = [
        {"a": {"rmse": 1.0, "top_100": 0.5, "recall@10": 0.2}},
        {"a": {"rmse": 2.0, "top_100": 0.1, "recall@10": 0.6}},
    ]
    windows = [
        {"reviews": 10, "rated": 3, "customers": 1, "systems": systems[0]},
        {"reviews": 30, "rated": 1, "customers": 3, "systems": systems[1]},
        {"reviews": 0, "rated": 0, "customers": 0, "systems": {}},
    ]
    # √((3 · 1 + 1 · 4) / 4), (10 · .5 + 30 · .1) / 40, (1 · .2 + 3 · .6) / 4
    assert overall(windows) == {"a": {"rmse": 1.322876, "top_100": 0.2, "recall@10": 0.5}}


@pytest.mark.long
def test_each_window_meets_what_had_been_let_in_before_it(dataset: Dataset, eagerly: None, tmp_path: Path) -> None:
    config = TrainConfig(dim=6, head=(4,), epochs=1, own_vector=1, memory=False, moment=False)
    picture = tmp_path / "of its own" / "backtest.png"
    found = backtest(dataset, config, every="1w", last=3, retrain=True, warm=True, out=picture)
    old, first, second = found["windows"]
    assert first["until"] == second["from"] == "2014-06-23 16:53"
    assert [window["reviews"] for window in (first, second)] == [first["reviews"], 5]
    assert first["reviews"] >= 4
    # ann's reviews of the first week have been let in; bob and one product are new in the second
    assert first["unknown_customer_rows"] == 4
    assert second["unknown_customer_rows"] == 2
    assert second["unknown_product_rows"] == 1
    systems = second["systems"]
    assert {"trained_once", "updated", "warm_started", "trained_again", "product_bias", "popularity"} <= set(systems)
    assert systems["warm_started"] != systems["trained_once"]
    assert set(first["seconds"]) == {"trained_once", "updated", "warm_started", "trained_again"}
    assert set(systems["updated"]) == FIGURES
    assert old["systems"]["trained_once"] == old["systems"]["updated"] == old["systems"]["trained_again"]
    assert systems["trained_once"] != systems["updated"]
    assert set(found["overall"]["updated"]) == FIGURES
    assert is_picture(picture)
