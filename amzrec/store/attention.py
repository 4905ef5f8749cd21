"""Causal self-attention: what the last products of a customer, in the order given, say of the next one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Self

import numpy as np

from amzrec.arrays import Bools, Floats, Ints, Lists, Rows

POSITIONS = 1 << 14  # products, of all histories together, that are read at a time
EPSILON = 1e-6  # added to a variance before its root is taken
HIDDEN = np.float32(-1e9)  # added to the logits of what a position must not read


@dataclasses.dataclass(frozen=True)
class Attention:
    """A reader of histories: B blocks of H heads over d numbers per product, each read from the last L products.

    x = √d · vectors of the products; then in each block, where over the d numbers of a position
    norm(x) = scale · (x − mean) / √(variance + 1e-6) + shift,
        x += softmax(q · k / √(d / H) + near[distance]) v · out      q, k, v = norm(x) · within; only backwards
        x += relu(norm(x) · wide + wide_bias) · narrow + narrow_bias
    and what is read is the last norm(x) of the last position. What distance means is learned (`near`), so that it does
    not matter where a history begins.
    Vaswani et al. 2017; Kang & McAuley 2018 (SASRec); positions as differences: Shaw et al. 2018, Raffel et al. 2020.
    """

    within: Floats  # [B, d, 3 d] queries, keys and values side by side
    near: Floats  # [B, H, L] what is added to a logit by how many products lie between
    out: Floats  # [B, d, d]
    wide: Floats  # [B, d, F]
    wide_bias: Floats  # [B, F]
    narrow: Floats  # [B, F, d]
    narrow_bias: Floats  # [B, d]
    norms: Floats  # [2 B + 1, 2, d] scale and shift of each norm, in the order in which they are used

    @property
    def width(self) -> int:
        """Return d, the numbers per product."""
        return int(self.within.shape[1])

    @property
    def last(self) -> int:
        """Return L, how many products of a history are read."""
        return int(self.near.shape[2])

    def scaled(self, share: float) -> Self:
        """Return a reader of which everything that it reads is `share` times as much."""
        norms = self.norms.copy()
        norms[-1] *= np.float32(share)
        return dataclasses.replace(self, norms=norms)

    def read(self, vectors: Floats, histories: Lists) -> Floats:
        """Read n histories of product rows, the latest last: [n, d].

        `vectors` [N + 1, d] are those of products. One that is not among them, or whose vector is 0, was never learned
        of, and is passed over as if it were not there; of a history without any others nothing is read: 0.
        """
        found = np.zeros((len(histories), self.width), np.float32)
        for rows, items, lengths in self.batches(vectors, histories):
            found[rows] = self.forward(vectors[items], lengths)
        return found

    def batches(self, vectors: Floats, histories: Lists) -> Iterator[tuple[Ints, Rows, Ints]]:
        """Yield which histories are read together, their last products [n, T] from the left, and how many each has."""
        items = np.asarray(histories.items)
        known = np.flatnonzero(items < len(vectors))
        known = known[np.any(vectors[items[known]], axis=1)]
        lists = Lists.of(histories.owners[known], items[known], len(histories))
        lengths = np.minimum(lists.lengths, self.last)
        order = np.argsort(lengths, kind="stable")
        order = order[lengths[order] > 0]
        while len(order):
            most = POSITIONS // lengths[order[:POSITIONS]]
            rows = order[: max(1, int(np.count_nonzero(np.arange(len(most)) < most)))]
            order = order[len(rows) :]
            count, slots = lengths[rows], np.arange(int(lengths[rows].max()))
            there = slots < count[:, None]
            start = lists.offsets[rows + 1] - count
            yield rows, np.where(there, lists.items[np.where(there, start[:, None] + slots, 0)], 0), count

    def forward(self, vectors: Floats, lengths: Ints) -> Floats:
        """Read n histories whose products have these vectors [n, T, d], of which the first `lengths` [n] count: [n, d].

        The last block makes the vector of the last position alone.
        """
        x = np.asarray(vectors, np.float32) * np.float32(np.sqrt(self.width))
        size, place = x.shape[1], np.arange(x.shape[1])
        distance = place[:, None] - place
        allowed, near = distance >= 0, np.maximum(distance, 0)
        for block in range(len(self.within)):
            final = block == len(self.within) - 1
            whole = self.normed(x, 2 * block)
            rows = [np.arange(len(x))[:, None], (lengths - 1)[:, None]] if final else None
            asked = whole if rows is None else whole[rows[0], rows[1]]  # [n, P, d]
            x = x if rows is None else x[rows[0], rows[1]]
            seen = np.broadcast_to(allowed, (len(x), size, size)) if rows is None else allowed[rows[1]]
            bias = self.near[block][:, near] if rows is None else self.near[block][:, near[rows[1]]].swapaxes(0, 1)
            x = x + self.attended(block, asked, whole, seen, bias)
            hidden = np.maximum(self.normed(x, 2 * block + 1) @ self.wide[block] + self.wide_bias[block], 0)
            x = x + hidden @ self.narrow[block] + self.narrow_bias[block]
        found: Floats = self.normed(x[:, -1], -1)
        return found

    def attended(self, block: int, asked: Floats, whole: Floats, seen: Bools, near: Floats) -> Floats:
        """Return what positions `asked` [n, P, d] take from all, `whole` [n, T, d], of which they see `seen` [n, P, T].

        `near` is added to the logits [n, H, P, T].
        """
        d, heads = self.width, self.near.shape[1]
        kernel = self.within[block]

        def by_head(x: Floats, part: int) -> Floats:
            made = x @ kernel[:, part * d : (part + 1) * d]
            split: Floats = made.reshape(len(x), x.shape[1], heads, d // heads).swapaxes(1, 2)
            return split

        queries, keys, values = by_head(asked, 0), by_head(whole, 1), by_head(whole, 2)
        logits = queries @ keys.swapaxes(2, 3) * np.float32((d // heads) ** -0.5) + near
        logits = np.where(seen[:, None], logits, HIDDEN)
        share = np.exp(logits - logits.max(axis=-1, keepdims=True))
        share /= share.sum(axis=-1, keepdims=True)
        taken = (share @ values).swapaxes(1, 2).reshape(asked.shape)
        found: Floats = taken @ self.out[block]
        return found

    def normed(self, x: Floats, number: int) -> Floats:
        """Return vectors [..., d] less their mean, over the root of their variance, scaled and shifted."""
        scale, shift = self.norms[number]
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = np.square(centred).mean(axis=-1, keepdims=True)
        found: Floats = centred / np.sqrt(variance + np.float32(EPSILON)) * scale + shift
        return found
