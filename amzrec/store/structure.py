"""What the arrays of a run must be for each other: lengths that fit, lists within bounds, rows that exist, numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from amzrec.arrays import Array, give_back

if TYPE_CHECKING:
    from amzrec.store.vectors import Vectors

BLOCK = 1 << 20  # numbers that are looked at at a time, so that little memory is held

# Each array, and its lengths: C customers and N products with the unknown one, S kept reviews; see Vectors
SHAPES = {
    "retrieval_query": "C R",
    "retrieval_candidate": "N R",
    "rating_query": "C K+2",
    "rating_candidate": "N K+2",
    "rating_weight": "K",
    "query_base": "C D",
    "history_bag": "N D",
    "history_residual": "N D",
    "product_bias": "N",
    "product_counts": "N",
    "customer_counts": "C",
    "candidates": "M",
    "seen_offsets": "C+1",
    "seen_product": "S",
    "seen_stars": "S",
    "seen_part": "S",
    "context": "T N",
    "rating_context": "T",
    "context_edges": "T-1",
    "memory_offsets": "N+1",
    "memory_items": "P",
    "memory_weights": "P",
    "seen_time": "S",
    "recent_weights": "L",
    "attention_within": "B A E",
    "attention_near": "B H Q",
    "attention_out": "B A A",
    "attention_wide": "B A G",
    "attention_wide_bias": "B G",
    "attention_narrow": "B G A",
    "attention_narrow_bias": "B A",
    "attention_norms": "I J A",
    "feature_offsets": "N+1",
    "feature_items": "F",
    "rater_bag": "C D",
    "rater_residual": "C D",
    "product_base": "N D",
    "product_level": "N D",
    "product_raters": "N",
}
STRINGS = ("customer_ids", "product_ids", "titles", "features")
MAY_BE_NAN = "seen_stars"  # where a source gave none


def check_shapes(vectors: Vectors) -> None:
    """Raise ValueError where lengths do not fit each other, a list ends elsewhere than its items, or head is absurd.

    Reads next to nothing: it is done whenever a run is opened.
    """
    lengths = {"C": len(vectors.customer_ids), "N": len(vectors.product_ids), "S": len(vectors.seen_product)}
    for name, array in vectors.arrays().items():
        for text, found in zip(SHAPES[name].split(), array.shape, strict=True):
            symbol, more = text[0], int(text[1:] or 0)
            expected = lengths.setdefault(symbol, found - more) + more
            if found != expected:
                raise ValueError(f"{name}.npy has a side of {found:,} where {expected:,} belong ({SHAPES[name]})")
    for name in STRINGS:
        strings = getattr(vectors, name)
        if strings is not None and len(strings.offsets) != len(strings) + 1:
            raise ValueError(f"{name}_offsets.npy has {len(strings.offsets):,} entries for {len(strings):,} strings")
    if len(vectors.titles) != len(vectors.product_ids):
        raise ValueError(f"there are {len(vectors.titles):,} titles for {len(vectors.product_ids):,} products")
    for name, offsets, items in lists_of(vectors):
        if len(offsets) and (int(offsets[0]) != 0 or int(offsets[-1]) != len(items)):
            raise ValueError(
                f"{name}.npy goes from {int(offsets[0]):,} to {int(offsets[-1]):,} for {len(items):,} items"
            )
    for number, (kernel, bias) in enumerate(vectors.layers):
        above = vectors.layers[number - 1][1].shape if number else kernel.shape[:1]
        if kernel.shape != (*above, *bias.shape):
            raise ValueError("the layers of the rating head do not fit each other")
    check_attention(vectors)
    check_head(vectors)


def check_attention(vectors: Vectors) -> None:
    """Raise ValueError where some arrays of attention are missing, or do not fit what it reads; see store.attention."""
    names = [name for name in SHAPES if name.startswith("attention_")]
    there = [name for name in names if getattr(vectors, name) is not None]
    if there and there != names:
        raise ValueError(f"{next(name for name in names if name not in there)}.npy is missing")
    if (reader := vectors.attention) is None:
        return
    (blocks, width, made), heads = reader.within.shape, reader.near.shape[1]
    if not blocks or made != 3 * width or not heads or width % heads or width > vectors.head.retrieval_dims:
        raise ValueError(f"attention_within.npy is {reader.within.shape}, which {heads} heads cannot read")
    if reader.norms.shape[:2] != (2 * blocks + 1, 2):
        raise ValueError(f"attention_norms.npy has {reader.norms.shape[0]:,} norms for {blocks:,} blocks")


def check_head(vectors: Vectors) -> None:
    """Raise ValueError for numbers beside the arrays that no training leaves."""
    head = vectors.head
    for field in dataclasses.fields(head):
        value = getattr(head, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{field.name} in vectors.json is {value}, which is no number")
    if head.low > head.high or (head.mean is not None and not head.low <= head.mean <= head.high):
        raise ValueError(f"in vectors.json mean is {head.mean}, where stars go from {head.low} to {head.high}")
    if head.temperature <= 0 or head.retrieval_dims < 0 or head.rating_start < 0:
        raise ValueError("in vectors.json temperature, retrieval_dims or rating_start is below 0")


def check_values(vectors: Vectors) -> None:
    """Raise ValueError where a list begins after it ends, a row or position does not exist, or a number is none.

    Reads everything once, a block at a time.
    """
    for name, offsets, _ in lists_of(vectors):
        for part in blocks(offsets, 1):
            if bool((np.diff(part) < 0).any()):
                raise ValueError(f"{name}.npy does not ascend")
    products, customers = len(vectors.product_ids), len(vectors.customer_ids)
    rows: list[tuple[str, Array | None, int]] = [
        ("candidates", vectors.candidates, products),
        ("seen_product", vectors.seen_product, products),
        ("memory_items", vectors.memory_items, products),
        ("feature_items", vectors.feature_items, 0 if vectors.features is None else len(vectors.features)),
        ("customer_ids_order", vectors.customer_ids.order, customers),
        ("product_ids_order", vectors.product_ids.order, products),
        ("titles_order", vectors.titles.order, products),
    ]
    for name, array, size in rows:
        for part in blocks(array):
            if part.min() < 0 or part.max() >= size:
                raise ValueError(f"{name}.npy has row {int(part.max()):,} or {int(part.min()):,} of {size:,}")
    layers = {f"layer {2 * n + m}": array for n, both in enumerate(vectors.layers) for m, array in enumerate(both)}
    for name, array in (vectors.arrays() | layers).items():
        if array.dtype.kind != "f":
            continue
        for part in blocks(array):
            if not bool(np.isfinite(part).all()) and (name != MAY_BE_NAN or bool(np.isinf(part).any())):
                raise ValueError(f"{name} holds what is no number (NaN or infinite)")


def lists_of(vectors: Vectors) -> list[tuple[str, Array, Array]]:
    """List the arrays of offsets by name, each with what it cuts into lists."""
    pairs: list[tuple[str, Array | None, Array | None]] = [
        ("seen_offsets", vectors.seen_offsets, vectors.seen_product),
        ("memory_offsets", vectors.memory_offsets, vectors.memory_items),
        ("feature_offsets", vectors.feature_offsets, vectors.feature_items),
    ]
    for name in STRINGS:
        strings = getattr(vectors, name)
        pairs.append((f"{name}_offsets", getattr(strings, "offsets", None), getattr(strings, "blob", None)))
    for name, offsets, items in pairs:
        if (offsets is None) != (items is None):
            raise ValueError(f"{name}.npy, or what it cuts into lists, is missing")
    return [(name, offsets, items) for name, offsets, items in pairs if offsets is not None and items is not None]


def blocks(array: Array | None, overlap: int = 0) -> Iterator[Array]:
    """Yield an array in parts along its first side, each with the first entries of the next one; memory is let go."""
    if array is None or not array.size:
        return
    step = max(1, BLOCK // max(1, array.size // len(array)))
    for begin in range(0, len(array), step):
        yield np.asarray(array[begin : begin + step + overlap])
        give_back(array[: begin + step])  # also what the system maps again before where it reads
