"""Which memory of pairs stands beside the towers, chosen on valid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from amzrec.arrays import Lists, Rows
from amzrec.evaluation import judge
from amzrec.evaluation.systems import CustomerVotes
from amzrec.evaluation.testset import TestSet
from amzrec.features.company import CLOSED_FORM, Company
from amzrec.features.fitted import FittedReviews
from amzrec.features.memory import of_order
from amzrec.store.memory import Memory, Votes
from amzrec.training.state import MemoryChoice
from amzrec.training.watch import WatchedSystem

RIDGES = (60.0, 200.0, 600.0)  # of the memories of what the same customers have, that are tried
FEW = 4000  # products up to which all ridges are tried; above, the middle one
SHARES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # scores per vote, of which those around the best one are tried
LOG_SHARES = (0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0)  # the same of votes that are logs
FIRST, FIRST_LOG = 4.0, 1.0  # which of them is tried first


def memory_of(fitted: FittedReviews, choice: MemoryChoice) -> Memory:
    """Build a chosen memory from fitted reviews; its votes are scores."""
    if choice.kind == "order":
        return of_order(fitted.timelines, len(fitted.products)).scaled(choice.share)
    return company_of(fitted, choice.kind).memory(choice.ridge, fitted.products.attributes).scaled(choice.share)


def company_of(fitted: FittedReviews, kind: str) -> Company:
    """Add up what the same customers have; of the kind near more for what is near in time, where there are times."""
    near = kind == "near" and len(fitted.timelines.items) > 0
    lists = fitted.timelines if near else Lists.of(fitted.customer, fitted.product, len(fitted.customers))
    return Company.of(lists, fitted.candidates, len(fitted.products), near)


class Chosen(NamedTuple):
    """A memory, None for none, and the gain on valid with it."""

    memory: MemoryChoice | None
    figure: float


def choose_memory(testset: TestSet, system: WatchedSystem, fitted: FittedReviews, by_order: bool = False) -> Chosen:
    """Choose the memory that ranks valid best together with the vectors of a system; None where none ranks it better.

    With `by_order` only what followed what is tried: the vectors have been learned with it.
    """
    found: MemoryChoice | None = None
    known = judge.watch(testset, system)["ndcg"]
    company: Company | None = None
    for kind, ridge in kinds(fitted)[: 1 if by_order else None]:
        if kind != "order" and company is None:
            company = company_of(fitted, kind)  # of all ridges
        memory = (
            company.memory(ridge, fitted.products.attributes)
            if company
            else memory_of(fitted, MemoryChoice(kind, ridge, 1.0))
        )
        votes = memory.votes(histories(fitted, testset.customers))

        def gain(share: float, votes: Votes = votes) -> float:
            voted = CustomerVotes(votes.scaled(share), testset.column)
            told = WatchedSystem(system.fitted, system.queries, system.candidates, voted)
            return judge.watch(testset, told)["ndcg"]

        shares, first = (LOG_SHARES, FIRST_LOG) if kind == "order" else (SHARES, FIRST)
        share, figure = climb(shares, first, gain)
        if figure > known:
            known, found = figure, MemoryChoice(kind, ridge, share)
    return Chosen(found, known)


def climb(values: Sequence[float], first: float, gain: Callable[[float], float]) -> tuple[float, float]:
    """Return the value from which no neighbour gains more, and its gain, going from `first` on to where it rises.

    That is the best of all where the gain has one peak; each value costs an evaluation.
    """
    place = values.index(first)
    best = gain(values[place])
    for way in (1, -1):
        begun = place
        while 0 <= place + way < len(values) and (figure := gain(values[place + way])) > best:
            place, best = place + way, figure
        if place != begun:
            break
    return values[place], best


def kinds(fitted: FittedReviews) -> list[tuple[str, float]]:
    """List the memories that the fitted reviews allow: kind and ridge."""
    found = [("order", 0.0)] if len(fitted.timelines.items) else []
    products = len(fitted.candidates)
    if 1 < products <= CLOSED_FORM:
        kind = "near" if found else "customers"
        found += [(kind, ridge) for ridge in (RIDGES if products <= FEW else RIDGES[1:2])]
    return found


def histories(fitted: FittedReviews, customers: Rows) -> Lists:
    """The fitted products of these customers, in the order of time where there is one."""
    order = fitted.timelines if len(fitted.timelines.items) else fitted.customers.histories.partners
    return order.take(np.asarray(customers))
