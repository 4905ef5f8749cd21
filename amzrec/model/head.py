"""The rating heads: from the vectors of a customer and a product to predicted stars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from amzrec.config import Recipe
from amzrec.model.keras2 import Tensor
from amzrec.model.towers import tf, tf_keras

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
    """The heads of towers with histories, one or two: each predicts the stars from dimensions of its own.

    Each is learned by an error of its own. Answers are SECOND_SHARE of what the second one says and the rest of what
    the first one does: two models that err differently err less together (the ambiguity decomposition,
    Krogh & Vedelsby 1995).
    """

    def __init__(self, recipe: Recipe, bias_scale: tuple[float, float]) -> None:
        """`bias_scale` are the weights of the customer's and the product's shrunk bias at the start."""
        super().__init__(name="rating_head")
        self.heads = [PairHead(recipe, recipe.dim - recipe.rating_start, bias_scale)]
        self.shares: tuple[float, ...] = (1.0,)
        if recipe.second_head:
            self.heads.append(PairHead(recipe, recipe.second_head, bias_scale, second=True))
            self.shares = (1.0 - SECOND_SHARE, SECOND_SHARE)

    def call(self, pairs: Pairs) -> Tensor:
        """Predict (stars − mean) / unit, [B]."""
        said = self.predictions(pairs)
        if len(said) == 1:
            return said[0]
        return tf.add_n([share * each for share, each in zip(self.shares, said, strict=True)])

    def predictions(self, pairs: Pairs) -> list[Tensor]:
        """Predict (stars − mean) / unit by each head, [B] each."""
        biases = tf.stack([pairs.customer_bias, pairs.product_bias], axis=1)
        offsets, found, start = pairs.customer_offset + pairs.product_offset, [], 0
        for number, head in enumerate(self.heads):
            read = slice(start, start + head.width) if len(self.heads) > 1 else slice(None)
            found.append(head([pairs.x[:, read], pairs.y[:, read], biases, offsets[:, number]]))
            start += head.width
        return found


class PairHead(tf_keras.layers.Layer):  # type: ignore[misc]
    """A head: offsets, biases, a weighted dot product and an MLP, added up in model units.

    stars − mean = offsets + weighted biases + Σ w · x · y + MLP([x, bias of x, y, bias of y, x · y])
    """

    def __init__(self, recipe: Recipe, width: int, bias_scale: tuple[float, float], *, second: bool = False) -> None:
        """It reads `width` dimensions; `bias_scale` are the weights of both biases at the start."""
        super().__init__(name="second" if second else "first")
        init = tf_keras.initializers
        start = init.Constant(SECOND_WEIGHT if second else 1.0)
        self.width = width
        before = "second_" if second else ""
        self.scale = self.add_weight(name=f"{before}bias_scale", shape=(2,), initializer=init.Constant(bias_scale))
        self.weight = self.add_weight(name=f"{before}dot_weight", shape=(width,), initializer=start)
        widths, seed = [*recipe.head, 1], 20 if second else 10
        self.mlp = dense_layers(recipe, 3 * width + 2, widths, init.Zeros(), seed) if recipe.head else []

    def call(self, inputs: list[Tensor]) -> Tensor:
        """Predict (stars − mean) / unit, [B], from x [B, K], y [B, K], both biases [B, 2] and the offset [B]."""
        x, y, biases, offset = inputs
        cross = x * y
        stars = offset + tf.linalg.matvec(biases, self.scale) + tf.linalg.matvec(cross, self.weight)
        if not self.mlp:
            return stars
        return stars + output_of(self.mlp, tf.concat([x, biases[:, :1], y, biases[:, 1:], cross], axis=1))


class PlainHead(tf_keras.layers.Layer):  # type: ignore[misc]
    """The head of towers of ids, as the reference systems have it: stars − mean = MLP([x, y]), in model units."""

    shares = (1.0,)

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(name="rating_head")
        self.mlp = dense_layers(recipe, 2 * recipe.dim, [*recipe.head, 1], None)

    def call(self, pairs: Pairs) -> Tensor:
        """Predict (stars − mean) / unit, [B]."""
        return output_of(self.mlp, tf.concat([pairs.x, pairs.y], axis=1))

    def predictions(self, pairs: Pairs) -> list[Tensor]:
        """Predict (stars − mean) / unit, [B]; there is one head."""
        return [self(pairs)]


def dense_layers(
    recipe: Recipe, inputs: int, widths: list[int], last_kernel: Callable[..., Tensor] | None, start: int = 10
) -> list[Any]:
    """Build dense layers of these widths on so many inputs, with relu between them.

    `last_kernel` initialises the kernel of the last layer; with None it is initialised as the others are, whose seeds
    are those of the recipe and `start`, and one more for each layer.
    """
    layers, init = [], tf_keras.initializers
    for number, units in enumerate(widths):
        last = number == len(widths) - 1
        kernel = last_kernel if last and last_kernel else init.GlorotUniform(seed=recipe.seed + start + number)
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
