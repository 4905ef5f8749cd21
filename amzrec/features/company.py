"""What goes with what, from what the same customers have: a regression of each product on all others at once."""

from __future__ import annotations

import dataclasses

import numpy as np

from amzrec.arrays import Array, Doubles, Floats, Lists, Rows, offsets_of
from amzrec.features.attributes import Attributes
from amzrec.features.ridge import RARE, by_attributes
from amzrec.store.memory import Memory

CLOSED_FORM = 6000  # products up to which all pairs are solved for at once
CUSTOMERS = 4096  # whose reviews are laid out as a dense matrix at a time
EVEN = 0.35  # a review weighs n^-EVEN where its customer has n: who has much says less with each (LOG.md, 2026-11-30)
NEAR = 0.8  # of what a pair of one customer's products counts, the part that fades with the products between them
FADES = 30.0  # products in time after which that part is 1 / e
FAR = 300  # products between two beyond which the part is none: e^-10
AT_ONCE = 512  # products of one customer whose pairs are added at a time
DIRECTIONS = 64  # leading directions of the votes, along which half of each vote is taken
ROUNDS = 3  # of the power iteration that finds them
LEAST = 0.002  # votes smaller than this are left out, of 1 for a product that is certain: four fifths of all


@dataclasses.dataclass(frozen=True)
class Company:
    """How much each two candidates are in the same hands: all that the regression needs to know of the reviews."""

    rows: Rows  # [M] product rows of the candidates, ascending
    size: int  # N + 1
    gram: Doubles  # [M, M]

    @classmethod
    def of(cls, histories: Lists, candidates: Rows, size: int, near: bool) -> Company:
        """Add up the pairs of the products of each customer; `size` is N + 1.

        A pair of a customer with n candidates counts n^(−2 EVEN), scaled so that all reviews together count as before.
        Where products are `near`, histories are in the order of time, and of that 1 − NEAR + NEAR · e^(−d / FADES) is
        left of a pair with d − 1 products between. Raises ValueError for more than CLOSED_FORM candidates.
        """
        if len(candidates) > CLOSED_FORM:
            raise ValueError(f"{len(candidates)} products are too many to solve for at once")
        place = np.full(size, -1)
        place[candidates] = np.arange(len(candidates))
        owner, column = histories.owners, place[histories.items]
        owner, column = owner[column >= 0], column[column >= 0]
        lists = Lists(offsets_of(np.bincount(owner, minlength=len(histories))), column)
        number = np.maximum(lists.lengths, 1).astype(np.float64)
        weight = number ** (-2 * EVEN)
        weight *= lists.lengths.sum() / max(float(lists.lengths @ weight), 1e-9)
        gram = together(lists, np.sqrt(weight), len(candidates))
        if near:
            gram *= 1 - NEAR
            add_near(gram, lists, NEAR * weight)
        return cls(candidates, size, gram)

    def memory(self, ridge: float, attributes: Attributes | None = None) -> Memory:
        """Solve for what each product says of each other, half of it along the leading directions of all votes.

        B = −P / diag(P) without its diagonal, where P is the inverse of gram + ridge (Steck 2019, EASE, eq. 8), and
        weight = (B + B E Eᵀ) / 2 without its diagonal, where E [M, DIRECTIONS] spans most of the votes: what a few
        directions say of a product is less noisy than what each pair does, and blunter (LOG.md, 2026-11-30).

        A product that nobody has gets B Eᵀ of the place in E that its `attributes` [N + 1] say, the mean of all without
        any: else every product with votes would stand before it, and not one of `--catalogue all` be seen. Without
        `attributes` it gets none.
        """
        if not len(self.rows):
            return Memory(Lists.empty(self.size), np.zeros(0, np.float32))
        gram, diagonal = self.gram.copy(), np.diag_indices(len(self.rows))
        gram[diagonal] += ridge
        inverse = np.linalg.inv(gram)
        del gram
        votes = (-inverse / np.diag(inverse)).astype(np.float32)  # [voter, product]
        del inverse
        votes[diagonal] = 0
        leading = directions(self.gram.astype(np.float32), votes)
        toward = votes @ leading
        weight: Floats = np.asarray((votes + toward @ leading.T) / 2, np.float32)
        weight[diagonal] = 0
        had = np.diag(self.gram)
        if attributes is not None and (new := np.flatnonzero(had == 0)).size:
            of_rows = Attributes(attributes.lists.take(self.rows), attributes.number)
            weight[:, new] = toward @ by_attributes(of_rows, had, leading, RARE)[new].T
        voter, product = np.nonzero(np.abs(weight) >= LEAST)
        voters = np.bincount(self.rows[voter], minlength=self.size)
        return Memory(
            Lists(offsets_of(voters), self.rows[product].astype(np.int32)), weight[voter, product].astype(np.float32)
        )


def together(lists: Lists, weight: Doubles, columns: int) -> Doubles:
    """Add up the outer products of the customers' rows: `weight` [C] at the columns of their lists, else 0."""
    gram = np.zeros((columns, columns))
    there = np.flatnonzero(lists.lengths)
    for start in range(0, len(there), CUSTOMERS):
        part = lists.take(there[start : start + CUSTOMERS])
        block = np.zeros((len(part), columns), np.float32)
        block[part.owners, part.items] = np.repeat(weight[there[start : start + CUSTOMERS]], part.lengths)
        gram += block.T @ block
    return gram


def add_near(gram: Doubles, lists: Lists, weight: Doubles) -> None:
    """Add weight · e^(−d / FADES) for each two products of a list, d places apart, to their place in `gram` [M, M]."""
    fade = np.exp(-np.arange(FAR + AT_ONCE) / FADES)
    for owner in np.flatnonzero(lists.lengths).tolist():
        columns = lists[owner]
        for start in range(0, len(columns), AT_ONCE):
            stop, low = min(start + AT_ONCE, len(columns)), max(start - FAR, 0)
            high = min(stop + FAR, len(columns))
            apart = np.abs(np.arange(start, stop)[:, None] - np.arange(low, high))
            gram[columns[start:stop, None], columns[low:high]] += weight[owner] * fade[apart]


def directions(gram: Array, votes: Floats) -> Floats:
    """Return an orthonormal basis of the leading directions of votesᵀ · gram · votes, [M, at most DIRECTIONS].

    A power iteration of a random start (Halko, Martinsson and Tropp 2011, alg. 4.4), always of the same one; in
    numpy, since `amzrec update` needs it without TensorFlow.
    """
    wanted = min(DIRECTIONS, len(votes))
    basis = np.random.default_rng(0).standard_normal((len(votes), min(wanted + 16, len(votes)))).astype(np.float32)
    for _ in range(ROUNDS):
        basis = np.linalg.qr(votes.T @ (gram @ (votes @ basis)))[0]
    small = basis.T @ (votes.T @ (gram @ (votes @ basis)))
    leading = np.linalg.eigh(((small + small.T) / 2).astype(np.float64))[1][:, ::-1][:, :wanted]
    return np.asarray(basis @ leading.astype(np.float32), np.float32)
