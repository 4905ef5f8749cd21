"""`amzrec recommend`: the best products for one customer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.answers.given import text_of, texts_of
from amzrec.answers.listing import Document
from amzrec.answers.lists import Likes, Wanted, best_products
from amzrec.commands.load import Model, recommender_of
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
    model = recommender_of(run)
    wanted = Wanted(
        k=k,
        exclude=texts_of(exclude, "exclude"),
        only=texts_of(only, "only"),
        never=texts_of(never, "never"),
        include_seen=include_seen,
        sort=sort,
        diversify=diversify,
        at_most=texts_of(at_most, "at_most"),
    )
    likes = np.array(list(dict.fromkeys(model.product(name) for name in texts_of(liked, "liked"))), np.int32)
    return best_products(model, text_of(customer_id), wanted, Likes(likes), likes)
