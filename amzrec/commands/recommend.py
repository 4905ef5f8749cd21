"""`amzrec recommend`, `rate` and `similar`: questions about one customer, or all, answered from a run's vectors."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from amzrec.answers.recommender import Query, Recommender
from amzrec.config import require
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.parallel import ahead
from amzrec.store.folders import whole_file
from amzrec.store.run import Run, open_run

if TYPE_CHECKING:
    import pandas

SORTS = ("retrieval", "stars", "blend")
FORMATS = (".parquet", ".csv", ".jsonl")
TOGETHER = 2048  # customers answered at once for a file
DEPTH = 100  # best retrieved products that stars and blend re-rank

Rows = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Document = dict[str, Any]


class Model:
    """A trained run that answers questions: the verbs below as methods, with DataFrames."""

    def __init__(self, run: Run | Path | str | None = None) -> None:
        self.run = open_run(run)

    @cached_property
    def recommender(self) -> Recommender:
        """The vectors of the run, opened at the first question."""
        return Recommender(self.run.vectors)

    def recommend(self, customer_id: str, k: int = 10, **options: Any) -> pandas.DataFrame:
        """product_id, title, score, stars, the best first; options as of the verb `recommend`."""
        return self._frame(recommend(customer_id, self, k=k, **options)["recommendations"], ["score", "stars"])

    def rate(self, customer_id: str, products: Sequence[str]) -> pandas.DataFrame:
        """product_id, title, stars, the best first."""
        return self._frame(rate(customer_id, products, self)["ratings"], ["stars"])

    def similar(self, product: str, k: int = 10) -> pandas.DataFrame:
        """product_id, title, score, the nearest first."""
        return self._frame(similar(product, self, k=k)["similar"], ["score"])

    def fold_in(self, liked: Sequence[str], customer_id: str = "") -> Query:
        """The query vectors of a customer (default: a new one) who likes these products."""
        rows = np.array([self.recommender.product(name) for name in liked], np.int32)
        return self.recommender.fold_in(self.recommender.customer(customer_id), np.unique(rows))

    def _frame(self, rows: list[Document], values: list[str]) -> pandas.DataFrame:
        import pandas

        columns = ["product_id", "title", *(v for v in values if v != "stars" or self.recommender.has_stars)]
        return pandas.DataFrame(rows, columns=columns)


def load(run: Run | Path | str | None = None) -> Model:
    """Open a finished run (default: the latest) for questions from Python."""
    return Model(run)


def recommend(
    customer_id: str,
    run: Model | Run | Path | str | None = None,
    *,
    k: int = 10,
    liked: Sequence[str] = (),
    exclude: Sequence[str] = (),
    only: Sequence[str] = (),
    include_seen: bool = False,
    sort: str = "retrieval",
) -> Document:
    """The k best products for one customer, as the document of `recommend --json`.

    `only` are features, such as "category=Toys": of each name, the products with one of its values are answered.
    What the customer reviewed and what is `liked` or in `exclude` is left out (`include_seen` lets the reviewed in).
    `liked` adds to the known history, or stands for one: `answered_from` is "model" for a customer that the model was
    fitted on, else "liked", else "popularity". `sort` "stars" or "blend" (stars and score, each standardised) re-ranks
    the 100 best retrieved. Fewer than k come where fewer are left. AmzrecError for k < 1, an unknown sort or product.
    """
    _positive(k)
    require(sort in SORTS, "sort", sort, " | ".join(SORTS))
    model = _recommender(run).only(only)
    _needs_stars(model, sort)
    customer = model.customer(customer_id)
    likes = np.array(sorted({model.product(name) for name in liked}), np.int32)  # np.unique would import numpy.ma
    hidden = [likes, np.array([model.product(name) for name in exclude], np.int32)]
    if not include_seen:
        hidden.append(model.seen(customer)[0])
    query = model.fold_in(customer, likes) if len(likes) else model.query(customer)
    depth = min(k if sort == "retrieval" else max(k, DEPTH), len(model.candidates))
    rows, scores = model.retrieve(query.retrieval[None, :], depth, [np.concatenate(hidden)])
    rows, scores = rows[0][rows[0] > 0], scores[0][rows[0] > 0]
    stars = _stars(model, query, rows)
    order = resort(scores, stars, sort)[:k]
    return {
        "customer_id": customer_id,
        "answered_from": "model" if model.knows(customer) else "liked" if len(likes) else "popularity",
        "recommendations": _listed(model, rows[order], scores[order], None if stars is None else stars[order]),
    }


def recommend_all(
    run: Model | Run | Path | str | None,
    out: Path | str,
    *,
    k: int = 10,
    only: Sequence[str] = (),
    include_seen: bool = False,
    sort: str = "retrieval",
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """The k best products for every customer of the dataset, streamed to `out` (.parquet, .csv or .jsonl).

    One line per recommendation: customer_id, rank, product_id, title, score, stars. The file is whole or absent.
    """
    _positive(k)
    require(sort in SORTS, "sort", sort, " | ".join(SORTS))
    out = Path(out)
    if out.suffix not in FORMATS:
        raise AmzrecError(f"--out {out} ends in {out.suffix or 'nothing'}; allowed: {', '.join(FORMATS)}")
    if out.exists() and not overwrite:
        raise AmzrecError(f"{out} exists already: choose another name, or add --overwrite to replace it")
    model = _recommender(run).only(only)
    _needs_stars(model, sort)
    with whole_file(out, "the recommendations") as partial:
        out.parent.mkdir(parents=True, exist_ok=True)
        total = len(model.vectors.customer_ids) - 1
        starts = range(1, total + 1, TOGETHER)

        def block(start: int) -> tuple[Rows, Rows, Rows, Floats, Floats | None]:
            return _block(model, start, min(start + TOGETHER, total + 1), k, include_seen, sort)

        with _writer(partial, model) as write, contextlib.closing(ahead(block, starts)) as blocks:
            for start, found in zip(starts, blocks, strict=True):
                write(*found)
                progress.step("customers", min(start + TOGETHER - 1, total), total)
    return out


def _block(
    model: Recommender, start: int, stop: int, k: int, include_seen: bool, sort: str
) -> tuple[Rows, Rows, Rows, Floats, Floats | None]:
    """Customer row, rank, product row, score and stars of every recommendation for customer rows start .. stop."""
    v = model.vectors
    offsets = np.asarray(v.seen_offsets[start : stop + 1])
    seen = np.asarray(v.seen_product[offsets[0] : offsets[-1]])
    hidden = None if include_seen else np.split(seen, offsets[1:-1] - offsets[0])
    depth = min(k if sort == "retrieval" else max(k, DEPTH), len(model.candidates))
    rows, scores = model.retrieve(v.retrieval_query[start:stop], depth, hidden)  # [b, depth]
    owner = np.repeat(np.arange(start, stop, dtype=np.int32), depth)
    stars = model.rate(v.rating_query[owner], rows.ravel()).reshape(rows.shape) if model.has_stars else None
    if sort != "retrieval" and stars is not None:
        for line in range(len(rows)):
            kept = int((rows[line] > 0).sum())
            order = resort(scores[line, :kept], stars[line, :kept], sort)
            for table in (rows, scores, stars):
                table[line, :kept] = table[line, order]
    rank = np.broadcast_to(np.arange(1, depth + 1, dtype=np.int32), rows.shape)
    kept_cells = (rows > 0) & (rank <= k)
    owner = owner.reshape(rows.shape)[kept_cells]
    return owner, rank[kept_cells], rows[kept_cells], scores[kept_cells], None if stars is None else stars[kept_cells]


@contextlib.contextmanager
def _writer(file: Path, model: Recommender) -> Iterator[Callable[..., None]]:
    """A function that appends the arrays of `_block` to `file`, in the format of its suffix."""
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.csv
    import pyarrow.parquet

    customers, products, titles = (
        pa.LargeStringArray.from_buffers(len(s), pa.py_buffer(np.asarray(s.offsets)), pa.py_buffer(np.asarray(s.blob)))
        for s in (model.vectors.customer_ids, model.vectors.product_ids, model.vectors.titles)
    )

    def table(owner: Rows, rank: Rows, rows: Rows, scores: Floats, stars: Floats | None) -> Any:
        names = titles.take(pa.array(rows))
        columns = {
            "customer_id": customers.take(pa.array(owner)),
            "rank": pa.array(rank),
            "product_id": products.take(pa.array(rows)),
            "title": pa.compute.if_else(pa.compute.equal(names, ""), None, names),
            "score": pa.array(scores),
        }
        return pa.table(columns if stars is None else columns | {"stars": pa.array(stars)})

    nobody = np.zeros(0, np.int32)
    schema = table(nobody, nobody, nobody, nobody.astype(np.float32), _empty_stars(model)).schema
    if file.suffix == ".jsonl":
        with file.open("w", encoding="utf-8") as lines:
            yield lambda *block: lines.writelines(
                json.dumps({name: value for name, value in row.items() if value is not None}, ensure_ascii=False) + "\n"
                for row in table(*block).to_pylist()
            )
    else:
        kind = pyarrow.parquet.ParquetWriter if file.suffix == ".parquet" else pyarrow.csv.CSVWriter
        with kind(str(file), schema) as sink:
            yield lambda *block: sink.write_table(table(*block))


def _empty_stars(model: Recommender) -> Floats | None:
    return np.zeros(0, np.float32) if model.has_stars else None


def rate(customer_id: str, products: Sequence[str], run: Model | Run | Path | str | None = None) -> Document:
    """Predicted stars of these products (ids or exact titles) for one customer, the best first."""
    model = _recommender(run)
    if not products:
        raise AmzrecError("no product to rate: amzrec rate CUSTOMER_ID PRODUCT …")
    if not model.has_stars:
        raise AmzrecError("this run was trained on clicks alone and knows no stars: train on a source with stars")
    customer = model.customer(customer_id)
    rows = np.array(list(dict.fromkeys(model.product(name) for name in products)), np.int32)
    stars = _stars(model, model.query(customer), rows)
    assert stars is not None
    order = np.argsort(-stars, kind="stable")
    answered = "model" if model.knows(customer) else "popularity"
    ratings = _listed(model, rows[order], None, stars[order])
    return {"customer_id": customer_id, "answered_from": answered, "ratings": ratings}


def similar(product: str, run: Model | Run | Path | str | None = None, *, k: int = 10) -> Document:
    """The k products nearest to this one (id or exact title): inner product of the vectors, without popularity."""
    _positive(k)
    model = _recommender(run)
    row = model.product(product)
    rows, scores = model.similar(row, min(k, len(model.candidates)))
    return _named(model, row) | {"similar": _listed(model, rows, scores, None)}


def _positive(k: int) -> None:
    if k < 1:
        raise AmzrecError(f"-k is {k}; allowed: a whole number from 1, such as 10")


def _needs_stars(model: Recommender, sort: str) -> None:
    if sort != "retrieval" and not model.has_stars:
        raise AmzrecError(f"--sort {sort} needs stars, and this run was trained on clicks alone: use --sort retrieval")


def resort(scores: Floats, stars: Floats | None, sort: str) -> npt.NDArray[np.intp]:
    """Positions in the wanted order; equal values keep the order of retrieval."""
    if sort == "retrieval" or stars is None:
        return np.arange(len(scores))
    wanted = stars if sort == "stars" else _standard(scores) + _standard(stars)
    return np.argsort(-wanted, kind="stable")


def _standard(values: Floats) -> Floats:
    """Mean 0 and deviation 1, so that scores and stars may be added; all 0 where all are equal."""
    spread = values.std() if len(values) else 0.0
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)


def _recommender(run: Model | Run | Path | str | None) -> Recommender:
    return (run if isinstance(run, Model) else Model(run)).recommender


def _stars(model: Recommender, query: Query, rows: Rows) -> Floats | None:
    """Predicted stars [n] of one query for product rows [n]; None where the run knows no stars."""
    if not model.has_stars:
        return None
    return model.rate(np.broadcast_to(query.rating, (len(rows), len(query.rating))), rows)


def _named(model: Recommender, row: int) -> Document:
    """A product's id, and its title where it has one."""
    title = model.vectors.titles[row]
    return {"product_id": model.vectors.product_ids[row]} | ({"title": title} if title else {})


def _listed(model: Recommender, rows: Rows, scores: Floats | None, stars: Floats | None) -> list[Document]:
    """One entry per product row, ranked from 1; keys without a value are left out."""
    entries = []
    for place, row in enumerate(rows):
        entry: Document = {"rank": place + 1} | _named(model, int(row))
        if scores is not None:
            entry["score"] = round(float(scores[place]), 6)
        if stars is not None:
            entry["stars"] = round(float(stars[place]), 6)
        entries.append(entry)
    return entries
