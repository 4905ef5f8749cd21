"""How many numbers a model learns, counted before it is built."""

from __future__ import annotations

import itertools

from amzrec.config import Recipe
from amzrec.features.recent import RECENT_PRODUCTS
from amzrec.planning.sizes import Phase, Side


def parameters_of(phase: Phase, recipe: Recipe) -> dict[str, int]:
    """Return how many numbers are learned, by what they are of: customers, products, and the rest.

    Attention (--history sequence) is learned after them, when their tables are gone, and has fewer.
    """
    rest = head(recipe)
    if recipe.features != "ids":
        moved = not recipe.reads_order
        rest += moved  # the temperature
    if recipe.reads_order:
        rest += RECENT_PRODUCTS
    return {
        "customers": tower(phase.customers, recipe),
        "products": tower(phase.products, recipe) + of_each_product(recipe) * phase.products.rows,
        "rest": rest,
    }


def tower(side: Side, recipe: Recipe) -> int:
    """Count the tables of a tower."""
    if recipe.features == "ids":
        return side.own * recipe.width
    heads, width = recipe.heads, recipe.width
    return side.own * (3 * width + heads) + max(side.attributes, 1) * (width + heads)


def of_each_product(recipe: Recipe) -> int:
    """Count what is learned of every product, also of those without a vector of their own."""
    if recipe.features == "ids":
        return 0
    return 1 + (2 * recipe.retrieval_dims if recipe.reads_order else 0)


def head(recipe: Recipe) -> int:
    """Count the head of the rating."""
    biased, width, heads = recipe.features != "ids", recipe.width - recipe.rating_start, recipe.heads
    widths = [3 * width + 2 if biased else 2 * recipe.dim, *(heads * each for each in (*recipe.head, 1))]
    layers = sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(widths))
    return (layers if recipe.head or not biased else 0) + (2 * heads + width if biased else 0)
