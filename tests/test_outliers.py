"""A few reviews with an absurd time or none cost nothing: they are told and counted, and no one else loses its time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amzrec.commands.prepare import prepare
from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.features.popularity import Popularity
from amzrec.reviews.outliers import DAY, span_of
from amzrec.store.dataset import NO_TIME, Dataset, Reviews, open_dataset
from amzrec.store.times import few
from amzrec.store.vectors import check_learned
from voices import Voice

START = 1_400_000_000  # in May 2014
ABSURD = ["9999-12-31", "2099-06-01", "1900-01-01", "1970-01-02", "2038-01-19", "0", "", "32503680000"]


def spans(days: list[int], reviews: list[int]) -> tuple[int, int, int] | None:
    """The first and the last day that are not far outside, and how many reviews are."""
    found = span_of(np.array(days), np.array(reviews))
    return found and (found.first // DAY, found.end // DAY - 1, found.outside)


def test_what_is_far_outside_is_further_away_than_all_but_a_few_are_apart_and_than_a_year() -> None:
    assert spans([100, 200, 700], [100, 100, 1]) == (100 - 365, 200 + 365, 1)  # 500 days after the others
    assert spans([100, 200, 565], [100, 100, 1]) is None  # just a year
    assert spans([100, 1100, 2101], [100, 100, 1]) == (-900, 2100, 1)
    assert spans([100, 1100, 2100], [100, 100, 1]) is None
    assert spans([-40_000, 100, 200, 9_000], [1, 200, 200, 1]) == (-265, 565, 2)
    assert spans([200, 700, 100], [100, 1, 100]) == (-265, 565, 1)  # in any order


def test_what_many_reviews_have_is_not_far_outside() -> None:
    assert spans([100, 9_000], [200, 3]) is None
    assert spans([100, 9_000], [400, 2]) == (100 - 365, 100 + 365, 2)
    assert spans([100, 9_000], [20, 1]) is None  # too few to tell
    assert spans([100], [500]) is None
    assert spans([], []) is None


def test_one_in_a_hundred_reviews_is_few() -> None:
    assert [few(n) for n in (0, 49, 50, 250, 1_500, 10**6)] == [0, 0, 2, 2, 15, 10_000]


def dataset_with(folder: Path, time: Any, count: int = 1, **settings: Any) -> tuple[Dataset, str]:
    """600 reviews in order of time, a day apart, of which `count` have this time, and what was said."""
    lines = []
    for n in range(600):
        when = time if n % 29 == 7 and n // 29 < count else START + n * DAY
        lines.append(json.dumps({"customer": f"u{n % 40}", "product": f"p{n // 40}", "stars": n % 5, "time": when}))
    (folder / "reviews.jsonl").write_text("\n".join(lines))
    voice = Voice()
    config = PrepareConfig(columns="customer=customer,product=product,stars=stars,timestamp=time", **settings)
    return prepare(folder / "reviews.jsonl", folder / "d", config, overwrite=True, progress=voice), "\n".join(
        voice.lines
    )


@pytest.mark.parametrize("time", ABSURD)
def test_one_absurd_or_missing_time_is_said_and_leaves_the_time_to_all_others(tmp_path: Path, time: str) -> None:
    plain, _ = dataset_with(tmp_path, START + 7 * DAY)
    edges = popular(plain).edges
    assert len(edges) > 100
    dataset, said = dataset_with(tmp_path, time)
    assert "1 of 600 reviews have no timestamp: these few count as old as the oldest" in said
    assert dataset.info.warnings
    assert dataset.has_time
    assert np.abs(popular(dataset).edges - edges).max() <= DAY
    kept = dataset.info.counts
    assert (kept.read, kept.kept, kept.rejected) == (600, 600, {})


def popular(dataset: Dataset) -> Popularity:
    """What is popular when among all that a model is fitted on."""
    fit = Reviews.concat([dataset.train, dataset.valid])
    return Popularity.of(fit.product, fit.timestamp, dataset.products.num_rows, 30.0)


def test_more_than_a_few_missing_times_are_no_times_for_anyone(tmp_path: Path) -> None:
    few_are_missing, said = dataset_with(tmp_path, None, 6)
    assert few_are_missing.has_time
    assert "6 of 600 reviews have no timestamp: these few" in said
    many, said = dataset_with(tmp_path, None, 20)
    assert not many.has_time
    assert "20 of 600 reviews have no timestamp: a model then reads no times at all" in said
    assert (many.train.timestamp == NO_TIME).any()


@pytest.mark.parametrize(("split", "time"), [("temporal", "2099-06-01"), ("temporal", ""), ("leave-last-out", "0")])
def test_a_split_by_time_has_reviews_without_one_in_train(tmp_path: Path, split: Any, time: str) -> None:
    dataset, _ = dataset_with(tmp_path, time, 6, split=split)
    raw = {name: dataset.part(name).timestamp for name in ("train", "valid", "test")}
    assert (raw["train"] == NO_TIME).sum() == 6
    if split == "temporal":
        assert raw["train"].max() < raw["valid"].min() < raw["valid"].max() < raw["test"].min()
        assert len(raw["test"]) == 119  # a fifth of those with a time
    assert dataset.train.timestamp.min() == raw["train"][raw["train"] != NO_TIME].min()
    with pytest.raises(AmzrecError, match="20 of 600 have none"):
        dataset_with(tmp_path, "", 20, split=split)


def test_the_folder_keeps_what_the_source_said(tmp_path: Path) -> None:
    dataset, _ = dataset_with(tmp_path, "2099-06-01", 6)
    parts = [open_dataset(dataset.path).part(name) for name in ("train", "valid", "test")]
    assert sum(int((part.timestamp == NO_TIME).sum()) for part in parts) == 6


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_no_array_with_a_number_that_is_none_is_written(wrong: float) -> None:
    check_learned("context", np.array([1.0, 2.0]))
    check_learned("rows", np.array([1, 2]))
    with pytest.raises(AmzrecError, match=r"1 of the 2 numbers of context are none.*no run was written"):
        check_learned("context", np.array([1.0, wrong], np.float32))
