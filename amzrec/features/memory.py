"""What goes with what, from the order of reviews: a memory of the pairs of products that follow each other."""

from __future__ import annotations

import dataclasses

import numpy as np

from amzrec.arrays import Doubles, Floats, Ints, Lists, Rows, offsets_of, positions
from amzrec.parallel import ahead
from amzrec.store.memory import Memory, strongest

NEIGHBOURS = 100  # products that one product votes for
ENTRIES = 25_000_000  # most pairs that are kept: fewer neighbours where there are many products
AT_ONCE = 1 << 22  # most pairs that a core sorts at a time, but for those of one voter
CODE_BITS = 5  # of a key that say how far apart, and which way round, the two products of a pair were once
WINDOW = 10  # products before and after a product that count as following it
BACKWARD = 0.5  # what following backwards in time counts, of following forwards
SHRINK = 5.0  # reviews' worth of belief that two products have nothing to do with each other
CURVE = 50.0  # what sums are multiplied by before the log of 1 + them votes
FADE = 0.8  # per product that came after it, of a history in order
LEARNED_WITH = 1.5  # scores of a vote in a softmax: a weak memory leaves vectors more to learn (LOG.md, 2026-11-28)
LISTED_WITH = 3.0  # scores of a vote in lists, where valid has not chosen them
LAST = 10  # products of a history in order that vote


def neighbours(products: int) -> int:
    """How many pairs each product keeps."""
    return max(1, min(NEIGHBOURS, ENTRIES // max(products, 1)))


def of_order(order: Lists, size: int) -> Memory:
    """Remember what followed what: `order` lists the products of each customer in time, `size` is N + 1.

    weight[j, i] = Σ over i within WINDOW after j of 1 / distance, and BACKWARD of that the other way round, over the
    root of (count of j + SHRINK) · (count of i + SHRINK), times CURVE. The log of 1 + their sum votes: a sum itself
    would be too sure of the few products with the most votes to be a term of a softmax (LOG.md, 2026-11-28).
    """
    return dataclasses.replace(_of_windows(order, size, (1.0, BACKWARD), 1.0), fade=FADE, last=LAST)


def of_company(order: Lists, size: int) -> Memory:
    """Remember the same pairs as `of_order` does, but not which came first, how far apart, or how long ago."""
    return _of_windows(order, size, (1.0, 1.0), 0.0)


def _of_windows(order: Lists, size: int, shares: tuple[float, float], power: float) -> Memory:
    """Weigh pairs by distance^−`power`, times the first share forward in time and the second share backward.

    The voters are taken a part at a time, one part per core, so that no more than some AT_ONCE pairs are held by each.
    """
    counts = np.bincount(order.items, minlength=size)
    rarity, owner = 1 / np.sqrt(counts + SHRINK), order.owners.astype(np.int32)
    part = (np.cumsum(counts) - counts) * 2 * WINDOW // AT_ONCE
    edges = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), size]
    part_of_voter = np.repeat(np.arange(len(edges) - 1, dtype=np.int32), np.diff(edges))
    part_of_place = part_of_voter[order.items]
    places = np.argsort(part_of_place, kind="stable").astype(positions(len(owner)))
    begins = offsets_of(np.bincount(part_of_place, minlength=len(edges) - 1))

    def of_part(number: int) -> tuple[Ints, Rows, Floats]:
        """Weigh the pairs of the voters of a part: how many each of them has, whom they vote for, and how much."""
        low, high = edges[number : number + 2]
        mine = places[begins[number] : begins[number + 1]]
        pair, weight = _pairs(order.items, owner, size, mine, shares, power)
        voter, product = pair // size, pair % size
        weight *= rarity[voter] * rarity[product]
        best = strongest(voter - low, weight, neighbours(size))
        voters = np.bincount(voter[best] - low, minlength=high - low)
        return voters, product[best].astype(np.int32), (CURVE * weight[best]).astype(np.float32)

    found = zip(*ahead(of_part, range(len(edges) - 1)), strict=True)
    voters, items, weights = (np.concatenate(column) for column in found)
    return Memory(Lists(offsets_of(voters), items), weights, per_log=1.0)


def _pairs(
    items: Rows, owner: Rows, size: int, places: Ints, shares: tuple[float, float], power: float
) -> tuple[Ints, Doubles]:
    """List the pairs whose voters stand at these places, voter · size + product, ascending, and their weights."""
    keys, worth = [np.zeros(0, np.int64)], np.zeros(1 << CODE_BITS)
    for distance in range(1, min(WINDOW, len(items) - 1) + 1):
        for way, step in enumerate((distance, -distance)):
            there = places[(places < len(items) - distance) if step > 0 else (places >= distance)]
            there = there[owner[there] == owner[there + step]]
            code = 2 * (distance - 1) + way
            worth[code] = shares[way] / distance**power
            keys.append((items[there].astype(np.int64) * size + items[there + step]) << CODE_BITS | code)
    key = np.concatenate(keys)
    del keys
    key.sort()  # several times as fast as sorting pairs and weights by an order
    pair, weight = key >> CODE_BITS, worth[key & ((1 << CODE_BITS) - 1)]
    first = np.flatnonzero(np.diff(pair, prepend=-1))
    return pair[first], np.add.reduceat(weight, first) if len(first) else weight
