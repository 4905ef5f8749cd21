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
    if recipe.features == "ids":
        return dense(2 * recipe.dim, recipe)
    widths = [recipe.dim - recipe.rating_start, *([recipe.second_head] if recipe.second_head else [])]
    return sum(2 + width + (dense(3 * width + 2, recipe) if recipe.head else 0) for width in widths)


def dense(inputs: int, recipe: Recipe) -> int:
    """Count the layers of a head that reads so many numbers."""
    return sum((n + 1) * outputs for n, outputs in itertools.pairwise([inputs, *recipe.head, 1]))
