"""`amzrec rate`: the stars that a customer would give to products."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amzrec.answers.given import text_of, texts_of
from amzrec.answers.listing import Document
from amzrec.answers.lists import rated
from amzrec.commands.load import Model, recommender_of
from amzrec.errors import AmzrecError
from amzrec.store.run import Run


def rate(customer_id: Any, products: Any, run: Model | Run | Path | str | None = None) -> Document:
    """Predict the stars of these products (ids or exact titles) for one customer, the best first."""
    model = recommender_of(run)
    names = texts_of(products, "products")
    if not names:
        raise AmzrecError("no product to rate: amzrec rate CUSTOMER_ID PRODUCT …")
    return rated(model, text_of(customer_id), names)
