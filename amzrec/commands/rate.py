"""`amzrec rate`: the stars that a customer would give to products."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from amzrec.answers.given import text_of, texts_of
from amzrec.answers.listing import Document, listed, stars_of
from amzrec.commands.load import Model, recommender_of
from amzrec.errors import AmzrecError
from amzrec.store.run import Run


def rate(customer_id: Any, products: Any, run: Model | Run | Path | str | None = None) -> Document:
    """Predict the stars of these products (ids or exact titles) for one customer, the best first."""
    model = recommender_of(run)
    names = texts_of(products, "products")
    if not names:
        raise AmzrecError("no product to rate: amzrec rate CUSTOMER_ID PRODUCT …")
    if not model.has_stars:
        raise AmzrecError("this run was trained on clicks alone and knows no stars: train on a source with stars")
    customer = model.customer(customer_id)
    rows = np.array(list(dict.fromkeys(model.product(name) for name in names)), np.int32)
    stars = stars_of(model, model.query(customer), rows)
    assert stars is not None
    order = np.argsort(-stars, kind="stable")
    answered = "model" if model.knows(customer) else "popularity"
    ratings = listed(model, rows[order], None, stars[order])
    return {"customer_id": text_of(customer_id), "answered_from": answered, "ratings": ratings}
