"""From Python: tables in memory, lists of paths, and columns as a dict, in `prepare`, `describe` and `train`."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import amzrec
from amzrec import AmzrecError, PrepareConfig
from amzrec.reviews import cache
from amzrec.reviews.sources.columns import pairs_of
from amzrec.store.dataset import PARTS, Dataset

MAY_27 = int(datetime.datetime(2014, 5, 27, tzinfo=datetime.UTC).timestamp())


class Frame:
    """A table of another library, such as Polars, that gives itself as an Arrow stream and has no other way."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.columns = table.column_names

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Give the rows."""
        return self.table.__arrow_c_stream__(requested_schema)


def columns_of() -> dict[str, list[Any]]:
    """Reviews of five products by nine customers, two of whose columns have names that nobody guesses."""
    pairs = [(c, p) for c in range(9) for p in range(5)]
    return {
        "who": [c + 100 for c, _ in pairs],
        "what, exactly": [f"p{p}" for _, p in pairs],
        "stars": [1.0 + (c + p) % 5 for c, p in pairs],
        "day": [datetime.datetime(2014, 5, 27 + p % 3) for _, p in pairs],
    }


def large(table: pa.Table) -> pa.Table:
    """The same table with the types in which Polars keeps text and times."""
    kinds = {"what, exactly": pa.large_string(), "day": pa.timestamp("us")}
    return table.cast(
        pa.schema([(name, kinds.get(name, table.schema.field(name).type)) for name in table.column_names])
    )


FRAMES: dict[str, Callable[[], Any]] = {
    "pandas": lambda: pd.DataFrame(columns_of()),
    "pandas with an index": lambda: pd.DataFrame(columns_of()).iloc[::-1],
    "pandas with holes": lambda: pd.concat(
        [pd.DataFrame(columns_of()), pd.DataFrame({"who": [None], "what, exactly": ["p1"], "stars": [3.0]})]
    ),
    "pandas categories": lambda: pd.DataFrame(columns_of()).astype({"what, exactly": "category"}),
    "Arrow": lambda: pa.table(columns_of()),
    "Arrow batch reader": lambda: pa.table(columns_of()).to_reader(),
    "like Polars": lambda: Frame(large(pa.table(columns_of()))),
}
COLUMNS = {"customer": "who", "product": "what, exactly", "stars": "stars", "timestamp": "day"}


def config(**settings: Any) -> PrepareConfig:
    """Settings that a dict of columns is one of."""
    return PrepareConfig.of(columns=COLUMNS, max_rejects=0.1, **settings)


def rows_of(dataset: Dataset) -> set[tuple[Any, ...]]:
    """(customer, product, stars, seconds) of all parts."""
    customers, products = dataset.customers["customer_id"].to_pylist(), dataset.products["product_id"].to_pylist()
    tables = [pq.read_table(dataset.path / f"{part}.parquet").to_pylist() for part in PARTS]
    return {(customers[r["customer"]], products[r["product"]], r["stars"], r["timestamp"]) for t in tables for r in t}


@pytest.mark.parametrize("name", FRAMES)
def test_a_table_in_memory_is_read_as_a_file_of_it_would_be(tmp_path: Path, name: str) -> None:
    dataset = amzrec.prepare(FRAMES[name](), tmp_path / "d", config())
    assert rows_of(dataset) == {
        (str(c + 100), f"p{p}", 1.0 + (c + p) % 5, MAY_27 + p % 3 * 86_400) for c in range(9) for p in range(5)
    }
    assert dataset.info.source.startswith("a ")


def test_polars_is_read(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars", reason="Polars is not installed")
    assert len(rows_of(amzrec.prepare(polars.DataFrame(columns_of()), tmp_path / "d", config()))) == 45


@pytest.mark.parametrize("frame", [pd.DataFrame(columns_of()), pa.table(columns_of())])
def test_train_and_describe_keep_a_table_in_memory_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frame: Any
) -> None:
    monkeypatch.setenv("AMZREC_CACHE", str(tmp_path / "cache"))
    first = cache.dataset_of(frame, config())
    assert cache.dataset_of(frame, config()).path == first.path
    assert amzrec.describe(frame, config())["rows"]["kept"] == 45
    other = pd.DataFrame(columns_of()).iloc[:-1]
    assert cache.dataset_of(other, config()).path != first.path


@pytest.mark.slow
def test_train_takes_a_table_and_a_dict_of_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMZREC_CACHE", str(tmp_path / "cache"))
    tiny = amzrec.TrainConfig(epochs=1, dim=3, head=(2,), refit=False)
    run = amzrec.train(pd.DataFrame(columns_of()), tmp_path / "run", tiny, prepare=config())
    assert set(amzrec.load(run.path).recommend(100, include_seen=True)["product_id"]) == {f"p{p}" for p in range(5)}


def test_lists_of_paths_are_read_as_one_table(tmp_path: Path) -> None:
    frame = pd.DataFrame(columns_of())
    for name, rows in {"a": frame.iloc[:20], "b": frame.iloc[20:]}.items():
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
    for paths in ([tmp_path / "a.csv", str(tmp_path / "b.csv")], (tmp_path / "?.csv",)):
        assert len(rows_of(amzrec.prepare(paths, tmp_path / "d", config(), overwrite=True))) == 45


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"customer": "UserId", "product": "ItemId"}, "customer=UserId,product=ItemId"),
        ({"customer": 0, "product": 1}, "customer=0,product=1"),
        ({"customer": 'a "b"', "product": "c,d", "stars": "x=y"}, '"customer=a ""b""","product=c,d",stars=x=y'),
    ],
)
def test_a_dict_of_columns_is_kept_as_it_would_be_typed(columns: dict[str, Any], text: str) -> None:
    made = PrepareConfig.of(columns=columns)
    assert made.columns == text
    assert dict(pairs_of(text)) == {ours: str(theirs) for ours, theirs in columns.items()}
    assert PrepareConfig.of(**made.to_json()) == made


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (7, "a source is a int; allowed: a path, a list of paths, or a table"),
        ([], "a source is a list"),
        ([1, 2], "a source is a list"),
        ({"user": [1]}, "a source is a dict"),
        (np.zeros((2, 3)), "a source is a ndarray"),
        (pd.Series([1, 2]), "a source is a Series"),
        (pd.DataFrame({"user": [1, "a"], "item": [[1], 2]}), "cannot be read as a table"),
        (pd.DataFrame({"a": [1], "b": [2]}), "a DataFrame of pandas has no known layout"),
        (pd.DataFrame({"user": [], "item": []}), "holds no reviews|no reviews|nothing"),
    ],
)
def test_what_is_no_table_of_reviews_is_refused_in_one_line(tmp_path: Path, source: Any, words: str) -> None:
    with pytest.raises(AmzrecError, match=words) as refused:
        amzrec.prepare(source, tmp_path / "d")
    assert "\n" not in str(refused.value)
