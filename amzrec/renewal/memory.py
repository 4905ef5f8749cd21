"""The memory of pairs after an update: built from all fitted reviews, as training built it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from amzrec.arrays import Array, Lists, Rows
from amzrec.features.company import CLOSED_FORM, Company
from amzrec.features.memory import of_order
from amzrec.renewal.beliefs import attributes_of
from amzrec.store.memory import Memory
from amzrec.store.vectors import Vectors

DENSE_WORK = 2e12  # multiplications up to which pairs that customers share are counted anew: about a minute


def remembered(
    vectors: Vectors, choice: dict[str, Any] | None, lists: Lists, candidates: Rows, new: pa.Table
) -> tuple[dict[str, Array], bool]:
    """Return the fields of Vectors that hold the memory, and whether it stayed as it was learned.

    `choice` is `memory` of run.json, `lists` [C + 1] are the products of each customer in time, and `candidates` [M]
    the products that may be recommended. What followed what is counted from all of them. What the same customers have
    is solved for anew where that takes seconds; beyond that its pairs stay, and new products have none. `new` has the
    title and the features of each of the m products that the run does not have.
    """
    old = len(vectors.product_ids)
    size = old + new.num_rows
    if vectors.memory is None:
        return {}, False
    if choice is not None and choice["kind"] == "order":
        return arrays_of(of_order(lists, size).scaled(choice["share"])), False
    work = np.count_nonzero(lists.lengths) * float(len(candidates)) ** 2 + float(len(candidates)) ** 3
    if choice is None or len(candidates) > CLOSED_FORM or work > DENSE_WORK:
        offsets = vectors.memory.neighbours.offsets
        return {"memory_offsets": np.concatenate([offsets, np.full(size + 1 - len(offsets), offsets[-1])])}, True
    attributes = attributes_of(vectors, np.arange(old, dtype=np.int32), new)
    pairs = Company.of(lists, candidates, size, choice["kind"] == "near").memory(choice["ridge"], attributes)
    return arrays_of(pairs.scaled(choice["share"])), False


def arrays_of(memory: Memory) -> dict[str, Array]:
    """Return the arrays of a memory by the names that they have in Vectors."""
    lists = memory.neighbours
    return {"memory_offsets": lists.offsets, "memory_items": lists.items, "memory_weights": memory.weights}
