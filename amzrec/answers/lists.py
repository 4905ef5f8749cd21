"""The questions that every door asks, answered as documents: the best products, the stars of some, what is alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from amzrec.answers.listing import Document, listed, named, stars_of
from amzrec.answers.recommender import Query, Recommender
from amzrec.answers.rules import Rules
from amzrec.arrays import Array, Floats, Rows
from amzrec.errors import AmzrecError


@dataclasses.dataclass(frozen=True)
class Likes:
    """What a customer did beyond what the run knows, as product rows [n], each once, the latest last."""

    rows: Rows
    stars: Floats | None = None  # [n] NaN where none were given
    weights: Floats | None = None  # [n] what each counts beside a review
    called: str = "liked"  # what `answered_from` says for a customer that the run does not know


NO_ROWS: Rows = np.zeros(0, np.int32)
NOTHING = Likes(NO_ROWS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which list of products is wanted: the flags of `amzrec recommend`."""

    k: int = 10
    exclude: Sequence[str] = ()
    allow: Sequence[str] | None = None  # the only products that may be listed; None: all
    only: Sequence[str] = ()
    never: Sequence[str] = ()
    include_seen: bool = False
    sort: str = "retrieval"
    diversify: float = 0.0
    at_most: Sequence[str] = ()
    at: float | None = None  # unix seconds; None: as of the last reviews


def asked(model: Recommender, customer: int, likes: Likes = NOTHING) -> Query:
    """Return the query of a customer row, after what it likes."""
    if not len(likes.rows):
        return model.query(customer)
    return model.fold_in(customer, likes.rows, likes.stars, likes.weights)


def answered_from(model: Recommender, customer: int, likes: Likes = NOTHING) -> str:
    """Say what an answer is computed from: "model", what the customer likes, or "popularity"."""
    return "model" if model.knows(customer) else likes.called if len(likes.rows) else "popularity"


def best_products(
    model: Recommender, customer_id: str, wanted: Wanted, likes: Likes = NOTHING, hidden: Rows = NO_ROWS
) -> Document:
    """Find the best products for one customer, as the document of `recommend --json`.

    `hidden` are product rows that are not answered, such as those of `likes`. Raises AmzrecError as `recommend` does.
    """
    need_positive(wanted.k)
    model, unknown_allowed = model.only(wanted.only, wanted.never), list[str]()
    if wanted.allow is not None:
        allowed, unknown_allowed = known_products(model, wanted.allow)
        model = model.among(allowed)
    if wanted.at is not None:
        model = model.at(wanted.at)
    rules = Rules.of(model, wanted.sort, wanted.diversify, wanted.at_most)
    customer = model.customer(customer_id)
    left_out, unknown = known_products(model, wanted.exclude)
    leave = [hidden, left_out]
    if not wanted.include_seen:
        leave.append(model.seen(customer)[0])
    query = asked(model, customer, likes)
    if wanted.at is not None:
        query = model.dated(query, customer, wanted.at)
    depth = rules.depth(wanted.k, len(model.candidates))
    rows, scores = model.retrieve(query.retrieval[None, :], depth, [np.concatenate(leave)], [query.history])
    rows, scores = rows[0][rows[0] > 0], scores[0][rows[0] > 0]
    stars = stars_of(model, query, rows)
    order = rules.choose(model, rows, scores, stars, wanted.k)
    return {
        "customer_id": customer_id,
        "answered_from": answered_from(model, customer, likes),
        "recommendations": listed(model, rows[order], scores[order], None if stars is None else stars[order]),
        **({"unknown_excluded": unknown} if unknown else {}),
        **({"unknown_allowed": unknown_allowed} if unknown_allowed else {}),
    }


def rated(
    model: Recommender, customer_id: str, products: Sequence[str], likes: Likes = NOTHING, at: float | None = None
) -> Document:
    """Predict the stars of these products for one customer, the best first; `at` is in unix seconds.

    Raises AmzrecError where the run has no stars, or, for `at`, no dates.
    """
    if not model.has_stars:
        raise AmzrecError("this run was trained on clicks alone and knows no stars: train on a source with stars")
    customer = model.customer(customer_id)
    rows = np.array(list(dict.fromkeys(model.product(name) for name in products)), np.int32)
    query = asked(model, customer, likes)
    if at is not None:
        query = model.at(at).dated(query, customer, at)
    stars = stars_of(model, query, rows)
    assert stars is not None
    order = np.argsort(-stars, kind="stable")
    ratings = listed(model, rows[order], None, stars[order])
    return {
        "customer_id": customer_id,
        "answered_from": answered_from(model, customer, likes),
        "ratings": ratings,
    }


def alike(model: Recommender, product: str, k: int) -> Document:
    """Find the k products nearest to one, as the document of `similar --json`."""
    need_positive(k)
    row = model.product(product)
    rows, scores = model.similar(row, min(k, len(model.candidates)))
    return named(model, row) | {"similar": listed(model, rows, scores, None)}


def known_products(model: Recommender, names: Sequence[str]) -> tuple[Array, list[str]]:
    """Return the rows of those products that the run has, and the names of the others."""
    found = {name: model.find_product(name) for name in names}
    return np.array([row for row in found.values() if row], np.int32), [name for name in names if not found[name]]


def need_positive(k: int) -> None:
    """Raise AmzrecError for a list of no products."""
    if k < 1:
        raise AmzrecError(f"-k is {k}; allowed: a whole number from 1, such as 10")
