"""Every mistake that a person can mend is one line that says what to do: exit code 1, nothing half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from amzrec.cli.app import app
from amzrec.store.dataset import open_dataset
from amzrec.store.manifest import write_manifest
from amzrec.store.ownership import RUN_FOLDER
from conftest import ROOT
from runs import parity_vectors, write_run


def mistake(*words: object) -> str:
    """The one line that a command answers a mistake with."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 1, f"{done.output}\n{done.exception!r}"
    assert isinstance(done.exception, SystemExit)
    said = [line for line in done.stderr.splitlines() if line.startswith("amzrec: error: ")]
    assert len(said) == 1, done.stderr
    assert "Traceback" not in done.output
    assert done.stdout == ""
    return said[0]


def table(folder: Path, text: str, name: str = "reviews.csv") -> Path:
    """A file of reviews."""
    (folder / name).write_text(text)
    return folder / name


@pytest.fixture
def run(checkerboard: Path, tmp_path: Path) -> Path:
    """A run that may be damaged."""
    board = open_dataset(checkerboard)
    return write_run(tmp_path / "runs" / "parity", board, parity_vectors(board)).path


# --- sources


def test_a_missing_file(tmp_path: Path) -> None:
    assert "nowhere.csv" in mistake("prepare", tmp_path / "nowhere.csv", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_empty_file(tmp_path: Path) -> None:
    assert "empty" in mistake("prepare", table(tmp_path, ""), "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_of_a_header_only(tmp_path: Path) -> None:
    file = table(tmp_path, "customer,product,stars\n")
    mistake("prepare", file, "--columns", "customer=customer,product=product,stars=stars", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wrong_column_names_the_columns_found(tmp_path: Path) -> None:
    file = table(tmp_path, "UserId,ItemId,Score\nu,p,3\n")
    said = mistake("prepare", file, "--columns", "customer=User,product=ItemId", "--out", tmp_path / "out")
    assert "'User'" in said
    assert "UserId" in said


def test_stars_that_are_no_numbers(tmp_path: Path) -> None:
    file = table(tmp_path, "customer,product,stars\n" + "".join(f"u{i},p{i},good\n" for i in range(9)))
    said = mistake(
        *("prepare", file, "--columns", "customer=customer,product=product,stars=stars", "--out", tmp_path / "out")
    )
    assert "stars" in said
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_lists_the_known_ones(tmp_path: Path) -> None:
    file = table(tmp_path, "customer,product,stars\nu,p,3\n")
    said = mistake("prepare", file, "--format", "netflix", "--out", tmp_path / "out")
    assert "netflix" in said
    assert "movielens-100k" in said


def test_a_file_of_no_known_layout(tmp_path: Path) -> None:
    assert "--columns" in mistake("prepare", table(tmp_path, "a,b\n1,x\n2,y\n"), "--out", tmp_path / "out")


def test_a_folder_of_no_known_layout(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert "photos" in mistake("prepare", tmp_path / "photos", "--out", tmp_path / "out")


@pytest.mark.parametrize("flag", [["--test", "1.5"], ["--split", "sideways"], ["--min-reviews", "-1"]], ids="".join)
def test_a_bad_setting_names_its_flag(flag: list[str], tmp_path: Path) -> None:
    assert flag[0] in mistake("prepare", *flag, "--out", tmp_path / "out")


def test_a_dataset_folder_is_not_replaced_unasked(checkerboard: Path, tmp_path: Path) -> None:
    there = shutil.copytree(checkerboard, tmp_path / "dataset")
    before = (there / "dataset.json").read_bytes()
    assert "--overwrite" in mistake("prepare", "--out", there)
    assert (there / "dataset.json").read_bytes() == before


# --- training


def test_negative_weights() -> None:
    assert "--rating-weight" in mistake("train", "--rating-weight", "-1")


def test_both_weights_zero() -> None:
    assert "nothing to learn" in mistake("train", "--rating-weight", "0", "--retrieval-weight", "0")


def test_flags_of_prepare_do_not_go_with_a_dataset_folder(checkerboard: Path, tmp_path: Path) -> None:
    mistake("train", checkerboard, "--split", "temporal", "--run", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_folder_is_not_replaced_unasked(checkerboard: Path, run: Path) -> None:
    before = (run / "run.json").read_bytes()
    assert "--overwrite" in mistake("train", checkerboard, "--run", run)
    assert (run / "run.json").read_bytes() == before


# --- runs and questions


def test_a_k_of_zero(run: Path) -> None:
    assert "-k" in mistake("recommend", "u07", "-k", "0", "--run", run)
    assert "-k" in mistake("similar", "p01", "-k", "0", "--run", run)


def test_an_unknown_run_lists_the_known_ones(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parents[1])
    assert "parity" in mistake("recommend", "u07", "--run", "runs/joint")


def test_no_run_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "amzrec train" in mistake("recommend", "u07")


@pytest.mark.parametrize("verb", [["recommend", "u07", "--run"], ["evaluate"], ["export", "--out", "out"]])
def test_a_foreign_folder_is_no_run(verb: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert "photos" in mistake(*verb, "photos")


@pytest.mark.parametrize("name", ["vectors/vectors.json", "vectors/retrieval_query.npy", "run.json"])
def test_a_damaged_run_names_what_is_wrong(name: str, run: Path) -> None:
    (run / name).write_bytes((run / name).read_bytes()[:50])
    assert str(run) in mistake("recommend", "u07", "--run", run)


def test_a_run_with_a_missing_file(run: Path) -> None:
    (run / "vectors" / "titles_blob.npy").unlink()
    assert "titles_blob" in mistake("recommend", "u07", "--run", run)


def test_an_unknown_product_suggests_near_titles(run: Path) -> None:
    assert "Product 4" in mistake("similar", "Prodct 4", "--run", run)


def test_an_unknown_order(run: Path) -> None:
    assert "--sort" in mistake("recommend", "u07", "--sort", "price", "--run", run)


@pytest.mark.parametrize("words", [[], ["u07", "--all", "--out", "x.csv"], ["--all"], ["u07", "--out", "x.csv"]])
def test_one_customer_or_all_of_them(words: list[str], run: Path) -> None:
    assert "amzrec recommend" in mistake("recommend", *words, "--run", run)


def test_evaluate_of_a_dataset_that_is_gone(run: Path) -> None:
    facts: dict[str, Any] = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"dataset": str(run / "gone")}))
    write_manifest(run, RUN_FOLDER)
    assert "--dataset" in mistake("evaluate", run)


# --- places


def test_an_output_below_a_file_leaves_nothing(tmp_path: Path, run: Path) -> None:
    file = table(tmp_path, "customer,product,stars\nu,p,3\n")
    for words in (["prepare", file, "--out"], ["export", run, "--out"]):
        mistake(*words, file / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reviews.csv", "runs"]


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_nothing_behind(tmp_path: Path) -> None:
    rows = "".join(f"u{i},p{i % 50},{i % 5 + 1}\n" for i in range(20_000))
    file = table(tmp_path, "customer,product,stars\n" + rows)
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from amzrec.cli.app import app\n"
        f"app(['prepare', {str(file)!r}, '--out', {str(tmp_path / 'out')!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1, done.stderr
    assert "amzrec: error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["reviews.csv"]
