"""What systems are judged on: reviews held out, by customer and by moment, and what each product is ranked among."""

from __future__ import annotations

import dataclasses

import numpy as np

from amzrec.answers.ranks import Scores
from amzrec.arrays import Array, Bools, Floats, Ints, Lists, Rows, offsets_of, ranges
from amzrec.errors import AmzrecError
from amzrec.evaluation import metrics
from amzrec.store.dataset import Dataset, Reviews, Scale
from amzrec.store.run import Run
from amzrec.store.times import NO_TIME


@dataclasses.dataclass(frozen=True)
class TestSet:
    """Reviews that were held out, the candidates, and what each customer has seen.

    A candidate's column is its position among the candidates: scores are tables [customers, candidates].
    """

    reviews: Reviews  # [T] customers ascending, the reviews of one customer by time
    fit: Reviews  # what systems are fitted on
    owner: Ints  # [T] position of the customer among `customers`
    customers: Rows  # [G] rows of the customers of the reviews, ascending
    candidates: Rows  # [M] product rows, ascending
    column: Ints  # [N + 1] column of each product row, -1 for one that is no candidate
    wanted: Ints  # [T] column of the product of each review, -1 where it is no candidate
    seen: Lists  # columns that each of the G customers has seen already
    relevant: Bools  # [T] reviews that count for the ranking metrics
    scale: Scale | None  # None where there are no stars
    lists: Ints  # [L, 5] positions of reviews, for ndcg@5
    slices: dict[str, Bools] = dataclasses.field(default_factory=dict)  # [T] parts that are also reported alone
    context: Context | None = None

    def __len__(self) -> int:
        return len(self.reviews)

    def queries(self, moments: Array | None = None, together: bool = True) -> Queries:
        """Group the reviews by customer, moment [T] (None: one for all), and value of the context; see Queries."""
        moments = np.zeros(len(self), np.int64) if moments is None else moments
        values = np.full(len(self), -1) if self.context is None else self.context.value
        new_customer = np.diff(self.owner, prepend=-1) != 0
        begins = new_customer | _changes(moments) | _changes(values)
        starts = np.flatnonzero(begins)  # [Q] the first review of each query
        query = np.cumsum(begins) - 1  # [T] the query of each review
        first = np.flatnonzero(new_customer[starts])  # [G]
        ends = np.append(starts[1:], len(self))
        if together:
            ends[first] = np.append(np.flatnonzero(new_customer)[1:], len(self))
        offsets = offsets_of(ends - starts)
        position = np.arange(len(self))
        firsts = first[self.owner]  # [T] the first query of the review's customer
        return Queries(
            owner=self.owner[starts],
            moment=moments[starts].astype(np.int64),
            value=values[starts].astype(np.int64),
            positives=Lists(offsets, self.wanted[ranges(starts, ends)]),
            seen=self.seen.take(self.owner[starts]),
            slot=offsets[query] + position - starts[query],
            first_slot=offsets[firsts] + position - starts[firsts] if together else None,
            first=first,
        )


def _changes(values: Array) -> Bools:
    """Tell where a value [T] differs from the one before it."""
    changed = np.ones(len(values), np.bool_)
    changed[1:] = values[1:] != values[:-1]
    return changed


@dataclasses.dataclass(frozen=True)
class Queries:
    """The reviews as Q queries, each of one customer at one moment, for systems whose answers depend on the moment.

    A review is ranked by its own query for top_k. The ranking metrics judge one list per customer: there all reviews of
    a customer are ranked by the first query of that customer, which therefore holds them all.

    Example: customer 0 has reviews a and b in moment 3 and c in moment 5. There are two queries, with the positives
    a b c and c; the own slots of a, b, c are 0, 1, 3, their slots in the first query 0, 1, 2.
    """

    owner: Ints  # [Q] position of the customer
    moment: Ints  # [Q] a number of the system, such as a period or a day
    value: Ints  # [Q] of the context, -1 for none
    positives: Lists  # columns whose ranks are wanted, Q lists
    seen: Lists  # columns that are removed, Q lists
    slot: Ints  # [T] where a review stands among the items of `positives`, in its own query
    first_slot: Ints | None  # [T] where it stands in the first query of its customer; None: first queries hold no more
    first: Ints  # [G] the first query of each customer

    def __len__(self) -> int:
        return len(self.owner)


@dataclasses.dataclass(frozen=True)
class Context:
    """What is known of the wanted product when it is asked for: its value of one feature, such as its category."""

    name: str
    value: Ints  # [T] number of the value, -1 where the product has none: then all candidates are ranked
    holds: Bools  # [V, M] which candidates have the value; the others are not ranked

    def mask(self, scores: Scores, row_of: Ints, value: Ints) -> tuple[Scores, Ints]:
        """Give the scores of Q queries, -inf outside of the context, and the row of each query among them.

        Query q is answered by row row_of[q] of `scores`, among the candidates with value[q].
        """
        pairs, row_of = np.unique(np.stack([row_of, value]), axis=1, return_inverse=True)
        return Masked(scores, pairs[0], pairs[1], self.holds), row_of.reshape(-1)


@dataclasses.dataclass(frozen=True)
class Masked:
    """Rows of scores, each among the candidates that have one value: see Scores of answers/ranks.py."""

    scores: Scores
    row: Ints  # [U] ascending
    value: Ints  # [U] -1: all candidates
    holds: Bools  # [V, M]

    @property
    def shape(self) -> tuple[int, int]:
        """(U, M)."""
        return len(self.row), self.scores.shape[1]

    def fill(self, start: int, stop: int, out: Floats) -> None:
        """See Scores.fill."""
        row = self.row[start:stop]
        whole = np.empty((int(row[-1] - row[0]) + 1, out.shape[1]), np.float32)
        self.scores.fill(int(row[0]), int(row[-1]) + 1, whole)
        out[:] = whole[row - row[0]]
        for line, value in enumerate(self.value[start:stop]):
            if value >= 0:
                out[line, ~self.holds[value]] = -np.inf


def line_up(
    dataset: Dataset, reviews: Reviews, fit: Reviews, seen: Reviews, candidates: Rows, rng: np.random.Generator
) -> TestSet:
    """Line up reviews that are held out with the candidates that they are ranked among.

    `fit` is what systems are fitted on, `seen` what is removed from the lists of customers, `rng` draws the lists of
    ndcg@5.
    """
    time = np.where(reviews.timestamp == NO_TIME, np.iinfo(np.int64).max, reviews.timestamp)  # none: now
    reviews = reviews.take(np.lexsort((time, reviews.customer)))
    customers, owner = np.unique(reviews.customer, return_inverse=True)
    column = np.full(dataset.products.num_rows, -1, np.int64)
    column[candidates] = np.arange(len(candidates))
    position = np.full(dataset.customers.num_rows, -1, np.int64)
    position[customers] = np.arange(len(customers))
    kept = (position[seen.customer] >= 0) & (column[seen.product] >= 0)
    rated = np.flatnonzero(~np.isnan(reviews.stars))
    return TestSet(
        reviews=reviews,
        fit=fit,
        owner=owner,
        customers=customers,
        candidates=candidates,
        column=column,
        wanted=column[reviews.product],
        seen=Lists.of(position[seen.customer[kept]], column[seen.product[kept]], len(customers)),
        relevant=np.isnan(reviews.stars) | (reviews.stars >= dataset.protocol.min_stars),
        scale=dataset.info.stars,
        lists=rated[metrics.draw_lists(reviews.customer[rated], rng)],
    )


def line_up_test(dataset: Dataset, fit_parts: tuple[str, ...], candidates: Rows) -> TestSet:
    """Line up the test part of a dataset, with its slices, for systems that were fitted on `fit_parts`.

    What a customer has in train and valid is seen, whether or not a system was fitted on it.
    """
    fit = Reviews.concat([getattr(dataset, part) for part in fit_parts])
    seen = Reviews.concat([dataset.train, dataset.valid])
    rng = np.random.default_rng(dataset.protocol.seed)
    testset = line_up(dataset, dataset.test, fit, seen, candidates, rng)
    return dataclasses.replace(testset, slices=slices_of(testset, dataset))


def line_up_run(run: Run, dataset: Dataset) -> TestSet:
    """Line up the test part of a dataset for a run that was trained on it."""
    return line_up_test(dataset, run.info.fit_parts, np.asarray(run.vectors.candidates))


def slices_of(testset: TestSet, dataset: Dataset) -> dict[str, Bools]:
    """Tell which reviews [T] belong to the parts of a test set that are also reported alone."""
    reviews, fit = testset.reviews, testset.fit
    known = np.bincount(fit.customer, minlength=dataset.customers.num_rows)[reviews.customer] > 0
    head = head_products(dataset)[reviews.product]
    new = np.bincount(fit.product, minlength=dataset.products.num_rows)[reviews.product] == 0
    parts = {"known_customer": known, "unknown_customer": ~known, "head_product": head, "tail_product": ~head}
    parts["new_product"] = new  # known by title and features alone; a candidate with --catalogue all only
    if testset.scale:
        parts["top_rated"] = reviews.stars == testset.scale.max
    return parts


def head_products(dataset: Dataset) -> Bools:
    """Tell which product rows [N + 1] are the most reviewed ones that together make up half of the train reviews."""
    counts = np.bincount(dataset.train.product, minlength=dataset.products.num_rows)
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    head = np.zeros(len(counts), np.bool_)
    head[order] = (2 * before < counts.sum()) & (counts[order] > 0)
    return head


def in_context(testset: TestSet, dataset: Dataset, name: str) -> TestSet:
    """Return the test set where the first value of the feature `name` of each wanted product is known.

    Reviews are judged one by one: a list for a customer would need one query for all of them. Raises AmzrecError where
    no product has the feature.
    """
    features = [[f.partition("=") for f in listed] for listed in dataset.products["features"].to_pylist()]
    values = [[value for key, _, value in listed if key == name] for listed in features]
    number = {value: n for n, value in enumerate(sorted({value for listed in values for value in listed}))}
    if not number:
        known = sorted({key for listed in features for key, _, _ in listed})
        raise AmzrecError(
            f"--context {name}: no product of {dataset.path} has a {name}; "
            + (f"allowed: {', '.join(known)}" if known else "its source told no features of products")
        )
    holds = np.zeros((len(number), len(testset.candidates)), np.bool_)
    for column, row in enumerate(testset.candidates):
        holds[[number[value] for value in values[row]], column] = True
    value = np.array([number[values[row][0]] if values[row] else -1 for row in testset.reviews.product], np.int64)
    context = Context(name, value, holds)
    return dataclasses.replace(testset, context=context, relevant=np.zeros(len(testset), np.bool_))
