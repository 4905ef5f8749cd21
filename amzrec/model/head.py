"""From two vectors to stars: the rating heads."""

from __future__ import annotations

from typing import Any, NamedTuple

from amzrec.config import Recipe
from amzrec.model.towers import Tensor, tf, tf_keras


class Pairs(NamedTuple):
    """Customers and products as the rating sees them: K rating dimensions and the biases, in model units."""

    x: Tensor  # [B, K]
    y: Tensor  # [B, K]
    customer_bias: Tensor  # [B] shrunk means
    product_bias: Tensor  # [B]
    customer_offset: Tensor  # [B] learned beside the shrunk means
    product_offset: Tensor  # [B]


class BiasedHead(tf_keras.layers.Layer):  # type: ignore[misc]
    """stars − mean = biases of both + Σ w · x · y + MLP([x, bias, y, bias, x · y]), in model units."""

    def __init__(self, recipe: Recipe, bias_scale: tuple[float, float]) -> None:
        """`bias_scale` is what the shrunk biases of customer and product are worth at the start."""
        super().__init__(name="rating_head")
        width = recipe.dim - recipe.rating_start
        init: Any = tf_keras.initializers
        self.scale = self.add_weight(name="bias_scale", shape=(2,), initializer=init.Constant(bias_scale))
        self.weight = self.add_weight(name="dot_weight", shape=(width,), initializer=init.Constant(1.0))
        self.mlp = perceptron(recipe, 3 * width + 2, [*recipe.head, 1], init.Zeros()) if recipe.head else []

    def call(self, pairs: Pairs) -> Tensor:
        """Predicted (stars − mean) / unit, [B]."""
        x, y, cross = pairs.x, pairs.y, pairs.x * pairs.y
        biases = tf.stack([pairs.customer_bias, pairs.product_bias], axis=1)
        stars = pairs.customer_offset + pairs.product_offset
        stars += tf.linalg.matvec(biases, self.scale) + tf.linalg.matvec(cross, self.weight)
        if not self.mlp:
            return stars
        return stars + applied(self.mlp, tf.concat([x, biases[:, :1], y, biases[:, 1:], cross], axis=1))


class PlainHead(tf_keras.layers.Layer):  # type: ignore[misc]
    """stars − mean = MLP([x, y]), in model units, as the reference systems have it."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(name="rating_head")
        self.mlp = perceptron(recipe, 2 * recipe.dim, [*recipe.head, 1], None)

    def call(self, pairs: Pairs) -> Tensor:
        """Predicted (stars − mean) / unit, [B]."""
        return applied(self.mlp, tf.concat([pairs.x, pairs.y], axis=1))


def perceptron(recipe: Recipe, inputs: int, widths: list[int], last_kernel: Any) -> list[Any]:
    """Dense layers of these widths, relu between them; `last_kernel` initialises the last one, None: as the others."""
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


def applied(layers: list[Any], hidden: Tensor) -> Tensor:
    """The one output [B] of dense layers on inputs [B, n]."""
    for layer in layers:
        hidden = layer(hidden)
    return tf.squeeze(hidden, 1)
