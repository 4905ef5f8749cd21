"""What is believed of a product before it has raters that are known: what its features and title words say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from amzrec.arrays import Floats, Rows
from amzrec.features.attributes import Attributes
from amzrec.features.ridge import RARE, by_attributes
from amzrec.reviews.arrow import array_of
from amzrec.reviews.titles import tokens
from amzrec.store.vectors import Vectors

LEARNED_FROM = 5000  # most reviewed products that tell what attributes say


def believed(vectors: Vectors, new: pa.Table, tables: Sequence[Floats]) -> Floats:
    """Return what is believed of new products, [m, d], from tables [N + 1, ·] of the products of a run, d wide in all.

    `new` has the title and the features of each of the m products. It is a ridge regression of the most reviewed
    products on their attributes, as `train` has it for products without reviews (training/coldstart.py), and the mean
    for a product without attributes.
    """
    known = most_reviewed(vectors)
    values = np.concatenate([table[known] for table in tables], axis=1).astype(np.float32)
    counts = np.concatenate([vectors.product_counts[known], np.zeros(new.num_rows, np.int64)])
    attributes = attributes_of(vectors, known, new)
    padded = np.concatenate([values, np.zeros((new.num_rows, values.shape[1]), np.float32)])
    return by_attributes(attributes, counts, padded, RARE)[len(known) :]


def attributes_of(vectors: Vectors, rows: Rows, new: pa.Table) -> Attributes:
    """Return the attributes of product rows [n] of a run and of new products, [n + m], which `new` describes."""
    both = pa.concat_tables([described(vectors, rows), new.select(["title", "features"])])
    titles = pc.cast(both["title"], pa.string()).combine_chunks()
    return Attributes.of(pa.table({"features": both["features"], "tokens": tokens(titles)}))


def most_reviewed(vectors: Vectors) -> Rows:
    """Return the rows of the most reviewed products, ascending: at most LEARNED_FROM, all with reviews."""
    counts = np.asarray(vectors.product_counts)
    order = np.argsort(-counts, kind="stable")[:LEARNED_FROM]
    return np.sort(order[counts[order] > 0]).astype(np.int32)


def described(vectors: Vectors, rows: Rows) -> pa.Table:
    """Return the title and the features of product rows [n] of a run."""
    names = vectors.features
    lists = vectors.features_of_products.take(rows)
    words = [] if names is None else [names[row] for row in lists.items.tolist()]
    features = pa.ListArray.from_arrays(array_of(lists.offsets.astype(np.int32)), pa.array(words, pa.string()))
    titles = pc.cast(vectors.titles.as_arrow().take(array_of(rows)), pa.string())
    return pa.table({"title": titles, "features": features})
