"""prepare: any review source → a dataset folder, cleaned, counted, split and encoded."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from amzrec import __version__
from amzrec.config import PrepareConfig
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.store.dataset import (
    CUSTOMERS,
    INFO,
    PARTS,
    PRODUCTS,
    REJECTS,
    Counts,
    Dataset,
    DatasetInfo,
    Scale,
    is_dataset,
    open_dataset,
)
from amzrec.store.folders import whole_folder
from amzrec.store.protocol import DataProtocol

if TYPE_CHECKING:
    from amzrec.reviews.sources import Source

SCRATCH = "scratch"  # engine files and copies, inside the folder under construction
STAGES = ("reading", "encoding", "splitting", "counting", "writing")


def prepare(
    source: str | Path | None,
    out: Path | str,
    config: PrepareConfig | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Dataset:
    """Read, clean, split and encode a source into the dataset folder `out`; None is the embedded sample.

    Raises AmzrecError where the source is missing, of no known layout or too dirty, and where `out` exists already.
    """
    name = named(source)
    with whole_folder(Path(out), overwrite, "the dataset folder") as folder:
        Preparation(name, config or PrepareConfig(), folder, progress).run()
    return open_dataset(out)


def cached(source: str | Path | None, config: PrepareConfig | None = None, *, progress: Progress = SILENT) -> Dataset:
    """The dataset of this source and these settings from the cache (AMZREC_CACHE), prepared when it is not there."""
    from amzrec.reviews.sources import files

    config = config or PrepareConfig()
    name = named(source)
    with tempfile.TemporaryDirectory() as folder:
        if name == files.STDIN:
            name = str(files.spooled(Path(folder)))
        prints = [files.fingerprint_of(s) for s in (name, config.test_source, config.titles) if s]
        settings = {k: v for k, v in config.to_json().items() if k not in ("test_source", "titles", "spark_master")}
        key = hashlib.md5(json.dumps([prints, settings, __version__]).encode()).hexdigest()[:16]
        place = cache_folder() / key
        if is_dataset(place):
            return open_dataset(place)
        return prepare(name, place, config, overwrite=True, progress=progress)


def cache_folder() -> Path:
    """Where `train SOURCE` keeps prepared datasets: AMZREC_CACHE, or amzrec in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("AMZREC_CACHE") or Path(base) / "amzrec")


def named(source: str | Path | None) -> str:
    """The source as text; None is the folder of the embedded sample."""
    from amzrec.reviews import sources

    return str(sources.sample_folder() if source is None else source)


class Preparation:
    """One run of prepare: an engine connection in the folder under construction, and the counts as they come."""

    source: Source
    tests: Source | None  # of --test-source
    key: str  # id | title | parent

    def __init__(self, name: str, config: PrepareConfig, folder: Path, progress: Progress) -> None:
        self.name, self.config, self.folder, self.progress = name, config, folder, progress
        self.scratch = folder / SCRATCH
        self.scratch.mkdir()
        self.counts: dict[str, Any] = {}
        self.warnings: list[str] = []

    def run(self) -> None:
        """All stages; the folder then holds the dataset."""
        from amzrec.reviews import coded, split, vocabulary
        from amzrec.reviews.engines import engine

        self.con = engine.connect(self.scratch, self.config)
        with engine.working(self.con, self.name, self.folder):
            self.open()
            clean = coded.hashed(self.con, self.clean())
            self.stage("encoding")
            told = [name for name in vocabulary.TOLD.values() if name in self.source.has]
            part = functools.partial(split.early, config=self.config)
            coded.keep_ids(self.con, clean, told)
            rows, duplicates, repeats = coded.unique(self.con, clean, part)
            if self.tests and (both := coded.both(self.con)):
                self.warnings.append(f"{both:,} reviews are also among the test reviews and left out of train")
            self.counts |= {"duplicates": duplicates, "repeats": repeats}
            rows, self.counts["filtered"] = coded.core(self.con, rows, self.config.min_reviews)
            self.write(self.split(rows))
        shutil.rmtree(self.scratch)

    def open(self) -> None:
        """Find out what the source is, and say so."""
        from amzrec.reviews import sources

        wanted = [self.name] + ([self.config.test_source] if self.config.test_source else [])
        opened = [sources.open_source(self.con, name, self.config, self.scratch) for name in wanted]
        self.source, self.tests = opened[0], opened[1] if len(opened) > 1 else None
        self.key = product_key(self.config.product_key, self.source)
        other = [f"{theirs} = {ours}" for ours, theirs in self.source.columns.items() if ours != theirs]
        self.progress.say(f"{self.name}: read as {self.source.format}{' with ' if other else ''}{', '.join(other)}")
        for note in self.source.notes:
            self.progress.say(note)

    def stage(self, name: str) -> None:
        """Tell that a stage begins."""
        self.progress.step(f"prepare: {name}", STAGES.index(name), len(STAGES))

    def clean(self) -> Any:
        """The table of good reviews as text; counts and lists the others, and stops where they are too many."""
        from amzrec.reviews import checks, rejects
        from amzrec.reviews.engines import engine
        from amzrec.reviews.sources import catalogue

        self.stage("reading")
        titles = catalogue.titles_table(self.con, self.source.products) if self.key == "title" else None
        parts = [(self.source, part, False) for part in self.source.parts]
        parts += [(self.tests, part, True) for part in self.tests.parts] if self.tests else []
        checked = [checks.checked(s, part, self.key, titles).mutate(given=given) for s, part, given in parts]
        table = self.con.create_table("checked", engine.union(checked))
        pa.default_memory_pool().release_unused()  # what blocks of a large file were parsed in
        good = table.reason.isnull()
        totals = engine.fetched(table.agg(good=good.sum(), undated=(good & table.undated).sum())).to_pylist()[0]
        refusals = engine.fetched(table.filter(~good).group_by("reason").agg(n=lambda t: t.count())).to_pylist()
        unread = engine.left_out(self.con)
        refused = rejects.refused_by_reader(unread)
        refused.update({row["reason"]: row["n"] for row in refusals})
        read = int(totals["good"] or 0) + refused.total()
        self.counts |= {"read": read, "rejected": dict(refused.most_common())}

        def listed() -> Iterator[rejects.Reject]:
            yield from rejects.records(unread)
            for source, part, _ in parts if refused else ():
                yield from rejects.refused(self.con, source, part, self.key, titles)

        rejects.write_rejects(self.folder / REJECTS, listed())
        checks.enough(self.source, self.config, read, self.counts["rejected"], self.folder / REJECTS)
        if totals["undated"]:
            self.warnings.append(f"{int(totals['undated']):,} timestamps could not be read and count as missing")
        return table.filter(good) if refusals else table

    def split(self, rows: Any) -> Any:
        """The kept reviews with their part."""
        from amzrec.reviews import split
        from amzrec.reviews.engines import engine

        self.stage("splitting")
        kept = split.parts(self.con, rows, self.config)
        if kept is not rows:
            kept = self.con.create_table("kept", kept)
            engine.drop(self.con, "coded", "core_0", "core_1")
        engine.drop(self.con, "again")
        found = engine.fetched(kept.group_by("part").agg(n=kept.count())).to_pylist()
        sizes = {PARTS[row["part"]]: row["n"] for row in found}
        self.counts |= {"kept": sum(sizes.values())} | {part: sizes.get(part, 0) for part in PARTS}
        if not sizes.get("train"):
            raise AmzrecError(
                f"the {sum(sizes.values()):,} reviews kept of {self.source.name} leave nothing to train on with "
                f"--split {self.config.split}: take more reviews, or smaller --test and --valid"
            )
        for part, wanted in (("valid", self.config.valid), ("test", self.config.test)):
            if wanted and not sizes.get(part):
                self.warnings.append(f"the {part} part is empty: there are too few reviews for its share")
        return kept

    def write(self, kept: Any) -> None:
        """The products, the customers, the three parts and dataset.json."""
        from amzrec.reviews import vocabulary
        from amzrec.reviews.engines import engine
        from amzrec.reviews.sources import catalogue

        self.stage("counting")
        products = catalogue.by_key(self.source.products, self.key)
        everyone = not self.config.min_reviews
        goods = vocabulary.numbered(self.con, kept, "product", list(products) if everyone else [])
        self.counts["products"] = engine.size(goods)
        self.stage("writing")
        with ThreadPoolExecutor(1) as pool:  # the engine sorts reviews while Python reads titles
            others = pool.submit(self.write_reviews, engine.beside(self.con), kept.op().name, everyone)
            described = vocabulary.described(goods, self.con.table("product_told"))
            vocabulary.write_products(self.folder / PRODUCTS, described, products)
            others.result()
        if self.config.titles:
            titled = pq.read_table(self.folder / PRODUCTS, columns=["title"])["title"]
            known = len(titled) - titled.null_count
            self.progress.say(f"{known:,} of {len(titled) - 1:,} products have a title, with {self.config.titles}")
        self.write_info(kept)

    def write_reviews(self, con: Any, name: str, everyone: bool) -> None:
        """The customers, of all that the source lists or of those in the table `name`, and the three parts.

        Raises AmzrecError where a code stands for two ids.
        """
        from amzrec.reviews import vocabulary
        from amzrec.reviews.engines import engine

        kept, goods = con.table(name), con.table("product_rows")
        customers = {**(self.tests.customers if self.tests else {}), **self.source.customers}
        people = vocabulary.numbered(con, kept, "customer", list(customers) if everyone else [])
        self.counts["customers"] = engine.size(people)
        vocabulary.write_customers(self.folder / CUSTOMERS, people, customers)
        people = people.select(customer="code", customer_row="row")
        goods = goods.select(product="code", product_row="row")
        coded = kept.join(people, "customer").join(goods, "product")
        coded = coded.select("part", "stars", "timestamp", customer="customer_row", product="product_row")
        for number, part in enumerate(PARTS):
            rows = coded.filter(coded.part == number).select("customer", "product", "stars", "timestamp")
            rows = rows.order_by([rows.customer, rows.timestamp.asc(nulls_first=True), rows.product])
            con.to_parquet(rows, str(self.folder / f"{part}.parquet"))
            written = pq.read_metadata(self.folder / f"{part}.parquet").num_rows
            if written != self.counts[part]:  # two ids of one code: each of their reviews was joined with both
                other = "duckdb" if self.config.engine == "spark" else "spark"
                raise AmzrecError(
                    f"{written:,} {part} reviews were written for {self.counts[part]:,}: two ids of {self.name} have "
                    f"one hash of 64 bits. That happens hardly ever; --engine {other} has other hashes"
                )

    def write_info(self, kept: Any) -> None:
        """dataset.json."""
        from amzrec.reviews.engines import engine
        from amzrec.reviews.sources import files

        facts = kept.aggregate(low=kept.stars.min(), high=kept.stars.max(), timeless=kept.timestamp.isnull().sum())
        found = engine.fetched(facts).to_pylist()[0]
        low, high = self.source.scale or (found["low"], found["high"])
        if found["timeless"] and found["timeless"] < self.counts["kept"]:
            self.warnings.append(f"{int(found['timeless']):,} of {self.counts['kept']:,} reviews have no timestamp")
        info = DatasetInfo(
            source=self.source.name,
            fingerprint=files.fingerprint_of(self.source.name),
            format=self.source.format,
            columns=self.source.columns,
            protocol=DataProtocol(**{**self.config.protocol(), "product_key": self.key}),
            stars=None if found["low"] is None else Scale(float(low), float(high)),
            counts=Counts(**self.counts),
            warnings=tuple(self.warnings),
            version=__version__,
        )
        info.write(self.folder / INFO)
        for warning in self.warnings:
            self.progress.say(warning)
        self.progress.say(summary(info.counts))


def summary(counts: Counts) -> str:
    """What became of every row, in one sentence."""
    lost = {**counts.rejected, "duplicates": counts.duplicates, "repeats": counts.repeats}
    lost["filtered by --min-reviews"] = counts.filtered
    gone = "".join(f", {n:,} {reason}" for reason, n in lost.items() if n)
    return (
        f"{counts.read:,} rows read{gone}, {counts.kept:,} kept: {counts.train:,} train, "
        f"{counts.valid:,} valid, {counts.test:,} test; {counts.customers:,} customers, {counts.products:,} products"
    )


def product_key(wanted: str, source: Source) -> str:
    """id, title or parent: what `auto` means for this source; AmzrecError where the source has no such column."""
    if wanted == "auto":
        return "parent" if "product_parent" in source.has else "id"
    if wanted == "parent" and "product_parent" not in source.has:
        raise AmzrecError(
            f"--product-key parent: {source.name} ({source.format}) has no parent column; take id or title"
        )
    if wanted == "title" and "product_title" not in source.has and not source.products:
        raise AmzrecError(
            f"--product-key title: {source.name} ({source.format}) has no titles; take id, or add --titles FILE"
        )
    return wanted
