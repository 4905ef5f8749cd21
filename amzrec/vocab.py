"""Ids in order with their counts, and what is known of a product or customer: titles, tokens, features."""

from __future__ import annotations

import html
import re
import zlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from amzrec.dataset import CUSTOMER_SCHEMA, PRODUCT_SCHEMA
from amzrec.sources.relation import Facts

WORD = re.compile(r"\w+")
JUNK = ("<span class=", "<img ", "var aPageStart")  # page source that some Amazon metadata has for a title


def clean_title(title: str | None) -> str | None:
    """A title as people read it: entities decoded, blanks squeezed; None for page source or nothing."""
    if title is None or title.lstrip().startswith(JUNK):
        return None
    return " ".join(html.unescape(title).split()) or None


def tokens(title: str | None) -> list[int]:
    """crc32 & 0x7fffffff of the lower-cased words of a title, in order (Python's hash changes per process)."""
    return [zlib.crc32(word.encode()) & 0x7FFFFFFF for word in WORD.findall((title or "").lower())]


def in_order(ids: list[str], counts: npt.NDArray[np.int64], listed: list[str]) -> tuple[list[str], list[int]]:
    """Ids by descending train count, ties by id, then the merely listed ones by id; with their counts."""
    known = sorted(zip(ids, counts.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0].encode()))
    extra = sorted(set(listed).difference(ids), key=str.encode)
    return [i for i, _ in known] + extra, [n for _, n in known] + [0] * len(extra)


def customers_table(ids: list[str], counts: list[int], facts: Facts) -> pa.Table:
    """customers.parquet: row 0 is the unknown customer."""
    features = [facts[i][1] if i in facts else [] for i in ids]
    columns = [range(len(ids) + 1), ["", *ids], [0, *counts], [[], *features]]
    return pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, CUSTOMER_SCHEMA, strict=True)], schema=CUSTOMER_SCHEMA
    )


def products_table(ids: list[str], counts: list[int], facts: Facts) -> pa.Table:
    """products.parquet: row 0 is the unknown product; `facts` gives raw titles and features by id."""
    titles = [clean_title(facts[i][0]) if i in facts else None for i in ids]
    features = [facts[i][1] if i in facts else [] for i in ids]
    columns = [
        range(len(ids) + 1),
        ["", *ids],
        [None, *titles],
        [0, *counts],
        [[], *features],
        [[], *(tokens(t) for t in titles)],
    ]
    return pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, PRODUCT_SCHEMA, strict=True)], schema=PRODUCT_SCHEMA
    )
