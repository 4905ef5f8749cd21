"""Files and flags that no reader can take in: digits that are no numbers, quotes without end, JSON without a bottom."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from amzrec.errors import AmzrecError
from amzrec.reviews.sources.catalogue import read_titles
from amzrec.reviews.sources.columns import pairs_of
from amzrec.reviews.sources.movielens import movies, users
from amzrec.reviews.sources.web import size_of
from amzrec.store.dataset import DatasetInfo
from amzrec.store.locks import may_live, owner
from amzrec.store.numbered import numbers
from amzrec.store.ownership import DATASET_FOLDER, is_comparison, is_recommendations
from amzrec.store.recipe import read_recipe
from test_cases_files import lines, told, written

UNCLOSED = "movieId,title,genres\n" + '1,"' + 140_000 * "x"  # longer than the field limit of csv
DEEP = 100_000 * "[" + 100_000 * "]"


def test_an_occupation_code_is_one_of_the_readme_or_stays_as_it_is(tmp_path: Path) -> None:
    codes = "10", "010", "0", "²", "21", 5000 * "9"  # int() takes neither ² nor more than 4,300 digits
    rows = [f"{number}::F::1::{code}::48067\n" for number, code in enumerate(codes)]
    (tmp_path / "users.dat").write_text("".join(rows), "latin-1")
    found = [features[-1] for _, features in users(tmp_path).values()]
    student = "occupation=K-12 student"
    assert found == [student, student, "occupation=other", "occupation=²", "occupation=21", f"occupation={codes[5]}"]


def test_products_with_a_quote_that_is_never_closed_are_an_error_of_one_line(tmp_path: Path) -> None:
    file = written(tmp_path, "movies.csv", UNCLOSED)
    words = r"movies.csv cannot be read as CSV: field larger .* not closed$"
    with pytest.raises(AmzrecError, match=words):
        movies(tmp_path)
    with pytest.raises(AmzrecError, match=words):
        read_titles(file)


def test_titles_whose_lists_are_nested_too_deep_are_passed_over_and_others_are_read(tmp_path: Path) -> None:
    rows = [
        '{"asin": "p0", "title": "Rope"}',
        f'{{"asin": "p1", "title": "Deep", "categories": {DEEP}}}',
        f'{{"asin": "p2", "title": "Leaf", "categories": {400 * "["}"Ropes"{400 * "]"}}}',
        "{'asin': {[]: 1}}",  # no JSON, and as Python a list that is a key
    ]
    found = read_titles(written(tmp_path, "titles.jsonl", "\n".join(rows) + "\n"))
    assert found == {"p0": ("Rope", []), "p2": ("Leaf", ["category=Ropes"])}


def test_a_column_is_numbered_with_digits_that_are_numbers(tmp_path: Path) -> None:
    reviews = written(tmp_path, "r.csv", lines())
    for number in ("²", 5000 * "1"):
        with pytest.raises(AmzrecError, match=r"which .* does not have"):
            told(reviews, tmp_path, columns=f"customer={number},product=1")


def test_pairs_of_columns_stand_in_one_line() -> None:
    with pytest.raises(AmzrecError, match="--columns cannot be parted at its commas"):
        pairs_of("customer=a\n,product=b")


def test_documents_that_are_nested_too_deep_are_damaged(tmp_path: Path) -> None:
    file = written(tmp_path, "dataset.json", DEEP)
    with pytest.raises(AmzrecError, match=r"dataset.json is damaged \(it is nested too deep\): prepare it again"):
        DatasetInfo.read(file, "prepare it again")
    with pytest.raises(AmzrecError, match="is not a JSON file"):
        read_recipe(file)
    assert DATASET_FOLDER.marks(tmp_path)  # as a damaged marker does
    assert not is_comparison(file)


@pytest.mark.parametrize(("name", "text"), [("a.csv", UNCLOSED[21:]), ("a.jsonl", DEEP), ("a.jsonl", "5")])
def test_what_cannot_be_read_is_no_file_of_recommendations(tmp_path: Path, name: str, text: str) -> None:
    assert not is_recommendations(written(tmp_path, name, text))


def test_a_file_beside_the_numbers_of_a_run_is_none_of_them(tmp_path: Path) -> None:
    for name in ("2", "10", "²"):
        (tmp_path / name).mkdir()
    assert numbers(tmp_path) == [2, 10]


def test_a_name_with_a_line_break_leaves_an_error_one_line(tmp_path: Path) -> None:
    reviews = written(tmp_path, "reviews.jsonl", 2 * '{"a\\nb": 1, "c\\r": 2}\n')
    with pytest.raises(AmzrecError) as of_titles:
        read_titles(reviews)
    assert str(of_titles.value).endswith(r"Its columns: a\nb, c\r")
    with pytest.raises(AmzrecError) as of_reviews:
        told(reviews, tmp_path)
    assert r"the columns a\nb, c\r. Say which" in str(of_reviews.value)


@pytest.mark.parametrize("number", ["²", 5000 * "9", 20 * "9"])
def test_a_number_that_is_none_is_no_process_and_no_size(tmp_path: Path, number: str) -> None:
    named = " ".join([*owner().strip().split(" ")[:-1], number])
    assert may_live(named, written(tmp_path, "lock", named))  # nobody knows whose it is, and it is new
    assert size_of(SimpleNamespace(headers={"Content-Length": number})) is None
