"""The reviews of a batch as sums over histories, each without the review that is to be predicted.

A vector of a side is linear in what is learned,

    vector = base + [Σ bag + Σ (residual − own bias) · residual vector] / √(n + 1)          (Koren 2008, SVD++, eq. 15)

so all vectors of a batch are one sparse matrix times one table, and a review is left out by a negative entry. The table
stacks, for a side with n distinct rows and m rows of the other side in the batch,

    base [bases] | history sums [n] | levels [n] | bags of the partners [m] | residual vectors of the partners [m]

where a history sum is Σ bag + Σ residual · residual vector, and a level is Σ residual vector over rated reviews: what
the own bias is taken off by. Example, one customer with the reviews a and b, both clicks, target a: the row of the
matrix is 1 · base + (sum − bag of a) / √(2 − 1 + 1), so it has the entries (base, 1), (sum, 1/√2), (bag of a, −1/√2).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from amzrec.arrays import Floats, Ints, Rows
from amzrec.features.columns import HistorySums
from amzrec.features.profiles import Profiles
from amzrec.features.sparse import SparseMatrix, distinct, kept, listed


@dataclasses.dataclass(frozen=True)
class StepSide:
    """One side of a batch: its distinct rows, whose each review is, and the histories that this step keeps."""

    profiles: Profiles
    rows: Rows  # [n] distinct
    which: Ints  # [B] which of the rows each review has
    slot: Ints  # [B] where each review stands in the histories of this side
    seed: int | None  # of what this step drops; None: nothing
    dropout: float  # share of the histories that is dropped

    def __len__(self) -> int:
        return len(self.rows)

    def kept_target(self) -> Floats:
        """1 for each review [B] that the kept histories of this side hold, and that must be taken out of them."""
        return kept(self.slot, self.seed, self.dropout)


@dataclasses.dataclass(frozen=True)
class Targets:
    """The values of the reviews of a batch, which are to be predicted."""

    value: Floats  # [B] in model units
    rated: Floats  # [B] 1 where there are stars


def kept_histories(side: StepSide) -> tuple[HistorySums, Floats]:
    """The sums over the histories of the n rows of a side, without what this step drops, and the reviews kept [n]."""
    histories, n = side.profiles.histories, len(side)
    owner, slot = listed(histories.partners, side.rows)
    weight = kept(slot, side.seed, side.dropout)
    there = weight > 0
    owner, slot = owner[there], slot[there]
    partners, column = distinct(histories.partners.items[slot])
    h, residual, rated = len(partners), histories.residual[slot], histories.rated[slot]
    # a bag and a residual vector for each review in the history sums, a residual vector in the levels
    rows = np.concatenate([np.repeat(owner, 2), owner + n])
    columns = np.concatenate([np.stack([column, column + h], axis=1).ravel(), column + h])
    values = np.concatenate([np.stack([np.ones_like(residual), residual], axis=1).ravel(), rated])
    sums = SparseMatrix(np.stack([rows, columns], axis=1), values, np.array([2 * n, 2 * h], np.int64))
    return HistorySums(partners, sums), np.bincount(owner, minlength=n).astype(np.float32)


class LeaveOneOut:
    """The sparse matrices whose products with the table of a side are vectors without their targets."""

    def __init__(self, side: StepSide, partner: StepSide, targets: Targets, size: Floats, bases: int) -> None:
        """`size` [n] are the reviews that the histories keep, `bases` the rows of the table before the sums."""
        self.side, self.targets, self.size = side, targets, size
        n, m = len(side), len(partner)
        self.sums, self.levels, self.bags, self.residuals = bases, bases + n, bases + 2 * n, bases + 2 * n + m
        self.width = bases + 2 * n + 2 * m
        self.partner = partner.which
        self.partner_bias = partner.profiles.biases.all[partner.rows][partner.which]  # [B]
        self.held = side.kept_target()
        self.bias = side.profiles.biases.without(side.rows[side.which], targets.value * targets.rated, targets.rated)

    def reviews(self, base: Ints, known: Floats) -> SparseMatrix:
        """[B, width] the vector of each review's row without that review.

        `base` [B] is the row of the table that it starts from; its history counts where `known` [B] is 1.
        """
        which = self.side.which
        scale = known / np.sqrt(self.size[which] - self.held + 1)
        history = self._history(base, which, scale, self.bias)
        target = self._targets(-scale * self.held, self.bias)
        columns = np.concatenate([history[0], target[0]], axis=1)
        weights = np.concatenate([history[1], target[1]], axis=1)
        return SparseMatrix.of_rows(columns, weights, self.width)

    def rows(self, base: Ints, known: Floats) -> SparseMatrix:
        """[n, width] the vector of each distinct row without any of its reviews in the batch; base and known [n]."""
        n, which, targets = len(self.side), self.side.which, self.targets
        held, value, rated = (
            np.bincount(which, part, n).astype(np.float32)
            for part in (self.held, targets.value * targets.rated, targets.rated)
        )
        scale = known / np.sqrt(self.size - held + 1)
        bias = self.side.profiles.biases.without(self.side.rows, value, rated)
        history = self._history(base, np.arange(n), scale, bias)
        target = self._targets(-scale[which] * self.held, bias[which])
        owner = np.concatenate([np.repeat(np.arange(n), 3), np.repeat(which, 2)])
        column = np.concatenate([history[0].ravel(), target[0].ravel()])
        weight = np.concatenate([history[1].ravel(), target[1].ravel()])
        places, values = by_row(np.stack([owner, column], axis=1), weight)
        return SparseMatrix(places, values, np.array([n, self.width], np.int64))

    def whole(self) -> SparseMatrix:
        """[n, width] the vector of each distinct row with its whole history; base row i belongs to row i."""
        rows = np.arange(len(self.side))
        bias = self.side.profiles.biases.all[self.side.rows]
        scale = (1 / np.sqrt(self.size + 1)).astype(np.float32)
        return SparseMatrix.of_rows(*self._history(rows, rows, scale, bias), self.width)

    def _history(self, base: Ints, which: Ints, scale: Floats, bias: Floats) -> tuple[Ints, Floats]:
        """Columns and weights [·, 3] of base + (sum − bias · level) · scale."""
        columns = np.stack([base, which + self.sums, which + self.levels], axis=1)
        return columns, np.stack([np.ones_like(scale), scale, -scale * bias], axis=1)

    def _targets(self, weight: Floats, bias: Floats) -> tuple[Ints, Floats]:
        """Columns and weights [B, 2] of what each target adds to the history of a row with this bias."""
        columns = np.stack([self.partner + self.bags, self.partner + self.residuals], axis=1)
        rest = self.targets.rated * (self.targets.value - self.partner_bias - bias)
        return columns, np.stack([weight, weight * rest], axis=1)


def by_row(places: Ints, values: Floats) -> tuple[Ints, Floats]:
    """Sort the entries of a sparse matrix by row, those of one row in the order given."""
    order = np.argsort(places[:, 0], kind="stable")
    return places[order], values[order].astype(np.float32)
