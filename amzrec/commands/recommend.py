"""`amzrec recommend`: the best products for one customer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.answers.given import text_of, texts_of
from amzrec.answers.listing import SORTS, Document, listed, resort, stars_of
from amzrec.answers.recommender import Recommender
from amzrec.arrays import Array
from amzrec.commands.load import Model, recommender_of
from amzrec.errors import AmzrecError
from amzrec.settings import require
from amzrec.store.run import Run

DEPTH = 100  # best retrieved products that stars and blend re-rank


def recommend(
    customer_id: Any,
    run: Model | Run | Path | str | None = None,
    *,
    k: int = 10,
    liked: Any = (),
    exclude: Any = (),
    only: Sequence[str] = (),
    include_seen: bool = False,
    sort: str = "retrieval",
) -> Document:
    """Find the k best products for one customer, as the document of `recommend --json`; keywords are its flags.

    `only` are features, such as "category=Toys": of each name, the products with one of its values are answered.
    What the customer reviewed and what is `liked` or in `exclude` is left out (`include_seen` lets the reviewed in).
    `liked` adds to the known history, or stands for one: `answered_from` is "model" for a customer that the model was
    fitted on, else "liked", else "popularity". `sort` "stars" or "blend" (stars and score, each standardised) re-ranks
    the 100 best retrieved. Fewer than k come where fewer are left. Ids are text or whole numbers, of Python or numpy;
    `liked` and `exclude` are one, or a list, an array or a column of them. What is in `exclude` and not in the run
    comes back in `unknown_excluded`. Raises AmzrecError for k < 1, an unknown sort or an unknown liked product.
    """
    model = asked_of(run, k, only, sort)
    customer = model.customer(customer_id)
    likes = np.array(list(dict.fromkeys(model.product(name) for name in texts_of(liked, "liked"))), np.int32)
    left_out, unknown = known_products(model, texts_of(exclude, "exclude"))
    hidden = [likes, left_out]
    if not include_seen:
        hidden.append(model.seen(customer)[0])
    query = model.fold_in(customer, likes) if len(likes) else model.query(customer)
    depth = min(k if sort == "retrieval" else max(k, DEPTH), len(model.candidates))
    rows, scores = model.retrieve(query.retrieval[None, :], depth, [np.concatenate(hidden)], [query.history])
    rows, scores = rows[0][rows[0] > 0], scores[0][rows[0] > 0]
    stars = stars_of(model, query, rows)
    order = resort(scores, stars, sort)[:k]
    return {
        "customer_id": text_of(customer_id),
        "answered_from": "model" if model.knows(customer) else "liked" if len(likes) else "popularity",
        "recommendations": listed(model, rows[order], scores[order], None if stars is None else stars[order]),
        **({"unknown_excluded": unknown} if unknown else {}),
    }


def known_products(model: Recommender, names: list[str]) -> tuple[Array, list[str]]:
    """Return the rows of those products that the run has, and the names of the others."""
    rows, unknown = [], []
    for name in names:
        try:
            rows.append(model.product(name))
        except AmzrecError:
            unknown.append(name)
    return np.array(rows, np.int32), unknown


def asked_of(run: Model | Run | Path | str | None, k: int, only: Sequence[str], sort: str) -> Recommender:
    """Open the recommender of a run for products with the features `only`.

    Raises AmzrecError where there are not so many products to list, or the run cannot sort like that.
    """
    need_positive(k)
    require(sort in SORTS, "sort", sort, " | ".join(SORTS))
    recommender = recommender_of(run).only(only)
    if sort != "retrieval" and not recommender.has_stars:
        raise AmzrecError(f"--sort {sort} needs stars, and this run was trained on clicks alone: use --sort retrieval")
    return recommender


def need_positive(k: int) -> None:
    """Raise AmzrecError for a list of no products."""
    if k < 1:
        raise AmzrecError(f"-k is {k}; allowed: a whole number from 1, such as 10")
