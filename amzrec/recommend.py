"""`amzrec recommend`, `rate` and `similar`: questions about one customer, or all, answered from a run's vectors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from amzrec.config import require
from amzrec.errors import AmzrecError
from amzrec.recommender import Query, Recommender
from amzrec.run import Run, open_run

if TYPE_CHECKING:
    import pandas

SORTS = ("retrieval", "stars", "blend")
DEPTH = 100  # best retrieved products that stars and blend re-rank

Rows = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Document = dict[str, Any]


class Model:
    """A trained run that answers questions: the verbs below as methods, with DataFrames."""

    def __init__(self, run: Run | Path | str | None = None) -> None:
        self.run = open_run(run)

    @cached_property
    def recommender(self) -> Recommender:
        """The vectors of the run, opened at the first question."""
        return Recommender(self.run.vectors)

    def recommend(self, customer_id: str, k: int = 10, **options: Any) -> pandas.DataFrame:
        """product_id, title, score, stars, the best first; options as of the verb `recommend`."""
        return self._frame(recommend(customer_id, self, k=k, **options)["recommendations"], ["score", "stars"])

    def rate(self, customer_id: str, products: Sequence[str]) -> pandas.DataFrame:
        """product_id, title, stars, the best first."""
        return self._frame(rate(customer_id, products, self)["ratings"], ["stars"])

    def similar(self, product: str, k: int = 10) -> pandas.DataFrame:
        """product_id, title, score (cosine), the nearest first."""
        return self._frame(similar(product, self, k=k)["similar"], ["score"])

    def fold_in(self, liked: Sequence[str], customer_id: str = "") -> Query:
        """The query vectors of a customer (default: a new one) who likes these products."""
        rows = np.array([self.recommender.product(name) for name in liked], np.int32)
        return self.recommender.fold_in(self.recommender.customer(customer_id), np.unique(rows))

    def _frame(self, rows: list[Document], values: list[str]) -> pandas.DataFrame:
        import pandas

        columns = ["product_id", "title", *(v for v in values if v != "stars" or self.recommender.has_stars)]
        return pandas.DataFrame(rows, columns=columns)


def load(run: Run | Path | str | None = None) -> Model:
    """Open a finished run (default: the latest) for questions from Python."""
    return Model(run)


def recommend(
    customer_id: str,
    run: Model | Run | Path | str | None = None,
    *,
    k: int = 10,
    liked: Sequence[str] = (),
    exclude: Sequence[str] = (),
    include_seen: bool = False,
    sort: str = "retrieval",
) -> Document:
    """The k best products for one customer, as the document of `recommend --json`.

    What the customer reviewed and what is `liked` or in `exclude` is left out (`include_seen` lets the reviewed in).
    `liked` adds to the known history, or stands for one: `answered_from` is "model" for a customer that the model was
    fitted on, else "liked", else "popularity". `sort` "stars" or "blend" (stars and score, each standardised) re-ranks
    the 100 best retrieved. Fewer than k come where fewer are left. AmzrecError for k < 1, an unknown sort or product.
    """
    require(k >= 1, "k", k, "a whole number from 1")
    require(sort in SORTS, "sort", sort, " | ".join(SORTS))
    model = _recommender(run)
    if sort != "retrieval" and not model.has_stars:
        raise AmzrecError(f"--sort {sort} needs stars, and this run was trained on clicks alone: use --sort retrieval")
    customer = model.customer(customer_id)
    likes = np.unique(np.array([model.product(name) for name in liked], np.int32))
    hidden = [likes, np.array([model.product(name) for name in exclude], np.int32)]
    if not include_seen:
        hidden.append(model.seen(customer)[0])
    query = model.fold_in(customer, likes) if len(likes) else model.query(customer)
    depth = min(k if sort == "retrieval" else max(k, DEPTH), len(model.candidates))
    rows, scores = model.retrieve(query.retrieval[None, :], depth, [np.concatenate(hidden)])
    rows, scores = rows[0][rows[0] > 0], scores[0][rows[0] > 0]
    stars = _stars(model, query, rows)
    order = resort(scores, stars, sort)[:k]
    return {
        "customer_id": customer_id,
        "answered_from": "model" if model.knows(customer) else "liked" if len(likes) else "popularity",
        "recommendations": _listed(model, rows[order], scores[order], None if stars is None else stars[order]),
    }


def rate(customer_id: str, products: Sequence[str], run: Model | Run | Path | str | None = None) -> Document:
    """Predicted stars of these products (ids or exact titles) for one customer, the best first."""
    model = _recommender(run)
    if not products:
        raise AmzrecError("no product to rate: amzrec rate CUSTOMER_ID PRODUCT …")
    if not model.has_stars:
        raise AmzrecError("this run was trained on clicks alone and knows no stars: train on a source with stars")
    customer = model.customer(customer_id)
    rows = np.array(list(dict.fromkeys(model.product(name) for name in products)), np.int32)
    stars = _stars(model, model.query(customer), rows)
    assert stars is not None
    order = np.argsort(-stars, kind="stable")
    answered = "model" if model.knows(customer) else "popularity"
    ratings = _listed(model, rows[order], None, stars[order])
    return {"customer_id": customer_id, "answered_from": answered, "ratings": ratings}


def similar(product: str, run: Model | Run | Path | str | None = None, *, k: int = 10) -> Document:
    """The k products nearest to this one (id or exact title): cosine of the retrieval vectors, without popularity."""
    require(k >= 1, "k", k, "a whole number from 1")
    model = _recommender(run)
    row = model.product(product)
    rows, scores = model.similar(row, min(k, len(model.candidates)))
    return _named(model, row) | {"similar": _listed(model, rows, scores, None)}


def resort(scores: Floats, stars: Floats | None, sort: str) -> npt.NDArray[np.intp]:
    """Positions in the wanted order; equal values keep the order of retrieval."""
    if sort == "retrieval" or stars is None:
        return np.arange(len(scores))
    wanted = stars if sort == "stars" else _standard(scores) + _standard(stars)
    return np.argsort(-wanted, kind="stable")


def _standard(values: Floats) -> Floats:
    """Mean 0 and deviation 1, so that scores and stars may be added; all 0 where all are equal."""
    spread = values.std() if len(values) else 0.0
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)


def _recommender(run: Model | Run | Path | str | None) -> Recommender:
    return (run if isinstance(run, Model) else Model(run)).recommender


def _stars(model: Recommender, query: Query, rows: Rows) -> Floats | None:
    """Predicted stars [n] of one query for product rows [n]; None where the run knows no stars."""
    if not model.has_stars:
        return None
    return model.rate(np.broadcast_to(query.rating, (len(rows), len(query.rating))), rows)


def _named(model: Recommender, row: int) -> Document:
    """A product's id, and its title where it has one."""
    title = model.vectors.titles[row]
    return {"product_id": model.vectors.product_ids[row]} | ({"title": title} if title else {})


def _listed(model: Recommender, rows: Rows, scores: Floats | None, stars: Floats | None) -> list[Document]:
    """One entry per product row, ranked from 1; keys without a value are left out."""
    entries = []
    for place, row in enumerate(rows):
        entry: Document = {"rank": place + 1} | _named(model, int(row))
        if scores is not None:
            entry["score"] = round(float(scores[place]), 6)
        if stars is not None:
            entry["stars"] = round(float(stars[place]), 6)
        entries.append(entry)
    return entries
