"""The rating heads: from the vectors of a customer and a product to predicted stars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from amzrec.arrays import Floats, Ints
from amzrec.config import Recipe
from amzrec.model.keras2 import Tensor
from amzrec.model.towers import tf, tf_keras

BOTH = -1  # heads that read an input
SECOND_SHARE = 0.35  # of an answer, what a second head says
SECOND_WEIGHT = 3.0  # of its dot product at the start: it has learned when the first head has (LOG.md, 2026-11-30)


class Pairs(NamedTuple):
    """B pairs of a customer and a product as a rating head reads them; biases and offsets are in model units."""

    x: Tensor  # [B, K] the K rating dimensions of the customers
    y: Tensor  # [B, K] the K rating dimensions of the products
    customer_bias: Tensor  # [B] shrunk mean of the customer's stars
    product_bias: Tensor  # [B] shrunk mean of the product's stars
    customer_offset: Tensor  # [B, H] what the tower has learned to add to the customer's stars, for each of H heads
    product_offset: Tensor  # [B, H] what the tower has learned to add to the product's stars


class BiasedHead(tf_keras.layers.Layer):  # type: ignore[misc]
    """The head of towers with histories: offsets, biases, a weighted dot product and an MLP, added up in model units.

    stars − mean = offsets + weighted biases + Σ w · x · y + MLP([x, bias of x, y, bias of y, x · y])

    There may be a second head, which reads the last dimensions alone and is learned by an error of its own. Both are
    computed at once, each product as one in which what the other head has is 0. Answers are SECOND_SHARE of what the
    second one says and the rest of what the first one does: two models that err differently err less together (the
    ambiguity decomposition, Krogh & Vedelsby 1995).
    """

    def __init__(self, recipe: Recipe, bias_scale: tuple[float, float]) -> None:
        """`bias_scale` are the weights of the customer's and the product's shrunk bias at the start."""
        super().__init__(name="rating_head")
        init, width = tf_keras.initializers, recipe.width - recipe.rating_start
        of_head = np.arange(width) >= recipe.dim - recipe.rating_start if recipe.second_head else np.zeros(width)
        self.of_head = of_head.astype(np.int64)  # [K] which head reads a dimension
        self.shares = (1.0 - SECOND_SHARE, SECOND_SHARE) if recipe.second_head else (1.0,)
        self.scale = self.add_weight(
            name="bias_scale", shape=(2 * recipe.heads,), initializer=init.Constant(bias_scale * recipe.heads)
        )
        self.weight = self.add_weight(
            name="dot_weight", shape=(width,), initializer=init.Constant(np.where(of_head, SECOND_WEIGHT, 1.0))
        )
        biases = np.full(1, BOTH)
        read = np.concatenate([self.of_head, biases, self.of_head, biases, self.of_head])
        self.mlp = dense_layers(recipe, read, init.Zeros(), recipe.heads) if recipe.head else []

    def call(self, pairs: Pairs) -> Tensor:
        """Predict (stars − mean) / unit, [B]."""
        said = self.by_head(pairs)
        return tf.squeeze(said, 1) if len(self.shares) == 1 else tf.linalg.matvec(said, tf.constant(self.shares))

    def predictions(self, pairs: Pairs) -> Tensor:
        """Predict (stars − mean) / unit by each of H heads, [H · B], one head after the other."""
        said = self.by_head(pairs)
        return tf.squeeze(said, 1) if len(self.shares) == 1 else tf.reshape(tf.transpose(said), [-1])

    def by_head(self, pairs: Pairs) -> Tensor:
        """Predict (stars − mean) / unit by each of H heads, [B, H]."""
        x, y, cross, heads = pairs.x, pairs.y, pairs.x * pairs.y, len(self.shares)
        biases = tf.stack([pairs.customer_bias, pairs.product_bias], axis=1)
        weight = self.weight[:, None]
        if heads > 1:
            weight *= tf.constant(np.equal.outer(self.of_head, np.arange(heads)).astype(np.float32))
        scale = tf.reshape(self.scale, [heads, 2])
        stars = [pairs.customer_offset, pairs.product_offset]
        stars += [tf.matmul(biases, scale, transpose_b=True), tf.matmul(cross, weight)]
        if self.mlp:
            hidden = tf.concat([x, biases[:, :1], y, biases[:, 1:], cross], axis=1)
            for layer in self.mlp:
                hidden = layer(hidden)
            stars.append(hidden)
        return tf.add_n(stars)


class PlainHead(tf_keras.layers.Layer):  # type: ignore[misc]
    """The head of towers of ids, as the reference systems have it: stars − mean = MLP([x, y]), in model units."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(name="rating_head")
        self.shares = (1.0,)
        self.mlp = dense_layers(recipe, np.zeros(2 * recipe.dim, np.int64), None)

    def call(self, pairs: Pairs) -> Tensor:
        """Predict (stars − mean) / unit, [B]."""
        hidden = tf.concat([pairs.x, pairs.y], axis=1)
        for layer in self.mlp:
            hidden = layer(hidden)
        return tf.squeeze(hidden, 1)

    def predictions(self, pairs: Pairs) -> Tensor:
        """Predict (stars − mean) / unit, [B]; there is one head."""
        return self(pairs)


class DenseOfHeads(tf_keras.layers.Dense):  # type: ignore[misc]
    """A dense layer in which no head reads what another one has: the kernel counts where `mask` is 1."""

    def __init__(self, units: int, mask: Floats, **options: Any) -> None:
        super().__init__(units, **options)
        self.mask = mask

    @property
    def masked(self) -> Tensor:
        """The kernel [inputs, units] as it counts."""
        return self.kernel if self.mask.all() else self.kernel * tf.constant(self.mask, self.kernel.dtype)

    def call(self, inputs: Tensor) -> Tensor:
        """Compute activation(inputs · kernel + bias)."""
        found = tf.nn.bias_add(tf.matmul(inputs, self.masked), self.bias)
        return found if self.activation is None else self.activation(found)


def dense_layers(
    recipe: Recipe, read: Ints, last_kernel: Callable[..., Tensor] | None, heads: int = 1
) -> list[DenseOfHeads]:
    """Build the hidden layers of a recipe for each of H heads, and one output each, with relu between them.

    `read` [inputs] is the head that reads each input, or BOTH. `last_kernel` initialises the kernel of the last layer;
    with None it is initialised as the others are, each head's part by itself.
    """
    layers = []
    for number, width in enumerate([*recipe.head, 1]):
        last = number == len(recipe.head)
        has = np.repeat(np.arange(heads), width)  # which head each unit is of
        mask = (np.equal.outer(read, has) | (read == BOTH)[:, None]).astype(np.float32)
        kind = "mixed_bfloat16" if recipe.precision == "bfloat16" and not last else "float32"
        layer = DenseOfHeads(
            width * heads,
            mask,
            activation=None if last else "relu",
            kernel_initializer=last_kernel if last and last_kernel else by_heads(recipe, mask, has, number),
            dtype=tf_keras.mixed_precision.Policy(kind),  # mixed: its weights stay float32
        )
        layer.build((None, len(read)))
        layers.append(layer)
        read = has
    return layers


def by_heads(recipe: Recipe, mask: Floats, has: Ints, number: int) -> Callable[..., Tensor]:
    """Initialise the part of a kernel that each head reads as if there were no other, and the rest by 0.

    `has` [units] is the head that each unit is of, `number` that of the layer.
    """

    def start(shape: Any, dtype: Any = None, **options: Any) -> Tensor:
        kernel = np.zeros(shape, np.float32)
        for head in np.unique(has).tolist():
            part = np.ix_(mask[:, has == head][:, 0] > 0, has == head)
            glorot = tf_keras.initializers.GlorotUniform(seed=recipe.seed + 10 * (1 + head) + number)
            kernel[part] = glorot(kernel[part].shape).numpy()
        return tf.constant(kernel, dtype)

    return start
