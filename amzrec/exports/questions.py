"""The rules that an export is asked to follow when it is checked, and what the vectors answer."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from amzrec.answers.recommender import Recommender
from amzrec.answers.rules import Rules
from amzrec.arrays import Floats, Rows


@dataclasses.dataclass(frozen=True)
class Question:
    """One set of rules: flags of `amzrec recommend`."""

    diversify: float = 0.0
    at_most: tuple[tuple[str, int], ...] = ()  # name of a feature, most products with one value of it
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()

    def inputs(self) -> dict[str, Any]:
        """Return the inputs of the signature `recommend_by_rules` that are about rules."""
        return {
            "diversify": self.diversify,
            "at_most": [name for name, _ in self.at_most] or [""],
            "at_most_count": [most for _, most in self.at_most] or [1],
            "only": list(self.only) or [""],
            "never": list(self.never) or [""],
        }

    def answer(self, model: Recommender, queries: Floats, k: int, hidden: list[Rows], histories: list[Rows]) -> Rows:
        """Answer customers with numpy: product rows [n, k], 0 where the rules leave fewer."""
        model = model.only(self.only, self.never)
        rules = Rules.of(model, "retrieval", self.diversify, [f"{name}={most}" for name, most in self.at_most])
        rows, scores = model.retrieve(queries, rules.depth(k, len(model.candidates)), hidden, histories)
        top = np.zeros((len(queries), k), np.int32)
        for line in range(len(top)):
            count = int((rows[line] > 0).sum())
            chosen = rules.choose(model, rows[line, :count], scores[line, :count], None, k)
            top[line, : len(chosen)] = rows[line, chosen]
        return top

    def left_out(self, model: Recommender) -> Rows:
        """List the candidates that `only` and `never` leave out."""
        have = model.having(self.only)
        for feature in self.never:
            have &= ~model.having([feature])
        return model.candidates[~have]


def questions(model: Recommender) -> list[Question]:
    """Make the questions that a run can be asked; one without features of products has variety alone."""
    asked, features = [Question(diversify=0.5)], model.vectors.features
    if features:
        counts = np.bincount(model.vectors.features_of_products.items, minlength=len(features))
        first, *others = (features[int(row)] for row in np.argsort(-counts, kind="stable")[:2])
        asked.append(Question(diversify=0.1, at_most=((first.partition("=")[0], 2),)))
        asked.append(Question(only=(first,), never=tuple(others)))
    return asked
