"""The right answers of the embedded sample, from data/sample.json: stars, the noise floor, the oracle of retrieval."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import make_sample as sample
from conftest import ROOT


class Truth:
    """What was planted, by customer and product id."""

    def __init__(self) -> None:
        planted = json.loads((ROOT / "data" / "sample.json").read_text())
        self.customers = self._columns(planted, "customers")
        self.products = self._columns(planted, "products")
        self.customer = {id_: row for row, id_ in enumerate(planted["customers"])}
        self.product = {id_: row for row, id_ in enumerate(planted["products"])}

    @staticmethod
    def _columns(planted: Any, table: str) -> dict[str, Any]:
        values = np.array(list(planted[table].values()))
        columns = dict(zip(planted["columns"][table], values.T, strict=True))
        return columns | {"group": columns["group"].astype(int)}

    def stars(self, customers: Sequence[str], products: Sequence[str]) -> tuple[Any, Any]:
        """Mean and variance of the stars of aligned ids: nobody can predict better than the mean."""
        c = np.array([self.customer[id_] for id_ in customers])
        p = np.array([self.product[id_] for id_ in products])
        return sample.expected_stars(sample.latent_stars(self.customers, self.products, c, p))

    def shares(self, customer: str) -> Any:
        """[products] probability of the customer's next draw, in the order of `self.product`."""
        return sample.draw_shares(self.products)[self.customers["group"][self.customer[customer]]]


def recall_at_10(score: Callable[[str], Any], fitted: dict[str, set[int]], tested: dict[str, set[int]]) -> float:
    """Mean over customers with a test product of hits among the 10 best unfitted / test products.

    `score` gives a customer's [products] scores; products that nobody reviewed in the fitted rows are no candidates.
    """
    candidates = set().union(*fitted.values())
    found = []
    for customer, relevant in tested.items():
        values = np.array(score(customer), float)
        hidden = [p for p in range(len(values)) if p not in candidates or p in fitted.get(customer, ())]
        values[hidden] = -np.inf
        found.append(len(relevant & set(np.argsort(-values, kind="stable")[:10].tolist())) / len(relevant))
    return float(np.mean(found))
