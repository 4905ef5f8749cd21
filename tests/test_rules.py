"""How a list is made of what was retrieved: varied, and with few of one kind, on five products worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from amzrec.answers.rules import Rules
from amzrec.arrays import Lists
from amzrec.errors import AmzrecError

ROWS, SCORES = np.array([1, 2, 3, 4, 5], np.int32), np.array([10, 9, 8, 7, 0], np.float32)
STARS = np.array([1, 5, 2, 4, 3], np.float32)


@pytest.fixture
def model() -> Any:
    """Products 1, 2 and 3 point the same way, 4 at a right angle, 5 the opposite way; 1, 2, 4 are red, 3 is blue."""
    vectors = np.array([[0, 0, 0], [1, 0, 9], [2, 0, 9], [3, 0, 9], [0, 5, 9], [-1, 0, 9]], np.float32)
    features = Lists.join([np.array(f, np.int32) for f in ([], [0, 2], [0], [1], [0], [])])
    return SimpleNamespace(
        vectors=SimpleNamespace(retrieval_candidate=vectors, features_of_products=features),
        feature_names=["colour", "colour", "size"],
        has_stars=True,
    )


def chosen(
    model: Any, k: int = 5, sort: str = "retrieval", diversify: float = 0.0, at_most: tuple[str, ...] = ()
) -> Any:
    """The products of the list."""
    rules = Rules.of(model, sort, diversify, at_most)
    return ROWS[rules.choose(model, ROWS, SCORES, STARS, k)].tolist()


def test_without_rules_the_list_is_the_order(model: Any) -> None:
    assert chosen(model, 3) == [1, 2, 3]
    assert chosen(model, 2, "stars") == [2, 4]


def test_the_next_product_is_worth_its_relevance_less_its_likeness(model: Any) -> None:
    # after 1: 2 is worth .5 · .9 − .5 · 1, 4 is worth .5 · .7 − 0, 5 is worth 0 + .5 · 1
    assert chosen(model, 5, diversify=0.5) == [1, 5, 4, 2, 3]
    assert chosen(model, 5, diversify=0.2) == [1, 4, 2, 3, 5]  # .56, then .52 before .44 and .2
    assert chosen(model, 2, diversify=1.0) == [1, 5], "the first has nothing before it"


def test_what_is_liked_less_comes_first_by_stars(model: Any) -> None:
    assert chosen(model, 2, "stars", diversify=0.01) == [2, 4]


def test_a_list_holds_at_most_so_many_of_a_kind(model: Any) -> None:
    assert chosen(model, 5, at_most=("colour=1",)) == [1, 3, 5], "5 has no colour"
    assert chosen(model, 5, at_most=("colour=2",)) == [1, 2, 3, 5]
    assert chosen(model, 5, at_most=("colour=3", "colour=2")) == [1, 2, 3, 5], "the smaller limit counts"
    assert chosen(model, 5, at_most=("colour=2", "size=1")) == [1, 2, 3, 5]
    assert chosen(model, 2, "stars", at_most=("colour=1",)) == [2, 5]


def test_a_list_with_rules_is_chosen_from_more_than_it_holds(model: Any) -> None:
    assert Rules.of(model, "retrieval", 0, ()).depth(7, 1000) == 7
    assert Rules.of(model, "stars", 0, ()).depth(7, 1000) == 100
    assert Rules.of(model, "retrieval", 0.5, ()).depth(30, 1000) == 300
    assert Rules.of(model, "retrieval", 0, ("colour=1",)).depth(30, 200) == 200


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"diversify": 1.5}, "diversify.*1.5.*from 0 to 1"),
        ({"at_most": ("colour",)}, "--at-most colour; allowed: NAME=NUMBER"),
        ({"at_most": ("colour=0",)}, "colour=0; allowed"),
        ({"at_most": ("shape=2",)}, "no product of this run has a 'shape'; features of this run: colour, size"),
        ({"sort": "best"}, "retrieval | stars | blend"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(model: Any, flags: dict[str, Any], says: str) -> None:
    with pytest.raises(AmzrecError, match=says):
        chosen(model, **flags)
