"""Several sources on one command line, and standard input for any of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from amzrec.cli.app import app
from amzrec.config import PrepareConfig
from amzrec.reviews.cache import cached
from amzrec.store.dataset import open_dataset
from voices import Voice


def lines(customers: range, header: str = "user,item,rating") -> str:
    """Reviews of these customers: five products each, customer c gives product p the stars 1 + (c + p) % 5."""
    return "\n".join([header, *(f"u{c},p{p},{1 + (c + p) % 5}" for c in customers for p in range(5))]) + "\n"


TITLES = "item,title\n" + "".join(f"p{p},Rope {p}\n" for p in range(5))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which we stand: reviews of ten customers in a.csv, of twenty more in b-1.csv and b-2.csv, titles."""
    for name, customers in {"a": range(10), "b-1": range(10, 20), "b-2": range(20, 30)}.items():
        (tmp_path / f"{name}.csv").write_text(lines(customers))
    (tmp_path / "titles.csv").write_text(TITLES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMZREC_CACHE", str(tmp_path / "cache"))
    return tmp_path


def typed(*words: str, stdin: str | None = None) -> tuple[int, str]:
    """The exit code and all that was said."""
    done = CliRunner().invoke(app, list(words), input=stdin)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("names", "customers"),
    [
        (["a.csv", "b-1.csv"], 20),
        (["a.csv", "b-*.csv"], 30),  # a glob that no shell expanded
        (["a.csv", "./a.csv", "b-1.csv"], 20),  # one file by two names
    ],
)
def test_several_files_are_one_table(desk: Path, names: list[str], customers: int) -> None:
    code, said = typed("prepare", *names, "--out", "d")
    assert code == 0, said
    info = open_dataset(desk / "d").info
    assert (info.counts.customers, info.counts.kept, info.counts.duplicates) == (customers, 5 * customers, 0)
    assert info.source == ", ".join(names)
    assert ("is named twice, and read once" in said) == ("./a.csv" in names)
    code, said = typed("describe", *names)
    assert code == 0, said
    assert f"read {5 * customers:>12}" in said


@pytest.mark.parametrize("command", ["train", "compare"])
def test_train_and_compare_refuse_what_prepare_refuses_of_several(desk: Path, command: str) -> None:
    (desk / "c.csv").write_text(lines(range(3), "person,thing,rating"))
    code, said = typed(command, "a.csv", "c.csv")
    assert code == 1
    assert "c.csv is not of the kind of a.csv" in said
    assert "person, thing, rating" in said


def test_several_sources_that_differ_say_which_one_and_how(desk: Path) -> None:
    (desk / "stars.csv").write_text(lines(range(3), "user,item,stars"))
    (desk / "r.jsonl").write_text('{"user": "u1", "item": "p1", "rating": 4}\n')
    (desk / "other.csv").write_text(lines(range(3), "reviewer,asin,rating"))
    for name, words in {
        "stars.csv": "stars.csv is not of the kind of a.csv (no column 'rating')",
        "r.jsonl": "r.jsonl is not of the kind of a.csv (JSON lines, not delimited text)",
        "other.csv": "in a.csv they are 'user' and 'item'; in other.csv they are 'reviewer' and 'asin'",
        "nothing.csv": "there is no file or folder nothing.csv",
        "tfds:movielens/100k": "tfds:movielens/100k is a dataset of TensorFlow, which is a source of its own",
        "sqlite:///shop.db": "sqlite:///shop.db is a database, which is a source of its own",
    }.items():
        code, said = typed("prepare", "a.csv", name, "--out", "d")
        assert (code, said.count("amzrec: error: ")) == (1, 1), said
        assert words in said
    typed("prepare", "a.csv", "--out", "d")
    code, said = typed("describe", "d", "a.csv")
    assert "d is a prepared dataset, which is a source of its own: name it alone" in said


def test_the_password_of_one_of_several_addresses_is_not_shown(desk: Path) -> None:
    code, said = typed("prepare", "a.csv", "https://me:secret@127.0.0.1:9/r.csv", "--out", "d")
    assert code == 1
    assert "secret" not in said


def test_standard_input_is_a_source_in_every_command_that_takes_one(desk: Path) -> None:
    text = lines(range(10))
    code, said = typed("prepare", "-", "--out", "d", stdin=text)
    assert code == 0, said
    assert "standard input: read as table" in said
    assert open_dataset(desk / "d").info.counts.kept == 50
    code, said = typed("describe", "-", stdin=text)
    assert f"read {50:>12}" in said
    code, said = typed("prepare", "-", "b-1.csv", "--out", "both", stdin=text)
    assert open_dataset(desk / "both").info.counts.customers == 20
    for verb in ("train", "compare"):
        code, said = typed(verb, "-", stdin="no table\n")
        assert (code, said.count("amzrec: error: standard input is no table")) == (1, 1), said
    for command in (["prepare", "-", "--out", "e"], ["describe", "-"], ["train", "-"], ["compare", "-"]):
        assert "standard input is empty" in typed(*command, stdin="")[1]


def test_titles_and_test_reviews_come_from_standard_input(desk: Path) -> None:
    code, said = typed("prepare", "a.csv", "--titles", "-", "--out", "d", stdin=TITLES)
    assert code == 0, said
    assert "standard input has titles of 5 of the 5 products" in said
    assert sorted(open_dataset(desk / "d").products["title"].to_pylist()[1:]) == [f"Rope {p}" for p in range(5)]
    given = ("--split", "given", "--test-source", "-")
    code, said = typed("prepare", "a.csv", *given, "--out", "given", stdin=lines(range(10, 14)))
    assert code == 0, said
    assert open_dataset(desk / "given").info.counts.test == 20


@pytest.mark.parametrize(
    "words",
    [["-", "-"], ["-", "--titles", "-"], ["a.csv", "--titles", "-", "--split", "given", "--test-source", "-"]],
)
@pytest.mark.parametrize("command", [["prepare", "--out", "d"], ["describe"], ["train"], ["compare"]])
def test_only_one_source_may_be_standard_input(desk: Path, command: list[str], words: list[str]) -> None:
    code, said = typed(*command, *words, stdin=lines(range(3)))
    assert code == 1
    assert "- is standard input, which can be read once" in said


def test_other_standard_input_is_another_dataset_in_the_cache(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    kept = []
    for customers in (range(10), range(20), range(10)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines(customers).encode())))
        kept.append(cached("-", PrepareConfig(), Voice()).path)
    assert kept[0] != kept[1]
    assert kept[0] == kept[2]
