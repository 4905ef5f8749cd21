"""Strings in flat arrays: found by row and by value; features listed once each."""

from __future__ import annotations

import numpy as np
import pytest

from amzrec.store.strings import Strings, feature_lists


@pytest.mark.parametrize(
    "values",
    [[], [""], ["", "b", "a"], ["", "007", "7", "NA", "null", "é", "日本", "a\tb", "a b"], ["x" * 10_000, ""]],
)
def test_every_string_is_found_in_its_row_and_no_other_is_found(values: list[str]) -> None:
    strings = Strings.of(values)
    assert [strings[row] for row in range(len(values))] == values
    assert [strings.find(value) for value in values] == list(range(len(values)))
    assert strings.find("not there") is None


def test_of_equal_strings_the_first_row_is_found() -> None:
    assert Strings.of(["", "b", "a", "b"]).find("b") == 1


def test_a_string_that_is_not_there_has_a_place_in_order() -> None:
    strings = Strings.of(["", "b", "d"])
    assert [strings.place(value) for value in ("", "a", "b", "c", "e")] == [0, 1, 1, 2, 3]


def test_features_are_numbered_as_they_come_and_listed_for_each_row() -> None:
    listed = feature_lists([[], ["a=1", "b=2"], [], ["b=2"]])
    assert listed is not None
    features, lists = listed
    assert [features[row] for row in range(len(features))] == ["a=1", "b=2"]
    assert [lists[row].tolist() for row in range(4)] == [[], [0, 1], [], [1]]
    assert lists.items.dtype == np.int32


def test_without_any_feature_there_is_no_list() -> None:
    assert feature_lists([[], []]) is None
