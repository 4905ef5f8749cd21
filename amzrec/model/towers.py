"""Ids → vectors: StringLookup, embedding, history of the row, attributes; exactly without the target review."""

from __future__ import annotations

from copy import copy
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from amzrec.arrays import Lists
from amzrec.config import TrainConfig
from amzrec.features.batches import HELD_OUT, Side
from amzrec.model.keras2 import import_tensorflow
from amzrec.model.sparse import Ragged, combined, ends, weighted_sum

tf: Any = import_tensorflow()
tf_keras: Any = tf.keras


class Sums(NamedTuple):
    """What the histories of n rows add up to."""

    vector: Any  # [n, D] Σ of the partners' bag vectors + (value − partner's bias) · their residual vectors
    level: Any  # [n, D] Σ of residual vectors over rated reviews: times the row's own bias, to be subtracted
    size: Any  # [n] reviews in the sums


class Entries(NamedTuple):
    """What reviews of m rows add to the histories of the other side."""

    bag: Any  # [m, D]
    residual: Any  # [m, D]
    bias: Any  # [m] with all reviews of the row, as in Side.residual

    def target(self, place: Any, value: Any, rated: Any, edge: Any) -> Target:
        """The reviews [B] of the rows at these places, as the other side's histories hold them."""
        return Target(tf.cast(place, tf.int64), value, rated, edge, tf.gather(self.bias, place))


class Target(NamedTuple):
    """The review of each example, to be left out of its own histories."""

    place: Any  # [B] of the partner among the entries
    value: Any  # [B] (stars − mean) / unit
    rated: Any  # [B] 1 where there are stars
    edge: Any  # [B] where it stands in this side's histories, -1: left out by the cap, HELD_OUT: not fitted
    bias: Any  # [B] the partner's


class Mixture:
    """The vectors of a batch's reviews, each without its target, as weighted sums of the rows of one table.

    All that is learned in them is linear, so one sparse product takes the place of a dozen [B, D] matrices, and another
    one that of their gradients. `base` [k, D] are vectors before their histories, which are `sums` of n rows, made of
    `entries` of m.
    """

    def __init__(self, base: Any, sums: Sums, entries: Entries) -> None:
        parts = (base, sums.vector, sums.level, entries.bag, entries.residual)
        lengths = [tf.shape(part, out_type=tf.int64)[0] for part in parts]
        _, self.vector, self.level, self.bag, self.residual = tf.unstack(tf.cumsum(lengths, exclusive=True))
        self.table, self.size = tf.concat(parts, 0), sums.size

    def ends(self, first: int, last: int) -> tuple[Mixture, Mixture]:
        """The same of the first dimensions, and from the last ones on, see `ragged.ends`."""
        left, right = copy(self), copy(self)
        left.table, right.table = ends(self.table, first, last)
        return left, right

    def each(self, base: Any, index: Any, target: Target, weight: Any, bias: Any, known: Any = 1.0) -> Any:
        """[B, D] row `index` [B] of the histories on row `base` [B] of the base, without the example's own target.

        `weight` [B] is 1 where the target is in the histories, `bias` [B] the row's; the history counts where `known`.
        """
        scale = tf.math.rsqrt(tf.gather(self.size, index) - weight + 1.0) * known
        columns, weights = self.history(base, index, scale, bias)
        out = self.targets(target, -scale * weight, bias)
        return combined(tf.concat([columns, out[0]], 1), tf.concat([weights, out[1]], 1), self.table)

    def all_but(self, base: Any, index: Any, target: Target, weight: Any, bias: Any, known: Any) -> Any:
        """[n, D] every row of the histories without the targets that `index` [B] gives to it; bias and known [n]."""
        n = tf.size(base)
        scale = tf.math.rsqrt(self.size - tf.math.unsorted_segment_sum(weight, index, n) + 1.0) * known
        whole = combined(*self.history(base, tf.range(n), scale, bias), self.table)
        order = tf.argsort(index, stable=True)
        row = tf.gather(index, order)
        target, weight = Target(*(tf.gather(part, order) for part in target)), tf.gather(weight, order)
        columns, weights = self.targets(target, -tf.gather(scale, row) * weight, tf.gather(bias, row))
        segment = tf.repeat(tf.cast(row, tf.int64), 2)
        return whole + weighted_sum(segment, tf.reshape(columns, [-1]), tf.reshape(weights, [-1]), self.table, n)

    def history(self, base: Any, index: Any, scale: Any, bias: Any) -> tuple[Any, Any]:
        """Columns and weights [·, 3] of rows with their histories."""
        index = tf.cast(index, tf.int64)
        columns = tf.stack([tf.cast(base, tf.int64), index + self.vector, index + self.level], 1)
        return columns, tf.stack([tf.ones_like(scale), scale, -scale * bias], 1)

    def targets(self, target: Target, weight: Any, bias: Any) -> tuple[Any, Any]:
        """Columns and weights [·, 2] of what the targets are in histories of rows with these biases."""
        columns = tf.stack([target.place + self.bag, target.place + self.residual], 1)
        rest = target.rated * (target.value - target.bias - bias)
        return columns, tf.stack([weight, weight * rest], 1)


def kept(edge: Any, seed: Any, dropout: float) -> Any:
    """1 for the reviews that this step keeps in its histories, 0 for those it drops: a hash of position and seed.

    The same review gets the same answer wherever it is asked for in a step, which leaving it out relies on. Without a
    seed (outside training) none is dropped.
    """
    if seed is None or dropout == 0:
        return tf.cast(edge >= 0, tf.float32)
    mixed = tf.cast(edge, tf.int64) + tf.cast(seed, tf.int64) * -7046029254386353131  # splitmix64's constants
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        mixed = tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, tf.constant(shift, tf.int64))) * factor
    share = tf.cast(
        tf.bitwise.bitwise_and(tf.bitwise.right_shift(mixed, tf.constant(31, tf.int64)), 0xFFFFFF), tf.float32
    )
    return tf.cast((share >= dropout * 0x1000000) & (edge >= 0), tf.float32)


class Recent(tf_keras.layers.Layer):  # type: ignore[misc]
    """What the last products of a customer add to its vector: a GRU over their vectors, in order.

    Cho et al. 2014 (eq. 5 to 8), as Hidasi et al. 2016 (GRU4Rec) use it for sessions. It starts at nothing.
    """

    LAST = 10  # products

    def __init__(self, sequence: Lists, config: TrainConfig) -> None:
        super().__init__(name="recent")
        self.sequence = Ragged(sequence)
        init = tf_keras.initializers
        seeds = [config.seed + 20, config.seed + 21]
        kernels = init.GlorotUniform(seed=seeds[0]), init.Orthogonal(seed=seeds[1])
        self.gru = tf_keras.layers.GRU(config.dim, kernel_initializer=kernels[0], recurrent_initializer=kernels[1])
        self.out = tf_keras.layers.Dense(config.dim, use_bias=False, kernel_initializer=init.Zeros())
        self.gru.build((None, self.LAST, config.dim))
        self.out.build((None, config.dim))

    def call(self, customers: Any, table: Any, turn: Any = None) -> Any:
        """[n, D] from the rows of `table` [N + 1, D] of the last products before `turn` [n]; None: of the last of all.

        A customer without products adds nothing.
        """
        start = tf.gather(self.sequence.offsets, customers)
        end = tf.gather(self.sequence.offsets, customers + 1) if turn is None else turn
        place = tf.maximum(start, end - self.LAST)[:, None] + tf.range(self.LAST, dtype=tf.int64)
        there = place < end[:, None]
        products = tf.gather(self.sequence.items, tf.where(there, place, 0))
        state = self.gru(tf.gather(table, products), mask=there)
        return self.out(state * tf.cast(there[:, :1], tf.float32))


class Tower(tf_keras.layers.Layer):  # type: ignore[misc]
    """One side's vectors.

        vector = id + [Σ bag + Σ (residual − own bias) · residual vector] / √(n + 1) + Σ attributes / √(n + 1)

    with `--features full`, and the id's embedding alone with `ids`. Row 0 is the unknown one. The tower owns what its
    rows add to the histories of the *other* side (`bag`, `residual`). Koren 2008 (SVD++, eq. 15), made two-sided.
    """

    def __init__(self, side: Side, ids: Any, config: TrainConfig, name: str, recent: Recent | None = None) -> None:
        super().__init__(name=name)
        self.recent = recent
        self.side, self._ids, self.config, self.full = side, ids, config, not config.shared
        size, width = len(side.counts), config.dim
        ids_scale = tf_keras.initializers.RandomUniform(-0.05, 0.05, seed=config.seed + len(name))

        def table(label: str, rows: int, columns: int, start: Any = None) -> Any:
            return self.add_weight(name=f"{name}_{label}", shape=(rows, columns), initializer=start or ids_scale)

        self.embedding = table("embedding", size, width)
        self.own = tf.constant(side.own, tf.int32)
        self.history = Ragged(side.history)
        if not self.full:
            return
        zeros = tf_keras.initializers.Zeros()
        small = tf_keras.initializers.RandomNormal(stddev=0.02, seed=config.seed + len(name) + 1)
        self.offset = table("offset", size, 1, zeros)
        self.bag = table("bag", size, width, small)
        self.residual = table("residual", size, width, small)
        self.attribute = table("attribute", max(side.n_attributes, 1), width, small)
        self.attribute_offset = table("attribute_offset", max(side.n_attributes, 1), 1, zeros)
        self.attributes = Ragged(side.attributes)
        reviews = np.bincount(
            side.attributes.items, np.repeat(side.counts, np.diff(side.attributes.offsets)), max(side.n_attributes, 1)
        )
        self.scarcity = tf.constant(config.l2_rare / np.maximum(reviews, 1), tf.float32)
        self.edge_residual = tf.constant(side.residual, tf.float32)
        self.edge_rated = tf.constant(side.rated, tf.float32)
        rarity = 1.0 + config.l2_rare / np.maximum(side.counts, 1)
        self.rarity = tf.constant(rarity, tf.float32)
        self.total, self.number = tf.constant(side.total), tf.constant(side.number)

    @cached_property
    def lookup(self) -> Any:
        """The StringLookup of this side's ids; made when strings are first given (training gives rows)."""
        return tf_keras.layers.StringLookup(vocabulary=[str(name) for name in self._ids][1:], oov_token="")

    def call(self, rows: Any, partner: Any = None) -> Any:
        """Vectors [n, D] of rows (int) or ids (string) with their full histories, as they are answered from."""
        rows = tf.convert_to_tensor(rows)
        if rows.dtype == tf.string:
            rows = tf.cast(self.lookup(rows), tf.int32)
        if not self.full:
            return self.base(rows)
        vectors = self.compose(self.base(rows), self.sums(rows, partner), self.bias(rows))
        return vectors + self.recent(rows, partner.bag) if self.recent else vectors

    def base(self, rows: Any) -> Any:
        """[n, D] what a row's vector is before its history."""
        return self.ids(rows) + self.words(rows) if self.full else self.ids(rows)

    def ids(self, rows: Any) -> Any:
        """[n, D] the embeddings of the rows, of the unknown one where a row has none of its own."""
        return tf.gather(self.embedding, tf.gather(self.own, rows))

    def words(self, rows: Any) -> Any:
        """[n, D] features and title words of the rows; zero where a row has none."""
        if self.side.n_attributes == 0:
            return tf.zeros([tf.size(rows), self.config.dim])
        unique, index = tf.unique(rows)
        segment, attribute, weight = self.listed(unique)
        entries, column = tf.unique(attribute)
        summed = weighted_sum(segment, column, weight, tf.gather(self.attribute, entries), tf.size(unique))
        return tf.gather(summed, index)

    def listed(self, rows: Any) -> tuple[Any, Any, Any]:
        """(segment [E], attribute [E], weight [E]) of the features and title words of rows [n]."""
        segment, position = self.attributes.of(rows)
        number = tf.gather(self.attributes.offsets, rows + 1) - tf.gather(self.attributes.offsets, rows)
        weight = tf.gather(tf.math.rsqrt(tf.cast(number, tf.float32) + 1.0), segment)
        return segment, tf.gather(self.attributes.items, position), weight

    def penalty(self, rows: Any, times: Any, *vectors: Any) -> Any:
        """Mean squared length of vectors [n, D] of rows that stand `times` [n] in a batch; rare rows weigh more."""
        weight = times * tf.gather(self.rarity, rows) / tf.reduce_sum(times)
        return tf.add_n([tf.reduce_sum(tf.reduce_sum(tf.square(part), 1) * weight) for part in vectors])

    def bias(self, rows: Any) -> Any:
        """[n] shrunk bias of the rows against the frozen mean, all reviews in."""
        return tf.gather(self.total, rows) / (tf.gather(self.number, rows) + self.side.shrink)

    def offsets(self, rows: Any) -> Any:
        """[n] learned biases of the rows and of their features and title words, beside the shrunk means."""
        return tf.gather(self.offset, tf.gather(self.own, rows))[:, 0] + self.attribute_bias(rows)

    def attribute_bias(self, rows: Any) -> Any:
        """[n] of their features and title words alone."""
        if self.side.n_attributes == 0:
            return tf.zeros([tf.size(rows)])
        segment, attribute, weight = self.listed(rows)
        worth = weight * tf.gather(self.attribute_offset, attribute)[:, 0]
        return tf.math.unsorted_segment_sum(worth, segment, tf.size(rows))

    def offset_penalty(self, rows: Any) -> Any:
        """Of the rows of a batch: a ridge of `l2_rare` on what each feature and title word is worth, per review."""
        if self.side.n_attributes == 0:
            return 0.0
        _, attribute, _ = self.listed(rows)
        ridge = tf.gather(self.scarcity, attribute) * tf.square(tf.gather(self.attribute_offset, attribute)[:, 0])
        return tf.reduce_sum(ridge) / tf.cast(tf.size(rows), tf.float32)

    def rating_bias(self, rows: Any) -> Any:
        """[n] the shrunk bias that the rating reads: none with `--features ids`."""
        return self.bias(rows) if self.full else tf.zeros([tf.size(rows)])

    def bias_without(self, rows: Any, target: Target, index: Any = None) -> Any:
        """[n] the same without the target review, or without all targets that `index` [B] gives to a row of `rows`.

        Exact, as the mean is frozen.
        """
        own = target.rated * tf.cast(target.edge != HELD_OUT, tf.float32)
        value = target.value * own
        if index is not None:
            value, own = (tf.math.unsorted_segment_sum(part, index, tf.size(rows)) for part in (value, own))
        return (tf.gather(self.total, rows) - value) / (tf.gather(self.number, rows) - own + self.side.shrink)

    def sums(self, rows: Any, partner: Tower, seed: Any = None) -> Sums:
        """Histories of (unique) rows added up over the partner tower's vectors; with a seed some are dropped."""
        segment, position = self.history.of(rows)
        weight = kept(position, seed, self.config.history_dropout)
        entries, column = tf.unique(tf.gather(self.history.items, position))
        bags, residuals = tf.gather(partner.bag, entries), tf.gather(partner.residual, entries)
        n = tf.size(rows)
        size = tf.pad(tf.math.segment_sum(weight, segment), [[0, n]])[:n]
        worth = weight * tf.gather(self.edge_residual, position)
        return Sums(
            weighted_sum(segment, column, weight, bags, n) + weighted_sum(segment, column, worth, residuals, n),
            weighted_sum(segment, column, weight * tf.gather(self.edge_rated, position), residuals, n),
            size,
        )

    def entries(self, rows: Any) -> Entries:
        """What reviews of these rows [n] add to the histories of the other side."""
        return Entries(tf.gather(self.bag, rows), tf.gather(self.residual, rows), self.bias(rows))

    def counted(self, target: Target, seed: Any) -> Any:
        """[B] 1 where this tower's histories hold the target review and this step kept it."""
        return kept(target.edge, seed, self.config.history_dropout)

    def compose(self, base: Any, sums: Sums, bias: Any) -> Any:
        """[n, D] the tower's vectors with all of their histories."""
        return base + (sums.vector - bias[:, None] * sums.level) * tf.math.rsqrt(sums.size + 1.0)[:, None]
