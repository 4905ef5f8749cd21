"""The dataset folder: integer reviews in three parts, and the customers and products they point to."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from amzrec.arrays import Array, Floats, Ints, Rows
from amzrec.config import DataFacts
from amzrec.errors import AmzrecError
from amzrec.store.documents import Document
from amzrec.store.manifest import Damaged, Manifest, damaged, read_manifest
from amzrec.store.ownership import DATASET_FOLDER
from amzrec.store.protocol import DataProtocol
from amzrec.store.remembered import Files
from amzrec.store.tables import Held, check_finite, check_rows, read_checked
from amzrec.store.times import NO_TIME as NO_TIME
from amzrec.store.times import few

PARTS = ("train", "valid", "test")
INFO = "dataset.json"
CUSTOMERS = "customers.parquet"
PRODUCTS = "products.parquet"
REJECTS = "rejects.parquet"

REVIEW_SCHEMA = pa.schema(
    [("customer", pa.int32()), ("product", pa.int32()), ("stars", pa.float32()), ("timestamp", pa.int64())]
)
WEIGHT = pa.field("weight", pa.float32())  # one more column where the source has counts
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

    customer: Rows  # [n]
    product: Rows  # [n]
    stars: Floats  # [n], NaN where the source gave none (a click)
    timestamp: Ints  # [n] unix seconds, NO_TIME where the source gave none
    weight: Floats | None = None  # [n] what each click counts where the source has counts; else all count the same

    def __len__(self) -> int:
        return len(self.customer)

    def take(self, index: Array) -> Reviews:
        """Return the reviews at these positions, or under this mask."""
        weight = None if self.weight is None else self.weight[index]
        return Reviews(self.customer[index], self.product[index], self.stars[index], self.timestamp[index], weight)

    @staticmethod
    def concat(parts: list[Reviews]) -> Reviews:
        """Return all reviews of the parts, in order."""
        fields = ["customer", "product", "stars", "timestamp"]
        if all(part.weight is not None for part in parts):
            fields.append("weight")
        return Reviews(*(np.concatenate([getattr(p, f) for p in parts]) for f in fields))


@dataclasses.dataclass(frozen=True)
class Scale:
    """The ends of the scale of stars."""

    min: float
    max: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counts:
    """What became of the rows of a source: read = kept + rejected + duplicates + repeats + filtered."""

    read: int = 0
    kept: int = 0  # = train + valid + test
    rejected: dict[str, int] = dataclasses.field(default_factory=dict)  # by reason
    duplicates: int = 0  # equal in every column to another row
    repeats: int = 0  # an earlier review of a product by the same customer
    filtered: int = 0  # under --min-reviews
    train: int = 0
    valid: int = 0
    test: int = 0
    customers: int = 0
    products: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetInfo(Document):
    """dataset.json: where the reviews came from, how they were split, and what became of each."""

    source: str
    fingerprint: str | None  # of the source's content
    format: str = ""  # name of the source's format
    columns: dict[str, str] | None = None  # the source's column for each of ours
    protocol: DataProtocol
    stars: Scale | None  # None where no row has stars
    stars_are: str | None = None  # what the stars column was taken for: stars, counts or clicks; None without one
    counts: Counts = Counts()
    warnings: tuple[str, ...] = ()
    version: str = ""  # of the amzrec that prepared it
    checksums: dict[str, str] = dataclasses.field(default_factory=dict, compare=False)  # of before manifest.json
    identity: str = dataclasses.field(default="", compare=False)  # as in manifest.json; "": of before there was one


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset folder, opened: its tables have row 0 (the unknown one, id "") first, so that position = row."""

    path: Path
    info: DatasetInfo
    customers: pa.Table  # CUSTOMER_SCHEMA, [C + 1]
    products: pa.Table  # PRODUCT_SCHEMA, [N + 1]
    manifest: Manifest | None = None  # what the files must be; None: not known
    held: Held | None = dataclasses.field(default=None, compare=False, repr=False)  # PARTS, whatever takes their place

    @cached_property
    def train(self) -> Reviews:
        """The rows to learn from."""
        return self._fitted[0]

    @cached_property
    def valid(self) -> Reviews:
        """The rows that choose epochs and settings."""
        return self._fitted[1]

    @cached_property
    def _fitted(self) -> tuple[Reviews, Reviews]:
        """Train and valid; where a few of their reviews have no time (see `few`), these are as old as the oldest.

        So they take part in nothing that is recent, and a split by time, which has them in train, stays one.
        """
        train, valid = self.part("train"), self.part("valid")
        missing = [part.timestamp == NO_TIME for part in (train, valid)]
        undated, known = sum(int(mask.sum()) for mask in missing), train.timestamp[~missing[0]]
        if not undated or not len(known) or undated > few(max(self.info.counts.kept, len(train) + len(valid))):
            return train, valid
        oldest = known.min()
        train, valid = (
            dataclasses.replace(part, timestamp=np.where(mask, oldest, part.timestamp))
            for part, mask in zip((train, valid), missing, strict=True)
        )
        return train, valid

    @cached_property
    def test(self) -> Reviews:
        """The rows that are only ever reported on."""
        return self.part("test")

    def part(self, name: str) -> Reviews:
        """Read the rows of one of PARTS as its file has them; raises AmzrecError where it is damaged."""
        try:
            file = self.path / f"{name}.parquet"
            table = read_checked(file, self.manifest, REVIEW_SCHEMA, self.held.file(file.name) if self.held else None)
            reviews = Reviews(
                table["customer"].to_numpy(),
                table["product"].to_numpy(),
                table["stars"].to_numpy(),
                table["timestamp"].fill_null(NO_TIME).to_numpy(),
                table["weight"].to_numpy() if "weight" in table.column_names else None,
            )
            check_rows(reviews.customer, self.customers.num_rows, "customer")
            check_rows(reviews.product, self.products.num_rows, "product")
            if np.isinf(reviews.stars).any():
                raise Damaged(f"{name}.parquet has infinite stars")
            if reviews.weight is not None:
                check_finite(reviews.weight, "weight")
            counts, written = self.info.counts, getattr(self.info.counts, name)
            told = counts.train + counts.valid + counts.test == counts.kept > 0
            if told and len(reviews) != written:
                raise Damaged(f"{name}.parquet has {len(reviews):,} reviews where {written:,} were written")
        except Damaged as error:
            raise damaged(self.path, DATASET_FOLDER, error) from error
        return reviews

    def check_files(self) -> None:
        """Compare all files with their checksums, once on this machine (see remembered.py).

        Raises AmzrecError where one is not what was written.
        """
        if self.manifest is None:
            return
        try:
            found = Files(self.path, list(self.manifest.files), self.manifest.checksum)
            if not found.are_known():
                for name in self.manifest.files:
                    self.manifest.check_content(self.path, name)
                found.remember()
        except (Damaged, OSError) as error:
            raise damaged(self.path, DATASET_FOLDER, error) from error

    @property
    def protocol(self) -> DataProtocol:
        """Split, shares, seed, product key, filters: what makes figures comparable."""
        return self.info.protocol

    @property
    def has_time(self) -> bool:
        """Whether the train reviews have timestamps, all but a few of them (only then is time used)."""
        return len(self.train) > 0 and not bool((self.train.timestamp == NO_TIME).any())

    def facts(self, refit: bool) -> DataFacts:
        """What settings depend on; with `refit` the kept model is fitted on valid too."""
        counts = np.bincount(self.train.product, minlength=self.products.num_rows)
        customers = np.count_nonzero(np.bincount(self.train.customer, minlength=1))
        rows = int(customers + np.count_nonzero(counts))
        rated = int(np.count_nonzero(~np.isnan(self.train.stars)))
        return DataFacts(
            fitted=len(self.train) + (len(self.valid) if refit else 0),
            candidates=len(self.candidates(counts)),
            rated=rated > 0,
            dated=self.has_time,
            valid=len(self.valid) > 0,
            stars_per_row=rated / max(rows, 1),
            rows=rows,
        )

    def candidates(self, counts: Ints) -> Rows:
        """Return the product rows to retrieve from: those with a count, or all (`--catalogue all`).

        `counts` is [N + 1], reviews per product in the rows that a model was fitted on.
        """
        rows = np.arange(1, self.products.num_rows, dtype=np.int32)
        return rows if self.protocol.catalogue == "all" else rows[counts[1:] > 0]


def reviews_table(reviews: Reviews) -> pa.Table:
    """Return reviews as a table of REVIEW_SCHEMA, NaN and NO_TIME as null."""
    table = pa.table(
        {
            "customer": pa.array(reviews.customer, pa.int32()),
            "product": pa.array(reviews.product, pa.int32()),
            "stars": pa.array(reviews.stars, pa.float32(), mask=np.isnan(reviews.stars)),
            "timestamp": pa.array(reviews.timestamp, pa.int64(), mask=reviews.timestamp == NO_TIME),
        },
        schema=REVIEW_SCHEMA,
    )
    return table if reviews.weight is None else table.append_column(WEIGHT, pa.array(reviews.weight, pa.float32()))


def is_dataset(path: Path) -> bool:
    """Tell whether this folder is a dataset folder."""
    return (Path(path) / INFO).is_file() and (Path(path) / "train.parquet").is_file()


def open_dataset(path: Path | str) -> Dataset:
    """Open a dataset folder; raises AmzrecError where it is missing, foreign or damaged.

    What another command replaces meanwhile is opened anew: half of it read from either would look damaged. What is
    replaced later is read to its end.
    """
    path = Path(path)
    while True:
        before = inode(path)
        try:
            dataset = opened(path)
            if inode(path) == before:
                return dataset
        except AmzrecError:
            if inode(path) == before:
                raise


def inode(path: Path) -> int | None:
    """Tell which folder stands at a path; None where there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


def opened(path: Path) -> Dataset:
    """Open the dataset folder that stands at a path now."""
    if not path.exists():
        raise AmzrecError(f"there is no dataset folder {path}: make one with: amzrec prepare SOURCE --out {path}")
    if not is_dataset(path):
        raise AmzrecError(f"{path} is no dataset folder (it has no {INFO}): amzrec prepare SOURCE --out DIR makes one")
    info = DatasetInfo.read(path / INFO, f"prepare it again: amzrec prepare SOURCE --out {path} --overwrite")
    missing = [part for part in PARTS if not (path / f"{part}.parquet").is_file()]
    if missing:
        raise AmzrecError(f"dataset folder {path} is damaged: {missing[0]}.parquet is missing. Prepare it again")
    try:
        held = Held(path, [f"{part}.parquet" for part in PARTS])
    except OSError as error:
        raise AmzrecError(f"dataset folder {path} cannot be read: {error.strerror or error}") from error
    manifest = read_manifest(path, DATASET_FOLDER, info.identity)
    try:
        if manifest is not None:
            manifest.check_content(path, INFO)
            for name in manifest.files:
                manifest.check_size(path, name)
        customers = read_checked(path / CUSTOMERS, manifest, CUSTOMER_SCHEMA)
        products = read_checked(path / PRODUCTS, manifest, PRODUCT_SCHEMA)
    except Damaged as error:
        raise damaged(path, DATASET_FOLDER, error) from error
    return Dataset(path, info, customers, products, manifest, held)
