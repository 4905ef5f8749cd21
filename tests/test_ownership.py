"""amzrec replaces what it wrote itself, and nothing of anybody else, whatever --overwrite says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from amzrec.cli.app import app
from amzrec.commands.describe import describe
from amzrec.commands.prepare import prepare
from amzrec.commands.recommend_all import recommend_all
from amzrec.errors import AmzrecError
from amzrec.store.dataset import open_dataset
from amzrec.store.ownership import DATASET_FOLDER, RUN_FOLDER, check_folder, is_comparison
from runs import parity_vectors, write_run

REVIEWS = "user,item,rating\n" + "".join(f"u{i % 7},p{i % 5},{i % 5 + 1}\n" for i in range(60))


@pytest.fixture
def desk(checkerboard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with reviews among other things, a folder of somebody else, a link to it; a run. We stand in home/work."""
    home = tmp_path / "home"
    for folder in ("work", "data", "thesis"):
        (home / folder).mkdir(parents=True)
    (home / "data" / "reviews.csv").write_text(REVIEWS)
    (home / "data" / "notes.txt").write_text("do not lose")
    (home / "thesis" / "thesis.tex").write_text("years of work")
    (home / "letter.png").write_text("a letter")
    (home / "table.parquet").write_text("a table")
    for folder in ("", "work", "data", "thesis", "thesis/joint"):  # what `compare` would write there
        (home / folder / "joint").mkdir()
        (home / folder / "joint" / "chapter.tex").write_text("a chapter")
    (home / "list.csv").write_text("a,b\n1,2\n")
    (home / "lines.jsonl").write_text('{"a": 1}\n')
    (home / "link").symlink_to(home / "thesis")
    (home / "link.csv").symlink_to(home / "data" / "reviews.csv")
    (home / "link.png").symlink_to(home / "letter.png")
    (home / "nowhere.csv").symlink_to(home / "nothing")
    board = open_dataset(checkerboard)
    write_run(home / "run", board, parity_vectors(board))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home / "work")
    return home


def all_files(folder: Path) -> dict[str, bytes | str]:
    """The content of every file, and where every link leads to."""
    found: dict[str, bytes | str] = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)
        elif path.is_file():
            found[str(path)] = path.read_bytes()
    return found


SOURCE = "{home}/data/reviews.csv"
OUTPUTS = {  # every parameter of a command that says where to write → the command up to it
    ("prepare", "--out"): ["prepare", SOURCE, "--overwrite", "--out"],
    ("train", "--run"): ["train", SOURCE, "--overwrite", "--run"],
    ("tune", "--out"): ["tune", SOURCE, "--out"],
    ("compare", "--root"): ["compare", SOURCE, "--overwrite", "--root"],
    ("update", "--run"): ["update", "{home}/run", SOURCE, "--overwrite", "--run"],
    ("export", "--out"): ["export", "{home}/run", "--overwrite", "--out"],
    ("recommend", "--out"): ["recommend", "--all", "--run", "{home}/run", "--overwrite", "--out"],
    ("backtest", "--out"): ["backtest", SOURCE, "--out"],
    ("describe", "--out"): ["describe", SOURCE, "--out"],
    ("report", "--out"): ["report", "{home}/run", "--overwrite", "--out"],
    ("card", "--out"): ["card", "{home}/run", "--overwrite", "--out"],
    ("evaluate", "run"): ["evaluate"],  # writes its figures into the run
}
INPUTS = {  # those that are only read
    *((command, "--recipe") for command in ("prepare", "describe", "plan", "train", "compare", "backtest")),
    *((command, "--run") for command in ("recommend", "rate", "similar")),
    ("evaluate", "--dataset"),
    ("doctor", "folder"),
    ("train", "--from"),
    ("export", "run"),
    ("report", "run"),
    ("card", "run"),
    ("update", "parent"),
    ("serve", "run"),
}
FOLDERS = ["{home}/data", "{home}", ".", "..", "{home}/work", "{home}/link", "{home}/link/joint", "{home}/thesis"]
FILES = [SOURCE, "{home}/letter.png", "{home}/table.parquet", "{home}/list.csv", "{home}/lines.jsonl"]
LINKS = ["{home}/link.csv", "{home}/link.png", "{home}/nowhere.csv"]  # to the source, to a picture, to nothing
INSIDE = ["{home}/data/reviews.csv/new", "{home}/letter.png/new.png"]  # where a folder would have to be


def test_every_parameter_that_is_a_path_is_known_as_an_output_or_an_input() -> None:
    """A new flag that writes has to be added to OUTPUTS, so that the matrix below tries it."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    found = {
        (name, parameter.opts[0])
        for name, command in commands.items()
        for parameter in command.params
        if "path" in parameter.type.name or parameter.metavar in ("FILE", "FOLDER")
    }
    assert found == OUTPUTS.keys() | INPUTS


@pytest.mark.parametrize("target", [*FOLDERS, *FILES, *LINKS, *INSIDE])
@pytest.mark.parametrize("output", OUTPUTS, ids=" ".join)
def test_nothing_of_the_user_is_replaced_by_any_output(
    desk: Path, monkeypatch: pytest.MonkeyPatch, output: tuple[str, str], target: str
) -> None:
    def begun(*_: object, **__: object) -> None:
        raise AssertionError("work begins before the place is checked")

    for work in (
        "reviews.preparation.Preparation.run",
        "training.session.Session.__init__",
        "exports.check.check_export",
    ):
        monkeypatch.setattr(f"amzrec.{work}", begun)
    before = all_files(desk)
    words = [word.format(home=desk) for word in [*OUTPUTS[output], target]]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1, done.output
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.stderr.count("amzrec: error: ") == 1
    assert "add --overwrite" not in done.stderr
    assert all_files(desk) == before


@pytest.mark.parametrize(
    ("words", "place"), [(["export", "{home}/run"], "export"), (["compare", SOURCE], "runs/joint")]
)
def test_a_foreign_folder_of_the_name_that_an_output_has_by_default_is_not_replaced(
    desk: Path, words: list[str], place: str
) -> None:
    folder = desk / "work" / place
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    before = all_files(desk)
    done = CliRunner().invoke(app, [*(word.format(home=desk) for word in words), "--overwrite"])
    assert done.exit_code == 1
    assert f"{place} is no " in done.stderr
    assert all_files(desk) == before


def test_a_dataset_folder_is_not_replaced_by_what_is_trained_on_it(desk: Path) -> None:
    source = str(prepare(desk / "data" / "reviews.csv", desk / "mine").path)
    before = all_files(desk)
    for words in (
        ["train", source, "--overwrite", "--run", source],
        ["describe", source, "--out", f"{source}/test.parquet"],
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 1
        assert all_files(desk) == before


def test_compare_replaces_no_picture_and_no_figures_of_somebody_else(desk: Path) -> None:
    for name, text in {"comparison.png": "a picture", "comparison.json": "{}"}.items():
        folder = desk / name.partition(".")[2]
        folder.mkdir()
        (folder / name).write_text(text)
        before = all_files(desk)
        source = str(desk / "data" / "reviews.csv")
        done = CliRunner().invoke(app, ["compare", source, "--root", str(folder), "--overwrite"])
        assert done.exit_code == 1, done.output
        assert "amzrec did not write it" in done.stderr
        assert all_files(desk) == before


def test_a_dataset_folder_is_replaced_only_when_that_is_asked_for(desk: Path) -> None:
    out = desk / "work" / "mine"
    out.mkdir()  # empty: nothing is lost
    prepare(desk / "data" / "reviews.csv", out)
    with pytest.raises(AmzrecError, match=r"exists already.*--overwrite"):
        prepare(desk / "data" / "reviews.csv", out)
    prepare(desk / "data" / "reviews.csv", out, overwrite=True)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(AmzrecError, match=r"holds notes.txt, which amzrec did not write"):
        prepare(desk / "data" / "reviews.csv", out, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_dataset_folder_is_not_replaced_by_what_is_read_from_it_or_while_we_stand_in_it(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = prepare(desk / "data" / "reviews.csv", desk / "mine").path
    with pytest.raises(AmzrecError, match="holds the source"):
        check_folder(out, DATASET_FOLDER, True, [out / "train.parquet"])
    with pytest.raises(AmzrecError, match="holds the source"):
        check_folder(out, DATASET_FOLDER, True, [f"{out}/*.parquet"])
    monkeypatch.chdir(out)
    with pytest.raises(AmzrecError, match="working directory"):
        check_folder(out, DATASET_FOLDER, True)


def test_a_marker_of_somebody_else_is_no_marker(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"title": "my data set"}))
    (tmp_path / "train.parquet").write_text("my reviews")
    with pytest.raises(AmzrecError, match="is no dataset folder"):
        check_folder(tmp_path, DATASET_FOLDER, True)
    (tmp_path / "run.json").write_text("[1]")
    with pytest.raises(AmzrecError, match="is no run folder"):
        check_folder(tmp_path, RUN_FOLDER, True)


def test_own_pictures_and_recommendations_are_replaced(desk: Path) -> None:
    for _ in range(2):
        describe(desk / "data" / "reviews.csv", out=desk / "picture.png")
    with pytest.raises(AmzrecError, match=r"let it end in .png"):
        describe(desk / "data" / "reviews.csv", out=desk / "data" / "reviews.csv")
    for suffix in ("csv", "parquet", "jsonl"):
        out = desk / f"recs.{suffix}"
        recommend_all(desk / "run", out)
        with pytest.raises(AmzrecError, match=r"exists already.*--overwrite"):
            recommend_all(desk / "run", out)
        recommend_all(desk / "run", out, overwrite=True)
        assert out.stat().st_size


def test_a_comparison_is_known_by_its_keys(tmp_path: Path) -> None:
    file = tmp_path / "comparison.json"
    file.write_text(json.dumps({"models": {}, "baselines": {}, "differences": {}, "runs": {}}))
    assert is_comparison(file)
    for other in ("[]", "{", '{"models": 1}'):
        file.write_text(other)
        assert not is_comparison(file)
