"""Why a product is recommended: the terms that its score is the sum of, by product of the customer's history."""

from __future__ import annotations

import numpy as np

from amzrec.answers.folding import Pasts
from amzrec.answers.listing import Document, named
from amzrec.answers.lists import NOTHING, Likes, answered_from, asked
from amzrec.answers.recommender import Query, Recommender
from amzrec.arrays import Array, Doubles, Lists
from amzrec.errors import AmzrecError
from amzrec.store.memory import Memory


def explained(model: Recommender, customer_id: str, product: str, k: int, likes: Likes = NOTHING) -> Document:
    """Take the score of a product for a customer apart: popularity + customer + the terms of the history + others.

    Each product of the history has what it says through the vectors, and its vote in the memory of pairs; the k that
    say most are listed, and `others` is the sum of the rest. `customer` is what belongs to no product of the history:
    the customer's own vector, and all that the vectors say in a run whose histories cannot be taken apart.
    `average_popularity` is that of the mean candidate, to compare with; `in_order` tells whether a vote says that one
    product often follows the other, or that they go together. Raises AmzrecError for a product that the run
    does not have.
    """
    customer, row = model.customer(customer_id), model.product(product)
    query = asked(model, customer, likes)
    candidate = model.vectors.retrieval_candidate[row].astype(np.float64)
    past = model.past(customer, likes.rows, likes.stars, likes.weights)
    vector, votes = said_by_vectors(model, past, candidate), votes_of(model, query, row)
    terms = vector + votes
    retrieved = float(query.retrieval.astype(np.float64) @ candidate)
    popularity = float(candidate[-1])
    order = np.argsort(-np.abs(terms), kind="stable")
    return {
        "customer_id": customer_id,
        **named(model, row),
        "answered_from": answered_from(model, customer, likes),
        "score": retrieved + float(votes.sum()),
        "popularity": popularity,
        "average_popularity": model.average_popularity,
        "in_order": votes_in_order(model),
        "customer": retrieved - popularity - float(vector.sum()),
        "history": [history_term(model, past, place, float(vector[place]), float(votes[place])) for place in order[:k]],
        "others": float(terms[order[k:]].sum()),
    }


def votes_in_order(model: Recommender) -> bool:
    """Tell whether what a product votes for depends on what came after it: a memory of what followed what."""
    memory = model.vectors.memory
    return memory is not None and memory.fade != 1


def history_term(model: Recommender, past: Pasts, place: int, vector: float, vote: float) -> Document:
    """Describe what one product of a history says."""
    stars = float(past.stars[place])
    return {
        **named(model, int(past.product[place])),
        **({} if np.isnan(stars) else {"stars": stars}),
        "vector": vector,
        "vote": vote,
        "term": vector + vote,
    }


def said_by_vectors(model: Recommender, past: Pasts, candidate: Array) -> Doubles:
    """Compute what each product of a past adds to the inner product with a candidate [Dr + 1]: [n]."""
    head = model.vectors.head
    try:
        model.need_histories()
    except AmzrecError:  # a run that reads histories in another way, or not at all
        return np.zeros(len(past.product))
    said: Doubles = model.added(past)[:, : head.retrieval_dims] @ candidate[:-1] / head.temperature
    return said


def votes_of(model: Recommender, query: Query, product: int) -> Doubles:
    """Share out the vote for a product among the products of the history [n] that it comes from."""
    memory, votes = model.vectors.memory, model.votes([query.history])
    shares = np.zeros(len(query.history))
    if memory is None or votes is None:
        return shares
    vote = float(votes.weights[votes.products.items == product].sum())
    if vote:
        shares = weights_for(memory, query.history, product)
        if memory.per_log:  # the vote is a logarithm of their sum, of which each has its part
            shares *= vote / shares.sum()
    return shares


def weights_for(memory: Memory, history: Array, product: int) -> Doubles:
    """Return what each product of a history [n] weighs for a product in the memory, faded by what came after it."""
    weights = memory.fades(Lists.join([history])).astype(np.float64)
    for place, voter in enumerate(history):
        span = memory.neighbours.span(int(voter))
        weights[place] *= memory.weights[span][memory.neighbours.items[span] == product].sum()
    if memory.last:
        weights[: max(0, len(history) - memory.last)] = 0
    return weights
