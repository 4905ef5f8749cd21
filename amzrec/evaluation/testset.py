"""What every system is asked in an evaluation: the test rows, by customer and by when they were asked."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from amzrec.answers.ranks import Ranks, Scores, rank_scores
from amzrec.arrays import Lists, offsets_of, ranges
from amzrec.errors import AmzrecError
from amzrec.evaluation import baselines, metrics
from amzrec.store.dataset import NO_TIME, Dataset, Reviews
from amzrec.store.run import Run

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Context:
    """What is known of the wanted product when it is asked for: its value of one feature, such as its category."""

    name: str
    value: Ints  # [T] number of the value, -1 where the product has none: asked among all candidates
    holds: npt.NDArray[np.bool_]  # [V, M] which candidates have it; the others are not asked about

    def within(self, scores: Scores, value: Array) -> Scores:
        """The scores where query u is asked among the candidates with `value[u]`; -inf for the others."""

        def fill(start: int, stop: int, block: npt.NDArray[np.float32]) -> None:
            scores(start, stop, block)
            for line, number in enumerate(value[start:stop]):
                if number >= 0:
                    block[line, ~self.holds[number]] = -np.inf

        return fill


@dataclasses.dataclass(frozen=True)
class Question:
    """The test rows by customer, the candidates, and what each customer has seen."""

    test: Reviews  # [T], customers ascending, the rows of one customer by time
    fit: Reviews  # what the model and the baselines were fitted on
    owner: Ints  # [T] position of the customer among `customers`
    customers: Array  # [G] customer rows that are tested, ascending
    candidates: Array  # [M] product rows, ascending
    place: Ints  # [N + 1] position of a product among the candidates, -1 for none
    positives: Lists  # the product of each test row as position among the candidates, -1 for none
    seen: Lists  # positions in train and valid of each of the G customers
    relevant: npt.NDArray[np.bool_]  # [T] rows that count for the ranking metrics
    slices: dict[str, npt.NDArray[np.bool_]]  # [T] each
    scale: tuple[float, float] | None  # lowest and highest stars, None where there are none
    lists: Ints  # [L, 5] positions of test rows, for ndcg@5
    context: Context | None = None

    def asked(self, when: Array | None = None) -> Asked:
        """`by_time`, with a question of its own for each value of the context too; see `told`."""
        if self.context is None:
            return by_time(self, when)
        codes = (np.zeros(len(self.owner), np.int64) if when is None else when) * (len(self.context.holds) + 1)
        return by_time(self, codes + self.context.value + 1)

    def told(self, codes: Array) -> tuple[Array, Array]:
        """The `when` and the value of the context of Asked.when, or of some of it."""
        values = 1 if self.context is None else len(self.context.holds) + 1
        return codes // values, codes % values - 1

    def within(self, scores: Scores, value: Array) -> Scores:
        """Scores among the candidates that the context leaves."""
        return scores if self.context is None else self.context.within(scores, value)


@dataclasses.dataclass(frozen=True)
class Asked:
    """The test rows as Q questions of one customer at one time, for a system whose answers depend on the time.

    A test row is ranked by its own question for top_k. For the ranking metrics, which judge one list per customer,
    all rows of a customer are ranked by the first question, which therefore holds them all.
    """

    owner: Ints  # [Q] position of the customer
    when: Ints  # [Q]
    positives: Lists  # Q lists
    seen: Lists  # Q lists
    own: Ints  # [T] where the row stands in `positives` of its own question
    first: Ints  # [T] where it stands in those of its customer's first question
    firsts: Ints  # [G] the first question of each customer

    def ranks(self, scores: Scores, queries: int, width: int, query_of: Array) -> Ranks:
        """Ranks of the test rows [T] and the best for the customers [G]; `query_of` [Q]."""
        found = rank_scores(scores, queries, width, query_of, self.positives, self.seen)
        return Ranks(found.above[self.own], found.above_unseen[self.first], found.top[self.firsts])


def by_time(question: Question, when: Array | None = None) -> Asked:
    """One question per customer and run of equal `when` [T] in order of time; None: one per customer."""
    rows, owner = np.arange(len(question.owner)), question.owner
    when = np.zeros(len(owner), np.int64) if when is None else when
    new_customer = np.diff(owner, prepend=-1) != 0
    starts = np.flatnonzero(new_customer | (np.diff(when, prepend=-1) != 0))  # [Q]
    asked = np.searchsorted(starts, rows, side="right") - 1  # [T]
    firsts = np.flatnonzero(new_customer[starts])  # [G]
    ends = np.append(starts[1:], len(owner))
    ends[firsts] = np.append(np.flatnonzero(new_customer)[1:], len(owner))
    offsets = offsets_of(ends - starts)
    first = firsts[owner]
    return Asked(
        owner=owner[starts],
        when=when[starts].astype(np.int64),
        positives=Lists(offsets, question.positives.items[ranges(starts, ends)]),
        seen=question.seen.take(owner[starts]),
        own=offsets[asked] + rows - starts[asked],
        first=offsets[first] + rows - starts[first],
        firsts=firsts,
    )


def ask(run: Run, dataset: Dataset) -> Question:
    """Line up the test rows of a dataset with the candidates and the fitted rows of a run."""
    vectors = run.vectors
    test = dataset.test
    time = np.where(test.timestamp == NO_TIME, np.iinfo(np.int64).max, test.timestamp)  # none: asked now
    test = test.take(np.lexsort((time, test.customer)))
    fit = Reviews.concat([getattr(dataset, part) for part in run.info.fit_parts])
    customers, owner = np.unique(test.customer, return_inverse=True)
    candidates = np.asarray(vectors.candidates)
    place = np.full(dataset.products.num_rows, -1, np.int64)
    place[candidates] = np.arange(len(candidates))
    history = Reviews.concat([dataset.train, dataset.valid])
    of_customer = np.full(dataset.customers.num_rows, -1, np.int64)
    of_customer[customers] = np.arange(len(customers))
    kept = (of_customer[history.customer] >= 0) & (place[history.product] >= 0)
    scale = dataset.info.stars
    rated = np.flatnonzero(~np.isnan(test.stars))
    known = np.bincount(fit.customer, minlength=dataset.customers.num_rows)[test.customer] > 0
    head = head_products(dataset)[test.product]
    new = np.bincount(fit.product, minlength=dataset.products.num_rows)[test.product] == 0
    slices = {"known_customer": known, "unknown_customer": ~known, "head_product": head, "tail_product": ~head}
    slices["new_product"] = new  # known by title and features alone; candidates with --catalogue all only
    if scale:
        slices["top_rated"] = test.stars == scale.max
    rng = np.random.default_rng(dataset.protocol.seed)
    return Question(
        test=test,
        fit=fit,
        owner=owner,
        customers=customers,
        candidates=candidates,
        place=place,
        positives=Lists.of(owner, place[test.product], len(customers)),
        seen=Lists.of(of_customer[history.customer[kept]], place[history.product[kept]], len(customers)),
        relevant=np.isnan(test.stars) | (test.stars >= dataset.protocol.min_stars),
        slices=slices,
        scale=(scale.min, scale.max) if scale else None,
        lists=rated[metrics.draw_lists(test.customer[rated], rng)],
    )


def in_context(question: Question, dataset: Dataset, name: str) -> Question:
    """The question asked with the first value of the feature `name` of each wanted product.

    Test rows are judged one by one: a list for a customer would need one question for all of them. Raises AmzrecError
    where no product has the feature.
    """
    features = [[f.partition("=") for f in found] for found in dataset.products["features"].to_pylist()]
    values = [[value for key, _, value in found if key == name] for found in features]
    number = {value: n for n, value in enumerate(sorted({value for found in values for value in found}))}
    if not number:
        known = sorted({key for found in features for key, _, _ in found})
        raise AmzrecError(
            f"--context {name}: no product of {dataset.path} has a {name}; "
            + (f"allowed: {', '.join(known)}" if known else "its source told no features of products")
        )
    holds = np.zeros((len(number), len(question.candidates)), np.bool_)
    for column, row in enumerate(question.candidates):
        holds[[number[value] for value in values[row]], column] = True
    value = np.array([number[found[0]] if (found := values[row]) else -1 for row in question.test.product], np.int64)
    context = Context(name, value, holds)
    return dataclasses.replace(question, context=context, relevant=np.zeros(len(value), np.bool_))


def head_products(dataset: Dataset) -> npt.NDArray[np.bool_]:
    """[N + 1] the most reviewed products that together make up half of the train rows."""
    counts = baselines.popularity(dataset.train.product, dataset.products.num_rows)
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    head = np.zeros(len(counts), np.bool_)
    head[order] = (2 * before < counts.sum()) & (counts[order] > 0)
    return head
