"""`amzrec similar`: the products most like one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amzrec.answers.listing import Document, listed, named
from amzrec.commands.load import Model, recommender_of
from amzrec.commands.recommend import need_positive
from amzrec.store.run import Run


def similar(product: Any, run: Model | Run | Path | str | None = None, *, k: int = 10) -> Document:
    """Find the k products nearest to one (id or exact title): by inner product of the vectors, without popularity."""
    need_positive(k)
    model = recommender_of(run)
    row = model.product(product)
    rows, scores = model.similar(row, min(k, len(model.candidates)))
    return named(model, row) | {"similar": listed(model, rows, scores, None)}
