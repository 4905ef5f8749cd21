"""The nearest names, for a suggestion where one is not there."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest

from amzrec.answers import names
from amzrec.answers.names import around, holding, nearest, nearest_products
from amzrec.store.dataset import open_dataset
from amzrec.store.strings import Strings
from amzrec.store.vectors import Vectors
from runs import parity_vectors


@pytest.fixture(scope="module")
def vectors(checkerboard: Path) -> Vectors:
    return parity_vectors(open_dataset(checkerboard))


def test_the_nearest_of_many_names_come_at_once(vectors: Vectors) -> None:
    titles = Strings.of([""] + [f"Trail lamp number {n} for long nights" for n in range(200_000)])
    many = dataclasses.replace(vectors, product_ids=titles, titles=titles)
    start = time.perf_counter()
    near = nearest_products("Trail lmp number 123456 for long nights", many)
    assert time.perf_counter() - start < 3
    assert "Trail lamp number 123456 for long nights" in near


def test_without_titles_ids_are_suggested(vectors: Vectors) -> None:
    untitled = dataclasses.replace(vectors, titles=Strings.of([""] * 21))
    assert nearest_products("p077", untitled)[0] == "p07"


def test_an_id_is_suggested_where_titles_are_unlike(vectors: Vectors) -> None:
    assert "p07" in nearest_products("p07x", vectors)


def test_upper_and_lower_case_are_equal_and_nothing_is_no_name() -> None:
    assert nearest("rope", ["", "ROPE", "Axe"]) == ["ROPE"]
    assert nearest("", ["", "Rope"]) == []


def test_names_that_hold_a_long_word_are_looked_at_and_each_word_has_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "SHORTLIST", 8)  # two names for each of three words
    titles = Strings.of(["", "blue rope", "red rope", "green rope", "a lamp", "of"])
    assert sorted(holding("Rope lamps of lamp", titles)) == [1, 2, 4]


def test_names_around_the_place_in_order_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "AROUND", 1)
    titles = Strings.of(["", "d", "b", "c", "a"])
    assert around("bb", titles) == [2, 3]
    assert around("z", titles) == [1]
    assert np.isin(around("", titles), range(5)).all()
