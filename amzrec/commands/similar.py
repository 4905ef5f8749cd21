"""`amzrec similar`: the products most like one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amzrec.answers.listing import Document
from amzrec.answers.lists import alike
from amzrec.commands.load import Model, recommender_of
from amzrec.store.run import Run


def similar(product: Any, run: Model | Run | Path | str | None = None, *, k: int = 10) -> Document:
    """Find the k products nearest to one (id or exact title): by inner product of the vectors, without popularity."""
    return alike(recommender_of(run), product, k)
