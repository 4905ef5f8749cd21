"""The rules of a list in TensorFlow: which candidates it may hold, and how it is chosen from the best of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from amzrec.answers.rules import DEPTH, TIMES
from amzrec.exports.parts import RowLookup, Tensor, constant
from amzrec.model.keras2 import import_tensorflow
from amzrec.store.strings import Strings
from amzrec.store.vectors import Vectors

tf: Any = import_tensorflow()

ENDLESS = int(np.iinfo(np.int32).max)  # the limit of what has none


class ServedRules(tf.Module):  # type: ignore[misc]
    """Answers as Recommender.only and answers.rules.Rules do; a feature that no product has matches nothing.

    B customers, M candidates, D best candidates that a list is chosen from, F features, L most features of one product.
    """

    def __init__(self, vectors: Vectors, assets: Path) -> None:
        """`assets` is a folder that lives until the module is saved."""
        super().__init__()
        features = vectors.features
        texts = [features[row] for row in range(len(features))] if features else []
        number: dict[str, int] = {}
        name_of = [number.setdefault(text.partition("=")[0], len(number) + 1) for text in texts]
        self.features = RowLookup(Strings.of(["", *texts]), assets / "features.txt")
        self.names = RowLookup(Strings.of(["", *number]), assets / "names.txt")
        self.name_of = constant(np.array([0, *name_of], np.int64))  # [F + 1] row 0: what is unknown
        lists = vectors.features_of_products.take(np.asarray(vectors.candidates))
        self.offsets = constant(lists.offsets)  # [M + 1]
        self.items = constant(lists.items.astype(np.int64) + 1)  # rows of name_of

    def allowed(self, only: Tensor, never: Tensor) -> Tensor:
        """Tell which candidates [M] have of every name in `only` one of its values, and nothing of `never`."""
        only = tf.boolean_mask(only, only != "")
        names, group = tf.unique(tf.strings.regex_replace(only, "(?s)=.*", ""))
        wanted = self.holders(self.features.lookup(only), group, tf.size(names))
        unwanted = self.holders(self.features.lookup(never), tf.zeros_like(never, tf.int32), tf.constant(1))
        return tf.reduce_all(wanted, axis=1) & ~tf.reduce_any(unwanted, axis=1)

    def holders(self, features: Tensor, group: Tensor, groups: Tensor) -> Tensor:
        """Tell which candidates have a feature of each group [M, groups]; `group` [n] is that of each feature [n]."""
        group_of = tf.tensor_scatter_nd_update(tf.fill(tf.shape(self.name_of), -1), features[:, None], group)
        lists = tf.RaggedTensor.from_row_splits(tf.gather(group_of, self.items), self.offsets, validate=False)
        at = tf.where(lists.flat_values >= 0)[:, 0]
        place = tf.stack([tf.gather(lists.value_rowids(), at), tf.cast(tf.gather(lists.flat_values, at), tf.int64)], 1)
        shape = tf.stack([lists.nrows(), tf.cast(groups, tf.int64)])
        return tf.scatter_nd(place, tf.ones_like(at, tf.int32), shape) > 0

    def limits(self, at_most: Tensor, count: Tensor) -> Tensor:
        """Tell how many products with each feature [F + 1] a list may hold; ENDLESS where `at_most` names it not."""
        checks = [
            tf.debugging.assert_equal(tf.size(at_most), tf.size(count), "at_most and at_most_count must be as long"),
            tf.debugging.assert_positive(tf.where(at_most == "", 1, count), "at_most_count must be at least 1"),
        ]
        with tf.control_dependencies([check for check in checks if check is not None]):
            most = tf.where(at_most == "", ENDLESS, count)
        endless = tf.fill([tf.reduce_max(self.name_of) + 1], ENDLESS)
        return tf.gather(tf.tensor_scatter_nd_min(endless, self.names.lookup(at_most)[:, None], most), self.name_of)

    def depth(self, k: Tensor, plain: Tensor) -> Tensor:
        """Tell how many of the best candidates a list of k is chosen from; a `plain` list holds simply the best."""
        return tf.where(plain, k, tf.maximum(tf.maximum(k, DEPTH), TIMES * k))

    def choose(
        self, score: Tensor, vectors: Tensor, features: Tensor, most: Tensor, k: Tensor, share: Tensor
    ) -> Tensor:
        """Choose k of the best candidates, best first: their positions [B, k], -1 where the rules leave fewer.

        `score` [B, D] is -inf where there is no candidate, `vectors` are [B, D, d]; `features` and `most` [B, D, L] are
        the limited features of each and their limits; `share` is that of unlikeness, see Rules.choose.
        """
        relevance = (1 - share) * scaled(score)
        units = tf.math.divide_no_nan(vectors, tf.norm(vectors, axis=2, keepdims=True))

        def step(number: Tensor, left: Tensor, likeness: Tensor, counts: Tensor, chosen: Tensor) -> tuple[Tensor, ...]:
            left &= tf.reduce_all(counts < most, axis=2)
            place = tf.argmax(tf.where(left, relevance - share * likeness, -np.inf), axis=1)  # [B]
            found = tf.gather(left, place, batch_dims=1)
            left &= ~tf.one_hot(place, tf.shape(left)[1], on_value=True, off_value=False)
            cosine = tf.reduce_sum(units * tf.gather(units, place, batch_dims=1)[:, None], axis=2)  # [B, D]
            likeness = tf.where(number > 0, tf.maximum(likeness, cosine), cosine)
            same = features[:, :, :, None] == tf.gather(features, place, batch_dims=1)[:, None, None, :]
            counts += tf.reduce_sum(tf.cast(same, tf.int32), axis=3)
            return number + 1, left, likeness, counts, chosen.write(number, tf.where(found, place, -1))

        start = (
            tf.constant(0),
            score > -np.inf,
            tf.zeros_like(score),
            tf.zeros_like(features, tf.int32),
            tf.TensorArray(tf.int64, k, element_shape=[None]),
        )
        chosen = tf.while_loop(lambda number, *_: number < k, step, start)[-1]
        return tf.transpose(chosen.stack())

    def limited(self, column: Tensor, limits: Tensor) -> tuple[Tensor, Tensor]:
        """List the features [B, D, L] of candidates [B, D] that have a limit, and their limits."""
        flat = tf.reshape(column, [-1])
        slots = tf.ragged.range(tf.gather(self.offsets, flat), tf.gather(self.offsets, flat + 1))
        lists = slots.with_flat_values(tf.gather(self.items, slots.flat_values))
        most = lists.with_flat_values(tf.gather(limits, lists.flat_values))
        meant = most < ENDLESS
        features = tf.ragged.boolean_mask(lists, meant).to_tensor(0)
        shape = tf.concat([tf.shape(column), tf.shape(features)[1:]], axis=0)
        most = tf.ragged.boolean_mask(most, meant).to_tensor(ENDLESS)
        return tf.reshape(features, shape), tf.reshape(most, shape)


def scaled(score: Tensor) -> Tensor:
    """Scale what a list is ordered by to 0 .. 1 in each line [B, D], as Rules.relevance; 1 where all are equal."""
    real = score > -np.inf
    low = tf.reduce_min(tf.where(real, score, np.inf), axis=1, keepdims=True)
    spread = tf.reduce_max(score, axis=1, keepdims=True) - low
    return tf.where(real & (spread > 0), (score - low) / tf.where(spread > 0, spread, 1.0), 1.0)
