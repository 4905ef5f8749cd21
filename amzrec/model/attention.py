"""Causal self-attention over what customers took, in order: store.attention.Attention, learned."""

from __future__ import annotations

from typing import Any

import numpy as np

from amzrec.arrays import Floats
from amzrec.config import Recipe
from amzrec.features.columns import StepColumns
from amzrec.features.fitted import FittedReviews
from amzrec.features.windows import LAST, WindowColumns
from amzrec.model.encoders import Encoded
from amzrec.model.head import Pairs
from amzrec.model.keras2 import Tensor
from amzrec.model.multitask import RetrievalTask, tfrs
from amzrec.model.sparse import take
from amzrec.model.towers import tf
from amzrec.store.attention import EPSILON, HIDDEN, Attention

WIDTH = 64  # numbers per product
BLOCKS, HEADS = 2, 2
DROPOUT = 0.2  # share of the numbers that each part of a block drops while training


class AttentionEncoder(tf.Module):  # type: ignore[misc]
    """Products as vectors, read and asked for with one table, and the blocks that read them in order."""

    def __init__(self, size: int, seed: int) -> None:
        """`size` is N + 1, the number of product rows."""
        super().__init__()
        rng, d = np.random.default_rng([seed, 5]), WIDTH

        def table(name: str, *shape: int, spread: float) -> Any:
            return tf.Variable(rng.normal(0, spread, shape).astype(np.float32), name=name)

        glorot, norms = (1 / d) ** 0.5, np.zeros((2 * BLOCKS + 1, 2, d), np.float32)
        norms[:, 0] = 1
        self.products = table("products", size, d, spread=0.05)
        self.within = table("within", BLOCKS, d, 3 * d, spread=glorot)
        self.near = tf.Variable(np.zeros((BLOCKS, HEADS, LAST), np.float32), name="near")
        self.out = table("out", BLOCKS, d, d, spread=glorot)
        self.wide = table("wide", BLOCKS, d, d, spread=glorot)
        self.wide_bias = tf.Variable(np.zeros((BLOCKS, d), np.float32), name="wide_bias")
        self.narrow = table("narrow", BLOCKS, d, d, spread=glorot)
        self.narrow_bias = tf.Variable(np.zeros((BLOCKS, d), np.float32), name="narrow_bias")
        self.norms = tf.Variable(norms, name="norms")

    def encode(self, columns: StepColumns) -> Encoded:
        """Let what stands before each review of the windows ask for its product."""
        windows: WindowColumns = columns["windows"]
        read = tf.reshape(self.read(tf.reshape(windows.items, windows.shape), windows.seed), [-1, WIDTH])
        queries = tf.gather(tf.concat([read, tf.zeros([1, WIDTH])], 0), windows.asking)
        nothing = Pairs(*[tf.zeros([0])] * 6)
        positives, candidates = take(self.products, windows.targets), take(self.products, windows.candidates)
        return Encoded(queries, positives, candidates, nothing, tf.constant(0.0))

    def read(self, items: Tensor, seed: Tensor | None = None) -> Tensor:
        """Read windows of product rows [n, T] up to each of their positions: [n, T, d].

        With a `seed` [2] some numbers are dropped, as it draws; without, none.
        """
        flat = take(self.products, tf.reshape(items, [-1]))
        x = tf.reshape(flat, [-1, tf.shape(items)[1], WIDTH]) * WIDTH**0.5
        drop = Dropout(seed)
        x, place = drop(x), tf.range(tf.shape(items)[1])
        distance = place[:, None] - place
        later = tf.where(distance >= 0, 0.0, float(HIDDEN))
        for block in range(BLOCKS):
            near = tf.gather(self.near[block], tf.maximum(distance, 0), axis=1) + later  # [H, T, T]
            x += drop(self.attended(block, self.normed(x, 2 * block), near, drop))
            hidden = tf.nn.relu(tf.matmul(self.normed(x, 2 * block + 1), self.wide[block]) + self.wide_bias[block])
            x += drop(tf.matmul(drop(hidden), self.narrow[block]) + self.narrow_bias[block])
        return self.normed(x, 2 * BLOCKS)

    def attended(self, block: int, x: Tensor, near: Tensor, drop: Dropout) -> Tensor:
        """Return what each position of x [n, T, d] takes from those up to it; `near` [H, T, T] is added to logits."""
        shape = tf.stack([tf.shape(x)[0], tf.shape(x)[1], 3 * HEADS, WIDTH // HEADS])
        made = tf.transpose(tf.reshape(tf.matmul(x, self.within[block]), shape), [0, 2, 1, 3])  # [n, 3 H, T, d / H]
        queries, keys, values = tf.split(made, 3, axis=1)
        logits = tf.matmul(queries, keys, transpose_b=True) * (WIDTH // HEADS) ** -0.5 + near
        taken = tf.transpose(tf.matmul(drop(tf.nn.softmax(logits)), values), [0, 2, 1, 3])
        return tf.matmul(tf.reshape(taken, tf.shape(x)), self.out[block])

    def normed(self, x: Tensor, number: int) -> Tensor:
        """Return vectors [n, T, d] less their mean, over the root of their variance, scaled and shifted."""
        mean, variance = tf.nn.moments(x, -1, keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + EPSILON) * self.norms[number, 0] + self.norms[number, 1]

    def attention(self) -> Attention:
        """Return what reads histories, as arrays."""
        names = ("within", "near", "out", "wide", "wide_bias", "narrow", "narrow_bias", "norms")
        return Attention(**{name: getattr(self, name).numpy() for name in names})


class Dropout:
    """Drops a share of the numbers of tensors, others of each, as a seed [2] draws; nothing without a seed."""

    def __init__(self, seed: Tensor | None) -> None:
        self.seed, self.calls = None if seed is None else tf.reshape(seed, [2]), 0

    def __call__(self, x: Tensor) -> Tensor:
        """Return x with some of its numbers 0 and all others larger by as much, so that the mean is the same."""
        if self.seed is None:
            return x
        self.calls += 1
        seed = self.seed + tf.constant([self.calls, 0], self.seed.dtype)
        return tf.nn.experimental.stateless_dropout(x, DROPOUT, seed=seed, rng_alg="philox")


class AttentionModel(tfrs.models.Model):  # type: ignore[misc]
    """The softmax of retrieval on what attention reads; it learns from the columns of features.windows."""

    def __init__(self, recipe: Recipe, fitted: FittedReviews) -> None:
        super().__init__()
        self.encoder = AttentionEncoder(len(fitted.products), recipe.seed)
        self.retrieval = RetrievalTask(self, recipe, fitted)
        self.loss_means = self._no_dependency([self.retrieval.metric])  # as MultitaskModel has them

    @property
    def metrics(self) -> list[Any]:
        """Return what Keras resets at the beginning of each epoch."""
        means: list[Any] = self.loss_means
        return means

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def compute_loss(self, inputs: StepColumns, training: bool = False) -> Tensor:
        """Return the mean loss of the step, a scalar."""
        loss = self.retrieval.loss(inputs, self.encoder.encode(inputs))
        self.retrieval.metric.update_state(loss)
        return loss


def known_products(encoder: AttentionEncoder, fitted: FittedReviews) -> Floats:
    """Return the vectors [N + 1, d] of products; 0 for those without reviews, which were never learned of."""
    vectors: Floats = np.where(fitted.products.counts[:, None] > 0, encoder.products.numpy(), 0)
    vectors[0] = 0
    return vectors
