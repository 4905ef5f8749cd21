"""Where questions are answered: from a run, and from what the customer did since."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from amzrec.answers.explanation import explained
from amzrec.answers.listing import Document, named
from amzrec.answers.lists import NO_ROWS, NOTHING, Likes, Wanted, alike, answered_from, best_products, rated
from amzrec.answers.names import beginning_with
from amzrec.answers.recommender import Recommender
from amzrec.answers.rules import limit
from amzrec.answers.scann import Slow
from amzrec.arrays import Rows
from amzrec.errors import AmzrecError
from amzrec.page.summary import scale_of
from amzrec.service import questions
from amzrec.service.events import Event, EventStore
from amzrec.service.runs import Runs, Served

SHORT = 100  # most products of a list that is quick
PLAIN = frozenset({"customer_id", "k", "include_seen"})  # all that a question may say that is quick
WHO = frozenset({"customer_id", "liked"})  # what a question has beside the list that is wanted
TOTAL = 100_000  # most products that one batch of requests may ask for


class Refused(Exception):
    """A request that is not answered, with the status of HTTP that says why."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


class Act(NamedTuple):
    """What a customer did with a product that the run knows."""

    time: float  # unix seconds
    row: int
    stars: float | None
    weight: float  # what it counts beside a review


class Acts(NamedTuple):
    """What a customer did beyond the run, and likes."""

    likes: Likes
    done: Rows  # products of events
    liked: Rows  # products that the request names


NO_ACTS = Acts(NOTHING, NO_ROWS, NO_ROWS)


class Desk:
    """Answers from the runs that a request was given, and from the store of events."""

    def __init__(self, store: EventStore | None, weights: Mapping[str, float], most_k: int) -> None:
        self.store, self.weights, self.most_k = store, weights, most_k

    # --- questions, each with the run that answers it

    def recommend(self, runs: Runs, asked: questions.Recommend) -> Document:
        """Find the best products for one customer."""
        served = runs.of(asked.customer_id)
        return self.best(served, served.recommender, asked)

    def best(self, served: Served, model: Recommender, asked: questions.Recommend) -> Document:
        """Find the best products for one customer with a recommender of a run."""
        need_features(model, asked)
        acts = self.acts(model, asked.customer_id, asked.liked)
        wanted = Wanted(**{name: value for name, value in asked if name not in WHO})
        hidden = acts.liked if asked.include_seen else np.concatenate([acts.liked, acts.done])
        return best_products(model, asked.customer_id, wanted, acts.likes, hidden) | {"run": served.name}

    def is_quick(self, runs: Runs, asked: questions.Recommend) -> bool:
        """Tell whether a question takes about a millisecond: a short list without rules, by an index that is quick."""
        plain = asked.k <= SHORT and asked.model_fields_set <= PLAIN
        return plain and (self.store is None or self.store.ledger.near) and runs.of(asked.customer_id).quick is not None

    def recommend_quickly(self, runs: Runs, asked: questions.Recommend) -> Document | None:
        """Answer a question that is quick; None where this customer needs more time, as after many purchases."""
        served = runs.of(asked.customer_id)
        assert served.quick is not None
        try:
            return self.best(served, served.quick, asked)
        except Slow:
            return None

    def rate(self, runs: Runs, asked: questions.Rate) -> Document:
        """Predict the stars that one customer would give."""
        served = runs.of(asked.customer_id)
        for name in asked.products:
            product_of(served.recommender, name)
        likes = self.acts(served.recommender, asked.customer_id, asked.liked).likes
        return rated(served.recommender, asked.customer_id, asked.products, likes, asked.at) | {"run": served.name}

    def similar(self, runs: Runs, asked: questions.Similar) -> Document:
        """Find what is like a product; always from the main run, for no customer asks."""
        product_of(runs.main.recommender, asked.product)
        return alike(runs.main.recommender, asked.product, asked.k) | {"run": runs.main.name}

    def explain(self, runs: Runs, asked: questions.Explain) -> Document:
        """Take the score of a product for a customer apart."""
        served = runs.of(asked.customer_id)
        product_of(served.recommender, asked.product)
        likes = self.acts(served.recommender, asked.customer_id, asked.liked).likes
        document = explained(served.recommender, asked.customer_id, asked.product, asked.k, likes)
        return document | {"run": served.name}

    def customer(self, runs: Runs, customer_id: str) -> Document:
        """Tell what is known of a customer; Refused (404) where nothing is."""
        served = runs.of(customer_id)
        model, events = served.recommender, self.events_of(customer_id)
        row = model.customer(customer_id)
        if not row and not events:
            raise Refused(404, f"neither the run {served.name} nor the events know the customer {customer_id!r}")
        products, stars = model.seen(row) if row else (np.zeros(0, np.int32), np.zeros(0, np.float32))
        likes = self.acts(model, customer_id, ()).likes
        return {
            "customer_id": customer_id,
            "answered_from": answered_from(model, row, likes),
            "history": [
                named(model, int(product)) | ({} if np.isnan(given) else {"stars": round(float(given), 6)})
                for product, given in zip(products, stars, strict=True)
            ],
            "events": [event_document(model, event) for event in events],
            "run": served.name,
        }

    def products(self, runs: Runs, asked: questions.AddressSearch) -> Document:
        """Find products whose title begins with a text."""
        model = runs.main.recommender
        rows = beginning_with(asked.q, model.vectors, asked.k)
        return {"products": [named(model, row) for row in rows], "run": runs.main.name}

    def need_k(self, counts: Sequence[int]) -> None:
        """Raise Refused where more products are asked for than are allowed."""
        if counts and max(counts) > self.most_k:
            raise Refused(422, f"k is {max(counts)}; allowed: 1 to {self.most_k} (--most-k)")
        if sum(counts) > TOTAL:
            raise Refused(422, f"these requests ask for {sum(counts)} products in all; allowed: {TOTAL}")

    # --- what the customer did

    def events_of(self, customer_id: str) -> list[Event]:
        """Return the events of a customer, the latest last."""
        return self.store.of(customer_id) if self.store else []

    def acts(self, model: Recommender, customer_id: str, liked: Sequence[questions.Like | str]) -> Acts:
        """Put together what a customer did and likes, each product once, by time, the latest last.

        Events of products that the run does not know wait until one knows them. Where histories cannot be folded in,
        events only hide their products. Raises Refused for a liked product that the run does not have.
        """
        now, events = time.time(), self.events_of(customer_id)
        if not events and not liked:
            return NO_ACTS
        row_of = {name: model.find_product(name) for name in {event.product_id for event in events}}
        found = [
            Act(event.timestamp, row_of[event.product_id], event.stars, self.weights.get(event.kind, 1.0))
            for event in events
            if row_of[event.product_id]
        ]
        done = np.array([act.row for act in found], np.int32)
        if found and not liked and not folds(model):
            return Acts(NOTHING, done, NO_ROWS)
        for each in liked:
            like = questions.Like(product_id=each) if isinstance(each, str) else each
            row = product_of(model, like.product_id)
            found.append(Act(now if like.time is None else like.time, row, like.stars, 1.0))
        rows = np.array([act.row for act in found[len(done) :]], np.int32)
        return Acts(likes_of(model, found, "liked" if liked else "events"), done, rows)

    def events(self, asked: Sequence[questions.Event]) -> list[Event]:
        """Turn events as they were sent into events as they are stored; Refused for an unknown kind."""
        for event in asked:
            if event.kind not in self.weights:
                raise Refused(
                    422, f"the kind of an event is {event.kind!r}; allowed: {', '.join(self.weights)} (--kinds)"
                )
        now = time.time()
        return [
            Event(e.customer_id, e.product_id, e.stars, int(now if e.time is None else e.time), e.kind, e.key)
            for e in asked
        ]


def likes_of(model: Recommender, acts: Sequence[Act], called: str) -> Likes:
    """Make one entry of all that was done with a product: the last stars, the largest weight, the last time."""
    stars, weights = dict[int, float](), dict[int, float]()
    for act in sorted(acts, key=lambda act: act.time):
        before = stars.pop(act.row, float("nan"))  # so that it comes to the end
        stars[act.row] = before if act.stars is None else scaled(model, act.stars)
        weights[act.row] = max(act.weight, weights.get(act.row, 0.0))
    rows = [row for row in stars if weights[row] > 0]
    given, counts = ([kept[row] for row in rows] for kept in (stars, weights))
    return Likes(np.array(rows, np.int32), np.array(given, np.float32), np.array(counts, np.float32), called)


def folds(model: Recommender) -> bool:
    """Tell whether a run can answer from products that came after its training."""
    try:
        model.need_histories()
    except AmzrecError:
        return False
    return True


def scaled(model: Recommender, stars: float) -> float:
    """Bring stars onto the scale of the run; NaN where the run knows none."""
    head = model.vectors.head
    return min(max(stars, head.low), head.high) if model.has_stars else float("nan")


def product_of(model: Recommender, name: str) -> int:
    """Find the row of a product; Refused (404), with the nearest names, for an unknown one."""
    try:
        return model.find_product(name) or model.product(name)
    except AmzrecError as error:
        raise Refused(404, str(error)) from None


def need_features(model: Recommender, asked: questions.Recommend) -> None:
    """Raise Refused (404), with the nearest ones, for a feature that no product of the run has."""
    try:
        for feature in (*asked.only, *asked.never):
            model.feature(feature)
        for text in asked.at_most:
            limit(model, text)
    except AmzrecError as error:
        raise Refused(404, str(error)) from None


def event_document(model: Recommender, event: Event) -> Document:
    """Describe an event, with the title of its product where the run knows it."""
    row = model.find_product(event.product_id)
    known = named(model, row) if row else {}
    stars = {} if event.stars is None else {"stars": event.stars}
    return known | {"product_id": event.product_id, **stars, "kind": event.kind, "time": event.timestamp}


def facts(served: Served, share: float) -> Document:
    """Describe a run that is served."""
    vectors = served.recommender.vectors
    return {
        "run": served.name,
        "share": share,
        "index": served.index,
        "products": len(vectors.candidates),
        "customers": len(vectors.customer_ids) - 1,
        "stars": scale_of(served.recommender),
    }
