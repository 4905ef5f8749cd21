"""A run as a document and as a report: the same figures as metrics.json, shares counted by hand, one safe file."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import amzrec
from amzrec.answers.lists import Wanted, best_products
from amzrec.answers.recommender import Recommender
from amzrec.cli.app import app
from amzrec.commands.evaluate import evaluate
from amzrec.errors import AmzrecError
from amzrec.page.files import MARK, content, hash_of
from amzrec.page.shares import parts_of, shares
from amzrec.page.summary import summary
from amzrec.store.dataset import open_dataset
from amzrec.store.ownership import is_report
from amzrec.store.run import METRICS, Run
from amzrec.store.strings import Strings
from runs import parity_vectors, random_vectors, write_run
from test_plots import HISTORY

SCRIPT = "</script><script>document.title = 'owned'</script>"


@pytest.fixture
def run(checkerboard: Path, tmp_path: Path) -> Run:
    dataset = open_dataset(checkerboard)
    return write_run(tmp_path / "run", dataset, random_vectors(dataset, np.random.default_rng(5)))


def described(run: Run) -> dict[str, Any]:
    return summary(run, Recommender(run.vectors))


# --- what is recommended beside what is bought


def test_parts_are_of_equal_size_and_begin_with_the_most_reviewed_products() -> None:
    counts = np.array([1, 9, 3, 3, 0, 7, 2, 8, 6, 5, 4, 3])  # 12 products in ten parts: two parts have two
    parts = parts_of(counts)
    assert parts[1] == 0  # the most reviewed
    assert parts[4] == 9  # the least reviewed
    assert (parts[2], parts[3], parts[11]) == (5, 5, 6)  # ranks 6, 7 and 8 of 12: equal ones keep their order
    assert sorted(np.bincount(parts)) == [1] * 8 + [2] * 2
    assert parts_of(np.array([3, 5, 4])).tolist() == [2, 0, 1]  # fewer products than parts


def test_shares_are_what_is_counted_one_customer_at_a_time(run: Run) -> None:
    model = Recommender(run.vectors)
    found = shares(model)
    assert found is not None
    lists = [best_products(model, f"u{u:02}", Wanted(k=10))["recommendations"] for u in range(20)]
    products = [entry["product_id"] for each in lists for entry in each]
    counts = {run.vectors.product_ids[row]: int(run.vectors.product_counts[row]) for row in range(1, 21)}
    ranked = sorted(counts, key=lambda product: -counts[product])
    for number, part in enumerate(found["parts"]):
        mine = ranked[2 * number : 2 * number + 2]
        assert part["products"] == 2
        assert part["recommended"] == pytest.approx(sum(p in mine for p in products) / len(products))
        assert part["bought"] == pytest.approx(sum(counts[p] for p in mine) / sum(counts.values()))
    assert found["coverage"] == len(set(products)) / 20
    assert found["reviews"]["recommended"] == pytest.approx(np.mean([counts[p] for p in products]))
    assert found["reviews"]["bought"] == pytest.approx(sum(counts[p] ** 2 for p in counts) / sum(counts.values()))
    most = max(products.count(p) for p in counts)
    assert found["top"][0]["customers"] == most / 20
    assert (found["customers"], found["of"], found["k"]) == (20, 20, 10)


def test_a_sample_of_customers_is_drawn_where_there_are_many(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amzrec.page.shares.CUSTOMERS", (2, 7))
    model = Recommender(run.vectors)
    found = shares(model)
    assert found is not None
    assert (found["customers"], found["of"]) == (7, 20)
    assert found == shares(model)
    assert found["parts"] != (shares(model, seed=1) or {})["parts"]


def test_a_run_that_knows_nobody_has_no_shares(run: Run) -> None:
    nobody = dataclasses.replace(run.vectors, customer_counts=np.zeros(21, np.int64))
    assert shares(Recommender(nobody)) is None


# --- the document


def test_figures_slices_and_gaps_are_those_of_metrics_json(run: Run) -> None:
    measured = evaluate(run)
    (run.path / "history.csv").write_text(HISTORY)
    found = described(run)
    systems = {system["name"]: system for system in found["figures"]["systems"]}
    assert list(systems) == ["model", *measured["baselines"]]
    for group in ("rating", "retrieval", "ranking"):
        assert systems["model"][group] == measured["model"][group]
        assert systems["popularity"][group] == measured["baselines"]["popularity"].get(group)
    assert found["figures"]["gaps"] == measured["differences"]
    known = next(part for part in found["figures"]["slices"] if part["name"] == "known_customer")
    theirs = {name: figures["slices"]["known_customer"] for name, figures in measured["baselines"].items()}
    errors = {name: part["rating"]["rmse"] for name, part in theirs.items() if "rating" in part}
    assert known["rmse"]["reached"] == min(errors.values()) == errors[known["rmse"]["baseline"]]
    assert known["top_10"]["reached"] == max(p["retrieval"]["top_10"] for p in theirs.values() if "retrieval" in p)
    assert known["rmse"]["model"] == measured["model"]["slices"]["known_customer"]["rating"]["rmse"]
    assert found["missing"] is None
    assert [row["phase"] for row in found["curves"]] == ["select", "select", "refit"]
    assert found["curves"][1]["valid_rmse"] == 0.94
    assert found["curves"][2]["valid_rmse"] is None
    assert found["counts"] == {"customers": 20, "products": 20, "reviews": 220}
    assert found["stars"] == [1.0, 5.0]
    json.dumps(found, allow_nan=False)


def test_what_was_not_trained_is_not_shown(checkerboard: Path, tmp_path: Path) -> None:
    dataset = open_dataset(checkerboard)
    clicks = write_run(tmp_path / "clicks", dataset, parity_vectors(dataset), trained=("retrieval",))
    evaluate(clicks)
    model = described(clicks)["figures"]["systems"][0]
    assert model["rating"] is None
    assert model["retrieval"]
    assert "rmse" not in described(clicks)["figures"]["slices"][0]


def test_a_run_without_figures_says_what_to_type(run: Run) -> None:
    found = described(run)
    assert found["figures"] is None
    assert found["missing"].endswith(f"amzrec evaluate {run.path}")
    assert found["curves"] == []
    assert run.info.protocol
    protocol = dataclasses.replace(run.info.protocol, test=0.0, split="random")
    untested = dataclasses.replace(run, info=dataclasses.replace(run.info, protocol=protocol))
    assert untested.info.untested
    assert "--test 0.2" in described(untested)["missing"]


@pytest.mark.parametrize("text", ["{", "[]", '{"model": {}}', "\ufeff"])
def test_damaged_figures_are_told_with_what_to_type(run: Run, text: str) -> None:
    (run.path / METRICS).write_text(text)
    with pytest.raises(AmzrecError, match=r"metrics\.json cannot be read.*amzrec evaluate"):
        described(run)


def test_cells_of_the_history_that_are_no_finite_numbers_are_left_empty(run: Run) -> None:
    (run.path / "history.csv").write_text("phase,epoch,rating_loss\nselect,1,nan\nselect,2,inf,extra\nselect,3\n")
    assert [row["rating_loss"] for row in described(run)["curves"]] == [None, None, None]


# --- the report


def test_a_report_is_one_file_that_runs_only_what_was_written_into_it(run: Run, tmp_path: Path) -> None:
    vectors = dataclasses.replace(run.vectors, titles=Strings.of(["", *(f"{SCRIPT}{n}" for n in range(20))]))
    hostile = write_run(tmp_path / "<b>&run", open_dataset(run.info.dataset), vectors)  # type: ignore[arg-type]
    out = amzrec.report(hostile, tmp_path / "deep" / "report.html")
    page = out.read_text()
    assert page.count("<script") == 2
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    for kind in ("style", "script"):
        (inside,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.S)
        assert f"{kind}-src '{hash_of(inside)}'" in policy[1]
    assert policy[1].startswith("default-src 'none'")
    (data,) = re.findall(r'<script type="application/json" id="document">(.*?)</script>', page, re.S)
    assert json.loads(data) == described(hostile)
    assert SCRIPT in data.replace("\\u003c", "<")
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "u07" not in page  # no customer


def test_reports_are_known_by_their_mark_and_replaced_only_when_asked(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = CliRunner().invoke(app, ["report", str(run.path), "--out", str(out)])
    assert (done.exit_code, done.output) == (0, f"{out}\n")
    assert is_report(out)
    with pytest.raises(AmzrecError, match=r"exists already.*--overwrite"):
        amzrec.report(run, out)
    amzrec.report(run, out, overwrite=True)
    with pytest.raises(AmzrecError, match=r"let it end in \.html"):
        amzrec.report(run, tmp_path / "report.pdf")
    other = tmp_path / "mine.html"
    other.write_text("<!doctype html><title>my page</title>")
    with pytest.raises(AmzrecError, match="did not write it"):
        amzrec.report(run, other, overwrite=True)
    assert MARK in out.read_text()[:4096]


def test_the_script_of_a_report_ends_no_tag_of_the_page() -> None:
    for name in ("elements.js", "charts.js", "model.js", "page.css"):
        assert b"</" not in content(name)
        assert b"<!--" not in content(name)
