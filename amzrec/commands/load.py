"""`amzrec.load`: a run opened for questions from Python."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from amzrec.answers.given import texts_of
from amzrec.answers.recommender import Query, Recommender
from amzrec.store.run import Run, open_run

if TYPE_CHECKING:
    import pandas


def load(run: Run | Path | str | None = None) -> Model:
    """Open a finished run (default: the latest) for questions from Python."""
    return Model(run)


class Model:
    """A trained run that answers questions: the verbs as methods, with DataFrames."""

    def __init__(self, run: Run | Path | str | None = None) -> None:
        self.run = open_run(run)

    @cached_property
    def recommender(self) -> Recommender:
        """The vectors of the run at work, opened at the first question."""
        return Recommender(self.run.vectors)

    def recommend(self, customer_id: Any, k: int = 10, **options: Any) -> pandas.DataFrame:
        """List product_id, title, score, stars, the best first; `options` are those of the verb `recommend`.

        `frame.attrs["answered_from"]` says from what: model, liked or popularity.
        """
        from amzrec.commands.recommend import recommend

        document = recommend(customer_id, self, k=k, **options)
        frame = self._frame(document["recommendations"], ["score", "stars"])
        frame.attrs["answered_from"] = document["answered_from"]
        return frame

    def rate(self, customer_id: Any, products: Any) -> pandas.DataFrame:
        """List product_id, title, stars, the best first."""
        from amzrec.commands.rate import rate

        return self._frame(rate(customer_id, products, self)["ratings"], ["stars"])

    def similar(self, product: Any, k: int = 10) -> pandas.DataFrame:
        """List product_id, title, score, the nearest first."""
        from amzrec.commands.similar import similar

        return self._frame(similar(product, self, k=k)["similar"], ["score"])

    def fold_in(self, liked: Any, customer_id: Any = "") -> Query:
        """Compute the query vectors of a customer (default: a new one) who likes these products, the latest last."""
        rows = list(dict.fromkeys(self.recommender.product(name) for name in texts_of(liked, "liked")))
        return self.recommender.fold_in(self.recommender.customer(customer_id), np.array(rows, np.int32))

    def _frame(self, rows: list[dict[str, Any]], values: list[str]) -> pandas.DataFrame:
        import pandas

        columns = ["product_id", "title", *(v for v in values if v != "stars" or self.recommender.has_stars)]
        return pandas.DataFrame(rows, columns=columns)


def recommender_of(run: Model | Run | Path | str | None) -> Recommender:
    """Open a run for one question, or use the model that is open already."""
    return (run if isinstance(run, Model) else Model(run)).recommender
