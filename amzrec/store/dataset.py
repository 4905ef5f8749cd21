"""The dataset folder: integer reviews in three parts, and the customers and products they point to."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import json
import os
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from amzrec.config import DataFacts
from amzrec.errors import AmzrecError

PARTS = ("train", "valid", "test")
INFO = "dataset.json"
CUSTOMERS = "customers.parquet"
PRODUCTS = "products.parquet"
REJECTS = "rejects.parquet"
NO_TIME = int(np.iinfo(np.int64).min)  # stands for a null timestamp in arrays

REVIEW_SCHEMA = pa.schema(
    [("customer", pa.int32()), ("product", pa.int32()), ("stars", pa.float32()), ("timestamp", pa.int64())]
)
CUSTOMER_SCHEMA = pa.schema(
    [("row", pa.int32()), ("customer_id", pa.string()), ("count", pa.int64()), ("features", pa.list_(pa.string()))]
)
PRODUCT_SCHEMA = pa.schema(
    [
        ("row", pa.int32()),
        ("product_id", pa.string()),
        ("title", pa.string()),
        ("count", pa.int64()),
        ("features", pa.list_(pa.string())),
        ("tokens", pa.list_(pa.int32())),
    ]
)


@dataclasses.dataclass(frozen=True)
class Reviews:
    """Aligned arrays of n reviews; rows point into the customers and products tables."""

    customer: npt.NDArray[np.int32]  # [n]
    product: npt.NDArray[np.int32]  # [n]
    stars: npt.NDArray[np.float32]  # [n], NaN where the source gave none (a click)
    timestamp: npt.NDArray[np.int64]  # [n] unix seconds, NO_TIME where the source gave none

    def __len__(self) -> int:
        return len(self.customer)

    def take(self, index: npt.NDArray[Any]) -> Reviews:
        """The reviews at these positions (or under this mask)."""
        return Reviews(self.customer[index], self.product[index], self.stars[index], self.timestamp[index])

    @staticmethod
    def concat(parts: list[Reviews]) -> Reviews:
        """All reviews of the parts, in order."""
        fields = ("customer", "product", "stars", "timestamp")
        return Reviews(*(np.concatenate([getattr(p, f) for p in parts]) for f in fields))


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset folder, opened: tables have row 0 (the unknown one, id "") first, so position = row.

    `info` is dataset.json: source, fingerprint, format, columns, protocol, stars, counts, warnings, version.
    `info["stars"]` is {"min", "max"} of the scale, or null where no row has stars.
    """

    path: Path
    info: dict[str, Any]
    customers: pa.Table  # CUSTOMER_SCHEMA, [C + 1]
    products: pa.Table  # PRODUCT_SCHEMA, [N + 1]

    @cached_property
    def train(self) -> Reviews:
        """Rows to learn from."""
        return self._part("train")

    @cached_property
    def valid(self) -> Reviews:
        """Rows that choose epochs and hyper-parameters."""
        return self._part("valid")

    @cached_property
    def test(self) -> Reviews:
        """Rows that are only ever reported on."""
        return self._part("test")

    def _part(self, name: str) -> Reviews:
        table = pq.read_table(self.path / f"{name}.parquet")
        return Reviews(
            table["customer"].to_numpy(),
            table["product"].to_numpy(),
            table["stars"].to_numpy(),
            table["timestamp"].fill_null(NO_TIME).to_numpy(),
        )

    @property
    def protocol(self) -> dict[str, Any]:
        """Split, shares, seed, product key, filters: what makes figures comparable."""
        return dict(self.info["protocol"])

    @property
    def has_time(self) -> bool:
        """Whether every train review has a timestamp (only then is time used)."""
        return len(self.train) > 0 and not bool((self.train.timestamp == NO_TIME).any())

    def facts(self, refit: bool) -> DataFacts:
        """What settings depend on; with `refit` the kept model is fitted on valid too."""
        counts = np.bincount(self.train.product, minlength=self.products.num_rows)
        return DataFacts(
            fitted=len(self.train) + (len(self.valid) if refit else 0),
            candidates=len(self.candidates(counts)),
            rated=not bool(np.isnan(self.train.stars).all()),
            dated=self.has_time,
            valid=len(self.valid) > 0,
        )

    def candidates(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Product rows to retrieve from: those with a count among the fitted rows, or all (`--catalogue all`).

        `counts` is [N + 1], reviews per product in the rows that a model was fitted on.
        """
        rows = np.arange(1, self.products.num_rows, dtype=np.int32)
        return rows if self.protocol["catalogue"] == "all" else rows[counts[1:] > 0]


def reviews_table(reviews: Reviews) -> pa.Table:
    """Reviews as a table of REVIEW_SCHEMA, NaN and NO_TIME as null."""
    return pa.table(
        {
            "customer": pa.array(reviews.customer, pa.int32()),
            "product": pa.array(reviews.product, pa.int32()),
            "stars": pa.array(reviews.stars, pa.float32(), mask=np.isnan(reviews.stars)),
            "timestamp": pa.array(reviews.timestamp, pa.int64(), mask=reviews.timestamp == NO_TIME),
        },
        schema=REVIEW_SCHEMA,
    )


@contextlib.contextmanager
def whole_folder(out: Path, overwrite: bool, what: str, remedy: str = "--overwrite") -> Iterator[Path]:
    """A temporary sibling of `out` to write into, renamed to `out` at the end: a folder is whole or absent.

    Refuses an existing `out` unless `overwrite`; any OSError (full disk, read-only place) becomes an AmzrecError
    and what stood at `out` before stays. What a process that was killed left beside `out` is removed first.
    """
    out = Path(out)
    tidy(out)
    if out.exists() and not overwrite:
        raise AmzrecError(f"{what} {out} exists already: choose another place, or add {remedy} to replace it")
    partial = out.parent / f".{out.name}.{os.getpid()}.partial"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        replace_folder(partial, out)
    except OSError as error:
        raise AmzrecError(
            f"cannot write {what} {out}: {error.strerror or error}; nothing was left there. "
            "Free some space or choose a place you may write to"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def tidy(out: Path) -> None:
    """Remove the unfinished folders that killed processes left beside `out`, and put back an `out` they had moved."""
    for left in out.parent.glob(f".{glob.escape(out.name)}.*"):
        process, _, kind = left.name[len(out.name) + 2 :].partition(".")
        if not process.isdigit() or kind not in ("partial", "old") or is_running(int(process)):
            continue
        if kind == "old" and not out.exists():
            left.rename(out)
        else:
            shutil.rmtree(left, ignore_errors=True)


def is_running(process: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def replace_folder(new: Path, out: Path) -> None:
    """Move the finished folder `new` to `out`; an older `out` stays until the new one can take its place."""
    if out.exists():
        old = out.parent / f".{out.name}.{os.getpid()}.old"
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
        new.rename(out)
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)
    else:
        new.rename(out)


def is_dataset(path: Path) -> bool:
    """Whether this folder is a dataset folder."""
    return (Path(path) / INFO).is_file() and (Path(path) / "train.parquet").is_file()


def open_dataset(path: Path | str) -> Dataset:
    """Open a dataset folder; raises AmzrecError where it is missing, foreign or damaged."""
    path = Path(path)
    if not path.exists():
        raise AmzrecError(f"there is no dataset folder {path}: make one with: amzrec prepare SOURCE --out {path}")
    if not is_dataset(path):
        raise AmzrecError(f"{path} is no dataset folder (it has no {INFO}): amzrec prepare SOURCE --out DIR makes one")
    try:
        info = json.loads((path / INFO).read_text())
        missing = [part for part in PARTS if not (path / f"{part}.parquet").is_file()]
        if missing:
            raise AmzrecError(f"dataset folder {path} is damaged: {missing[0]}.parquet is missing. Prepare it again")
        return Dataset(path, info, pq.read_table(path / CUSTOMERS), pq.read_table(path / PRODUCTS))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise AmzrecError(f"dataset folder {path} is damaged ({error}). Prepare it again with --overwrite") from error
