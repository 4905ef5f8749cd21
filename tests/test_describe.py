"""describe, on reviews counted by hand: who has how many, stars, time, what is cold, and what the baselines reach."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import amzrec
from amzrec.cli.app import app
from amzrec.commands.describe import describe, periods, spread, stars_of
from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError

HEAD = "customer,product,stars,timestamp\n"
DAY = 86_400
# Train: u1 reviews a, b, c; u2 reviews a, b; u3 reviews a. Test: u1 reviews d, u2 reviews c, u4 reviews a.
TRAIN = ["u1,a,5,0", "u1,b,3,1", "u1,c,1,2", "u2,a,4,3", "u2,b,2,4", "u3,a,3,5"]
TEST = ["u1,d,4,10", "u2,c,5,10", "u4,a,3,10"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The description of TRAIN and TEST, with a picture."""
    return described(tmp_path_factory.mktemp("described"), TRAIN, TEST)


def described(folder: Path, train: list[str], test: list[str], head: str = HEAD) -> dict[str, Any]:
    """The description of a given split without a valid part."""
    (folder / "train.csv").write_text(head + "".join(f"{row}\n" for row in train))
    (folder / "test.csv").write_text(head + "".join(f"{row}\n" for row in test))
    config = PrepareConfig(split="given", test_source=str(folder / "test.csv"), valid=0)
    return describe(folder / "train.csv", config, out=folder / "picture.png")


def test_rows_customers_products_and_density_are_those_of_the_reviews(found: dict[str, Any]) -> None:
    rows = {"read": 9, "rejected": {}, "duplicates": 0, "repeats": 0, "filtered": 0, "kept": 9}
    assert found["rows"] == rows | {"train": 6, "valid": 0, "test": 3}
    assert (found["customers"], found["products"]) == (4, 4)
    assert found["density"] == 9 / 16
    assert found["titled_products"] == 0


def test_the_histogram_goes_by_powers_of_two(found: dict[str, Any]) -> None:
    # u1 has 4 reviews, u2 has 3, u3 and u4 have 1; a has 4, b and c have 2, d has 1
    assert found["reviews_per_customer"] == {
        "mean": 2.25,
        "median": 2.0,
        "most": 4,
        "histogram": [
            {"from": 1, "to": 1, "count": 2, "reviews": 2},
            {"from": 2, "to": 2, "count": 0, "reviews": 0},
            {"from": 3, "to": 4, "count": 2, "reviews": 7},
        ],
    }
    counts = [(part["from"], part["to"], part["count"]) for part in found["reviews_per_product"]["histogram"]]
    assert counts == [(1, 1, 1), (2, 2, 2), (3, 4, 1)]


def test_nine_reviews_are_the_first_of_the_bin_from_9_to_16() -> None:
    bins = (spread(np.repeat([1, 2], [9, 8])) or {})["histogram"]
    assert [(b["from"], b["to"]) for b in bins] == [(1, 1), (2, 2), (3, 4), (5, 8), (9, 16)]
    assert [b["count"] for b in bins] == [0, 0, 0, 1, 1]
    assert [b["reviews"] for b in bins] == [0, 0, 0, 8, 9]


def test_stars_are_counted_by_value(found: dict[str, Any]) -> None:
    values = [(part["from"], part["to"], part["reviews"]) for part in found["stars"]["histogram"]]
    assert values == [(1, 1, 1), (2, 2, 1), (3, 3, 3), (4, 4, 2), (5, 5, 2)]
    assert found["stars"]["mean"] == pytest.approx(30 / 9)
    assert found["stars"]["unrated"] == 0


def test_many_values_of_the_stars_are_put_into_ten_bins() -> None:
    found = stars_of(np.array([*range(100), np.nan], np.float32))
    assert found is not None
    assert [part["reviews"] for part in found["histogram"]] == [10] * 10
    assert (found["histogram"][0]["from"], found["histogram"][-1]["to"], found["unrated"]) == (0, 99, 1)


def test_time_is_told_from_the_first_day_to_the_last_by_part(tmp_path: Path) -> None:
    train = [f"u{i},a,5,{day * DAY}" for i, day in enumerate([0, 0, 1, 3])]
    time = described(tmp_path, train, [f"u9,a,5,{4 * DAY + 5}", "u8,a,5,"])["time"]
    assert (time["first"], time["last"], time["undated"]) == ("1970-01-01", "1970-01-05", 1)
    assert [part["from"][-2:] for part in time["histogram"]] == ["01", "02", "03", "04", "05"]
    assert [part["train"] for part in time["histogram"]] == [2, 1, 0, 1, 0]
    assert [part["test"] for part in time["histogram"]] == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("days", [1, 79, 80, 400, 4_000, 20_000, 200_000])
def test_a_time_span_of_any_length_has_at_most_eighty_periods_and_its_first_moment_is_in_one(days: int) -> None:
    begins = periods(12_345, 12_345 + days * DAY)
    assert 1 <= len(begins) <= 80
    assert begins[0] <= 12_345
    assert begins == sorted(set(begins))


def test_a_test_row_is_cold_where_its_customer_or_product_is_new(found: dict[str, Any]) -> None:
    assert found["cold"] == pytest.approx({"customer": 1 / 3, "product": 1 / 3, "either": 2 / 3})


def test_baselines_are_those_of_the_hand(found: dict[str, Any]) -> None:
    # the mean of train is 3, so it errs by 1, 2, 0 on the test stars 4, 5, 3
    assert found["baselines"]["global_mean"]["rating"] == pytest.approx({"rmse": (5 / 3) ** 0.5, "mae": 1.0})
    # product c: (1 - 3) / (1 + 5) = -1/3; product a: (2 + 1 + 0) / (3 + 5) = 3/8; d is unknown
    errors = [1, 2 + 1 / 3, 3 / 8]
    rmse = (sum(e * e for e in errors) / 3) ** 0.5
    assert found["baselines"]["product_bias"]["rating"]["rmse"] == pytest.approx(rmse)
    # a is the most popular, b the second, c the third: u4's a is in the top 1, u2's c in the top 5, u1's d is unknown
    top = found["baselines"]["popularity"]["retrieval"]
    assert top == pytest.approx({"top_1": 1 / 3, "top_5": 2 / 3, "top_10": 2 / 3, "top_50": 2 / 3, "top_100": 2 / 3})
    assert "recent_popularity" in found["baselines"]
    assert "dated_popularity" not in found["baselines"], "all reviews are of one day"


def test_ties_count_against_popularity(tmp_path: Path) -> None:
    found = described(tmp_path, ["u1,a,5,0", "u2,b,5,0"], ["u3,a,5,1"])
    assert found["baselines"]["popularity"]["retrieval"]["top_1"] == 0
    assert found["baselines"]["popularity"]["retrieval"]["top_5"] == 1


def test_the_figures_of_the_baselines_are_those_of_evaluate(checkerboard: Path, tmp_path: Path) -> None:
    from amzrec.commands.evaluate import evaluate
    from amzrec.store.dataset import open_dataset
    from runs import parity_vectors, write_run

    run = write_run(tmp_path / "run", checkerboard, parity_vectors(open_dataset(checkerboard)))
    theirs = evaluate(run)["baselines"]
    for name, ours in describe(checkerboard)["baselines"].items():
        for group, figures in ours.items():
            for metric, value in figures.items():
                assert theirs[name][group][metric] == pytest.approx(value), (name, metric)


def test_clicks_have_no_stars_no_time_and_no_rating_baselines(tmp_path: Path) -> None:
    found = described(tmp_path, ["u,p", "v,p", "u,q"], ["v,q"], "customer,product\n")
    assert (found["stars"], found["time"]) == (None, None)
    assert list(found["baselines"]) == ["popularity"]
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_without_test_reviews_nothing_is_said_of_them(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text(HEAD + "u,p,5,0\nv,p,4,0\n")
    found = describe(tmp_path / "reviews.csv", PrepareConfig(test=1e-9, valid=0))
    assert (found["cold"], found["baselines"], found["picture"]) == (None, {}, None)


def test_the_command_prints_a_table_or_one_document_and_draws_the_picture(tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    file.write_text(HEAD + "".join(f"{row}\n" for row in TRAIN))
    picture = tmp_path / "of its own" / "described.png"  # whose folder is made, as that of recommend --all is
    done = CliRunner().invoke(app, ["describe", str(file), "--split", "temporal", "--out", str(picture)])
    assert done.exit_code == 0, done.output
    for words in ("3 to 4", "density: 66.7 %", "cold under the temporal split", "1970-01-01", "popularity"):
        assert words in done.stdout, words
    assert picture.read_bytes()[:4] == b"\x89PNG"
    done = CliRunner().invoke(app, ["describe", str(file), "--split", "temporal", "--json"])
    assert json.loads(done.stdout)["customers"] == 3


def test_a_picture_that_cannot_be_written_is_an_error_that_says_where(tmp_path: Path) -> None:
    (tmp_path / "nowhere").write_text("a file, and no folder")
    with pytest.raises(AmzrecError, match=r"cannot write the picture .*nowhere/x\.png"):
        describe(out=tmp_path / "nowhere" / "x.png")


def test_describe_is_also_a_function_of_the_package(checkerboard: Path) -> None:
    assert amzrec.describe(checkerboard)["products"] == 20
