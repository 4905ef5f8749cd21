"""`amzrec recommend --all`: the best products for every customer, streamed into a file."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.answers.given import texts_of
from amzrec.answers.lists import need_positive
from amzrec.answers.recommender import Recommender
from amzrec.answers.rules import Rules
from amzrec.answers.tuning import INDEXES, choose
from amzrec.arrays import Floats, Rows
from amzrec.commands.load import Model
from amzrec.errors import CONTROL, SILENT, AmzrecError, Progress, printable
from amzrec.parallel import ahead
from amzrec.settings import require
from amzrec.store.folders import cache_folder, whole_file, writing
from amzrec.store.ownership import check_file, is_recommendations
from amzrec.store.run import Run

FORMATS = (".parquet", ".csv", ".jsonl")
FORMULA = re.compile("^[=+@＝＋－＠-]")  # how formulas of spreadsheets begin; a tab is shown as \\t already
TOGETHER = 2048  # customers answered at once
RECALL = 0.98  # of the best products that an index finds which is not exact


def recommend_all(
    run: Model | Run | Path | str | None,
    out: Path | str,
    *,
    k: int = 10,
    only: Sequence[str] = (),
    never: Sequence[str] = (),
    include_seen: bool = False,
    sort: str = "retrieval",
    diversify: float = 0.0,
    at_most: Sequence[str] = (),
    index: str = "exact",
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Find the k best products for every customer of the dataset, streamed to `out` (.parquet, .csv or .jsonl).

    One line per recommendation: customer_id, rank, product_id, title, score, stars. The file is whole or absent. The
    keywords are the flags of `amzrec recommend --all`; `index` "auto" or "scann" finds 98 of the 100 best products on
    average in catalogues of 100,000 products and more, see `choose`.
    """
    out = Path(out)
    if out.suffix not in FORMATS:
        raise AmzrecError(f"--out {out} ends in {out.suffix or 'nothing'}; allowed: {', '.join(FORMATS)}")
    check_file(out, "the recommendations", is_recommendations, overwrite)
    need_positive(k)
    require(index in INDEXES, "index", index, " | ".join(INDEXES))
    opened = run if isinstance(run, Model) else Model(run)
    chosen = choose(opened.recommender, opened.run.path, index, RECALL, cache_folder(), progress.say)
    model = chosen.recommender.only(texts_of(only, "only"), texts_of(never, "never"))
    rules = Rules.of(model, sort, diversify, texts_of(at_most, "at_most"))
    with writing("the recommendations", out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out, "the recommendations") as partial:
        total = len(model.vectors.customer_ids) - 1
        starts = range(1, total + 1, TOGETHER)

        def work(start: int) -> Block:
            return block_of(model, range(start, min(start + TOGETHER, total + 1)), k, include_seen, rules)

        with writer(partial, model) as write, contextlib.closing(ahead(work, starts)) as blocks:
            for start, block in zip(starts, blocks, strict=True):
                write(block)
                progress.step("customers", min(start + TOGETHER - 1, total), total)
    return out


@dataclasses.dataclass(frozen=True)
class Block:
    """The recommendations for some customers, aligned [n]."""

    customer: Rows
    rank: Rows  # from 1
    product: Rows
    score: Floats
    stars: Floats | None  # None where the run knows no stars


def block_of(model: Recommender, customers: range, k: int, include_seen: bool, rules: Rules) -> Block:
    """Find the recommendations for a range of customer rows."""
    v, rows, seen = model.vectors, slice(customers.start, customers.stop), model.vectors.seen
    hidden = None if include_seen else [seen[row] for row in customers]
    depth = rules.depth(k, len(model.candidates))
    histories = None if v.memory is None else [model.history(row) for row in customers]
    top, scores = model.retrieve(v.retrieval_query[rows], depth, hidden, histories)  # [b, depth]
    owner = np.repeat(np.array(customers, np.int32), depth)
    stars = model.rate(v.rating_query[owner], top.ravel()).reshape(top.shape) if model.has_stars else None
    if depth > k or rules.sort != "retrieval":
        for line in range(len(top)):
            count = int((top[line] > 0).sum())
            mine = None if stars is None else stars[line, :count]
            order = rules.choose(model, top[line, :count], scores[line, :count], mine, k)
            for table in (top, scores) if stars is None else (top, scores, stars):
                table[line, : len(order)] = table[line, order]
            top[line, len(order) :] = 0
    rank = np.broadcast_to(np.arange(1, depth + 1, dtype=np.int32), top.shape)
    kept = (top > 0) & (rank <= k)
    owner = owner.reshape(top.shape)[kept]
    return Block(owner, rank[kept], top[kept], scores[kept], None if stars is None else stars[kept])


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
