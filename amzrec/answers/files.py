"""Files of recommendations: blocks of arrays written as Parquet, CSV or JSON lines, with ids and titles."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.answers.everyone import Block
from amzrec.answers.recommender import Recommender
from amzrec.errors import CONTROL, printable

FORMULA = re.compile("^[=+@＝＋－＠-]")  # how formulas of spreadsheets begin; a tab is shown as \\t already


@contextlib.contextmanager
def writer(file: Path, model: Recommender) -> Iterator[Callable[[Block], None]]:
    """Give a function that appends a block to `file`, in the format of its suffix."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    table_of = tables(model, shown=file.suffix == ".csv")
    if file.suffix == ".jsonl":
        with file.open("w", encoding="utf-8") as lines:
            yield lambda block: lines.writelines(
                json.dumps({name: value for name, value in row.items() if value is not None}, ensure_ascii=False) + "\n"
                for row in table_of(block).to_pylist()
            )
    else:
        nobody, nothing = np.zeros(0, np.int32), np.zeros(0, np.float32)
        empty = Block(nobody, nobody, nobody, nothing, nothing if model.has_stars else None)
        kind = pa.parquet.ParquetWriter if file.suffix == ".parquet" else pa.csv.CSVWriter
        with kind(str(file), table_of(empty).schema) as sink:
            yield lambda block: sink.write_table(table_of(block))


def all_harmless(texts: Any) -> Any:
    """Return an Arrow array of texts that steer no terminal and are no formulas of a spreadsheet, as most are.

    A text that begins as formulas do gets an apostrophe before it, which spreadsheets take for "this is text".
    """
    import pyarrow as pa
    import pyarrow.compute

    needy = pa.compute.match_substring_regex(texts, f"{CONTROL.pattern}|{FORMULA.pattern}")
    if not needy.true_count:
        return texts
    mended = pa.array([FORMULA.sub(r"'\g<0>", printable(text)) for text in texts.filter(needy).to_pylist()], texts.type)
    return pa.compute.replace_with_mask(texts, needy, mended)


def tables(model: Recommender, shown: bool = False) -> Callable[[Block], Any]:
    """Give a function that makes an Arrow table of a block, with ids and titles instead of rows.

    `shown`: the file is one that people look at in a terminal or a spreadsheet (see `all_harmless`).
    """
    import pyarrow as pa
    import pyarrow.compute

    customers, products, titles = (
        pa.LargeStringArray.from_buffers(len(s), pa.py_buffer(np.asarray(s.offsets)), pa.py_buffer(np.asarray(s.blob)))
        for s in (model.vectors.customer_ids, model.vectors.product_ids, model.vectors.titles)
    )
    if shown:
        customers, products, titles = map(all_harmless, (customers, products, titles))

    def table_of(block: Block) -> Any:
        names = titles.take(pa.array(block.product))
        columns = {
            "customer_id": customers.take(pa.array(block.customer)),
            "rank": pa.array(block.rank),
            "product_id": products.take(pa.array(block.product)),
            "title": pa.compute.if_else(pa.compute.equal(names, ""), None, names),
            "score": pa.array(block.score),
        }
        return pa.table(columns if block.stars is None else columns | {"stars": pa.array(block.stars)})

    return table_of
