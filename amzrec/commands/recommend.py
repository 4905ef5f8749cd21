"""`amzrec recommend`: the best products for one customer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.answers.given import text_of, texts_of
from amzrec.answers.listing import Document, listed, stars_of
from amzrec.answers.recommender import Recommender
from amzrec.answers.rules import Rules
from amzrec.arrays import Array
from amzrec.commands.load import Model, recommender_of
from amzrec.errors import AmzrecError
from amzrec.store.run import Run


def recommend(
    customer_id: Any,
    run: Model | Run | Path | str | None = None,
    *,
    k: int = 10,
    liked: Any = (),
    exclude: Any = (),
    only: Sequence[str] = (),
    never: Sequence[str] = (),
    include_seen: bool = False,
    sort: str = "retrieval",
    diversify: float = 0.0,
    at_most: Sequence[str] = (),
) -> Document:
    """Find the k best products for one customer, as the document of `recommend --json`; keywords are its flags.

    `only` are features, such as "category=Toys": of each name, the products with one of its values are answered;
    products with a feature of `never` are not. `at_most` "category=2" answers two products of each category at most.
    What the customer reviewed and what is `liked` or in `exclude` is left out (`include_seen` lets the reviewed in).
    `liked` adds to the known history, or stands for one: `answered_from` is "model" for a customer that the model was
    fitted on, else "liked", else "popularity". `sort` "stars" or "blend" (stars and score, each standardised) re-ranks
    the 100 best retrieved; `diversify`, from 0 to 1, prefers products unlike those before them in the list. Fewer than
    k come where fewer are left. Ids are text or whole numbers, of Python or numpy; `liked` and `exclude` are one, or a
    list, an array or a column of them. What is in `exclude` and not in the run comes back in `unknown_excluded`. Raises
    AmzrecError for k < 1, an unknown sort, feature or liked product, and a rule that the run cannot follow.
    """
    need_positive(k)
    model = recommender_of(run).only(texts_of(only, "only"), texts_of(never, "never"))
    rules = Rules.of(model, sort, diversify, texts_of(at_most, "at_most"))
    customer = model.customer(customer_id)
    likes = np.array(list(dict.fromkeys(model.product(name) for name in texts_of(liked, "liked"))), np.int32)
    left_out, unknown = known_products(model, texts_of(exclude, "exclude"))
    hidden = [likes, left_out]
    if not include_seen:
        hidden.append(model.seen(customer)[0])
    query = model.fold_in(customer, likes) if len(likes) else model.query(customer)
    depth = rules.depth(k, len(model.candidates))
    rows, scores = model.retrieve(query.retrieval[None, :], depth, [np.concatenate(hidden)], [query.history])
    rows, scores = rows[0][rows[0] > 0], scores[0][rows[0] > 0]
    stars = stars_of(model, query, rows)
    order = rules.choose(model, rows, scores, stars, k)
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


def need_positive(k: int) -> None:
    """Raise AmzrecError for a list of no products."""
    if k < 1:
        raise AmzrecError(f"-k is {k}; allowed: a whole number from 1, such as 10")
