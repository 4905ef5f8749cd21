"""Dataset folders with damaged files: each damage is one error, or does no harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from amzrec.commands.prepare import prepare
from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.store.dataset import PARTS, open_dataset


def arrays(folder: Path) -> list[Any]:
    """All that a dataset folder holds."""
    dataset = open_dataset(folder)
    parts = [getattr(dataset.part(part), name) for part in PARTS for name in ("customer", "product", "stars", "weight")]
    return [dataset.customers, dataset.products, *(np.nan_to_num(part).tolist() for part in parts)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small dataset with counts, titles and a refused row."""
    rows = "".join(f"u{n % 13},p{n % 7},{n},Title {n % 7}\n" for n in range(60))
    (tmp_path / "plays.csv").write_text(f"user,item,plays,title\n{rows}u1,p1,none,x\n")
    columns = "customer=user,product=item,stars=plays,title=title"
    prepare(tmp_path / "plays.csv", tmp_path / "d", PrepareConfig(columns=columns, stars_are="counts"))
    return tmp_path / "d"


def test_a_flipped_bit_in_any_file_is_an_error_or_does_no_harm(folder: Path) -> None:
    whole, rng, info = arrays(folder), np.random.default_rng(1), open_dataset(folder).info
    files = sorted(folder.iterdir())
    assert len(files) == 8
    for file in files:
        content = file.read_bytes()
        found = 0
        for place in rng.integers(0, len(content), 50):
            damaged = bytearray(content)
            damaged[place] ^= 1 << rng.integers(8)
            file.write_bytes(damaged)
            try:
                assert arrays(folder) == whole, (file.name, place)
                assert open_dataset(folder).info == info
            except AmzrecError:
                found += 1
        file.write_bytes(content)
        if file.name != "rejects.parquet":
            assert found == 50, file.name
    assert arrays(folder) == whole


def without_manifest(folder: Path) -> None:
    """Make the folder one of an older amzrec."""
    (folder / "manifest.json").unlink()
    info = json.loads((folder / "dataset.json").read_text())
    del info["identity"]
    (folder / "dataset.json").write_text(json.dumps(info))


@pytest.mark.parametrize("cut", [0, 4, 100, 0.5, 0.99])
def test_a_file_that_is_cut_short_is_an_error_in_a_folder_of_an_older_version_too(folder: Path, cut: float) -> None:
    without_manifest(folder)
    for file in folder.glob("*.parquet"):
        content = file.read_bytes()
        file.write_bytes(content[: int(cut * len(content)) if cut < 1 else int(cut)])
        if file.name != "rejects.parquet":
            with pytest.raises(AmzrecError, match=rf"is damaged: {file.name}.*--overwrite"):
                arrays(folder)
        file.write_bytes(content)


def changed(column: str, value: Any) -> Callable[[pa.Table], pa.Table]:
    """Change the third value of a column."""

    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[2] = value
        place = table.column_names.index(column)
        return table.set_column(place, column, pa.array(values, table.schema.field(column).type))

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("customer", 1 << 30), "1 of .* reviews are of a customer that is not there .row 1,073,741,824"),
        (changed("product", -1), "1 of .* reviews are of a product that is not there"),
        (changed("customer", None), "a review is of no customer"),
        (changed("weight", float("inf")), "a weight is no number"),
        (lambda table: table.drop_columns(["stars"]), "has no column stars"),
        (lambda table: table.cast(pa.schema([(f.name, pa.float64()) for f in table.schema])), "has no column customer"),
    ],
)
def test_reviews_that_cannot_be_are_an_error_in_a_folder_of_an_older_version_too(
    folder: Path, change: Callable[[pa.Table], pa.Table], said: str
) -> None:
    """A row of a billion would make tables of a billion rows."""
    without_manifest(folder)
    pq.write_table(change(pq.read_table(folder / "train.parquet")), folder / "train.parquet")
    with pytest.raises(AmzrecError, match=said):
        arrays(folder)
