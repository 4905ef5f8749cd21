"""The rating heads: from the vectors of a customer and a product to predicted stars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from amzrec.config import Recipe
from amzrec.model.keras2 import Tensor
from amzrec.model.towers import tf, tf_keras


class Pairs(NamedTuple):
    """B pairs of a customer and a product as a rating head reads them; biases and offsets are in model units."""

    x: Tensor  # [B, K] the K rating dimensions of the customers
    y: Tensor  # [B, K] the K rating dimensions of the products
    customer_bias: Tensor  # [B] shrunk mean of the customer's stars
    product_bias: Tensor  # [B] shrunk mean of the product's stars
    customer_offset: Tensor  # [B] what the tower has learned to add to the customer's stars
    product_offset: Tensor  # [B] what the tower has learned to add to the product's stars


class BiasedHead(tf_keras.layers.Layer):  # type: ignore[misc]
    """The head of towers with histories: offsets, biases, a weighted dot product and an MLP, added up in model units.

    stars − mean = offsets + weighted biases + Σ w · x · y + MLP([x, bias of x, y, bias of y, x · y])
    """

    def __init__(self, recipe: Recipe, bias_scale: tuple[float, float]) -> None:
        """`bias_scale` are the weights of the customer's and the product's shrunk bias at the start."""
        super().__init__(name="rating_head")
        width = recipe.dim - recipe.rating_start
        init = tf_keras.initializers
        self.scale = self.add_weight(name="bias_scale", shape=(2,), initializer=init.Constant(bias_scale))
        self.weight = self.add_weight(name="dot_weight", shape=(width,), initializer=init.Constant(1.0))
        self.mlp = dense_layers(recipe, 3 * width + 2, [*recipe.head, 1], init.Zeros()) if recipe.head else []

    def call(self, pairs: Pairs) -> Tensor:
        """Predict (stars − mean) / unit, [B]."""
        x, y, cross = pairs.x, pairs.y, pairs.x * pairs.y
        biases = tf.stack([pairs.customer_bias, pairs.product_bias], axis=1)
        stars = pairs.customer_offset + pairs.product_offset
        stars += tf.linalg.matvec(biases, self.scale) + tf.linalg.matvec(cross, self.weight)
        if not self.mlp:
            return stars
        return stars + output_of(self.mlp, tf.concat([x, biases[:, :1], y, biases[:, 1:], cross], axis=1))


class PlainHead(tf_keras.layers.Layer):  # type: ignore[misc]
    """The head of towers of ids, as the reference systems have it: stars − mean = MLP([x, y]), in model units."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(name="rating_head")
        self.mlp = dense_layers(recipe, 2 * recipe.dim, [*recipe.head, 1], None)

    def call(self, pairs: Pairs) -> Tensor:
        """Predict (stars − mean) / unit, [B]."""
        return output_of(self.mlp, tf.concat([pairs.x, pairs.y], axis=1))


def dense_layers(
    recipe: Recipe, inputs: int, widths: list[int], last_kernel: Callable[..., Tensor] | None
) -> list[Any]:
    """Build dense layers of these widths on so many inputs, with relu between them.

    `last_kernel` initialises the kernel of the last layer; with None it is initialised as the others are.
    """
    layers, init = [], tf_keras.initializers
    for number, units in enumerate(widths):
        last = number == len(widths) - 1
        kernel = last_kernel if last and last_kernel else init.GlorotUniform(seed=recipe.seed + 10 + number)
        kind = "mixed_bfloat16" if recipe.precision == "bfloat16" and not last else "float32"
        layer = tf_keras.layers.Dense(
            units,
            activation=None if last else "relu",
            kernel_initializer=kernel,
            dtype=tf_keras.mixed_precision.Policy(kind),  # mixed: its weights stay float32
        )
        layer.build((None, inputs))
        layers.append(layer)
        inputs = units
    return layers


def output_of(layers: list[Any], inputs: Tensor) -> Tensor:
    """Return the one output [B] of dense layers on inputs [B, n]."""
    hidden = inputs
    for layer in layers:
        hidden = layer(hidden)
    return tf.squeeze(hidden, 1)
