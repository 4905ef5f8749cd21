"""prepare: any review source → a dataset folder, cleaned, counted, split and encoded."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amzrec import __version__
from amzrec.config import PrepareConfig
from amzrec.dataset import (
    CUSTOMERS,
    INFO,
    PARTS,
    PRODUCTS,
    REJECTS,
    Dataset,
    is_dataset,
    open_dataset,
    whole_folder,
)
from amzrec.errors import SILENT, AmzrecError, Progress

SCRATCH = "scratch"  # engine files and copies, inside the folder under construction
STAGES = ("reading", "encoding", "splitting", "counting", "writing")
COUNTS = (
    "read", "kept", "rejected", "duplicates", "repeats", "filtered", "train", "valid", "test", "customers", "products",
)  # fmt: skip


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
    from amzrec import sources

    config = config or PrepareConfig()
    name = named(source)
    prints = [sources.fingerprint_of(s) for s in (name, config.test_source, config.titles) if s]
    settings = {k: v for k, v in config.to_json().items() if k not in ("test_source", "titles")}
    key = hashlib.md5(json.dumps([prints, settings, __version__]).encode()).hexdigest()[:16]
    folder = cache_folder() / key
    if is_dataset(folder):
        return open_dataset(folder)
    return prepare(name, folder, config, overwrite=True, progress=progress)


def cache_folder() -> Path:
    """Where `train SOURCE` keeps prepared datasets: AMZREC_CACHE, or amzrec in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("AMZREC_CACHE") or Path(base) / "amzrec")


def named(source: str | Path | None) -> str:
    """The source as text; None is the folder of the embedded sample."""
    from amzrec import sources

    return str(sources.sample_folder() if source is None else source)


class Preparation:
    """One run of prepare: an engine connection in the folder under construction, and the counts as they come."""

    def __init__(self, source: str, config: PrepareConfig, folder: Path, progress: Progress) -> None:
        from amzrec import sources
        from amzrec.sources import engine

        self.config, self.folder, self.progress = config, folder, progress
        self.scratch = folder / SCRATCH
        self.scratch.mkdir()
        self.con = engine.connect(self.scratch)
        self.source = sources.open_source(self.con, source, config, self.scratch)
        self.tests = None
        if config.test_source:
            self.tests = sources.open_source(self.con, config.test_source, config, self.scratch)
        self.key = product_key(config.product_key, self.source)
        self.counts: dict[str, Any] = {}
        self.warnings: list[str] = list(self.source.notes)
        progress.say(f"{source}: read as {self.source.format} ({columns_text(self.source.columns)})")

    def run(self) -> None:
        """All stages; the folder then holds the dataset."""
        try:
            clean = self.clean()
            kept = self.split(self.core(self.unique(self.encode(clean))))
            self.write(clean, kept)
        finally:
            self.con.disconnect()
        shutil.rmtree(self.scratch)

    def stage(self, name: str) -> None:
        """Tell that a stage begins."""
        self.progress.step(f"prepare: {name}", STAGES.index(name), len(STAGES))

    def clean(self) -> Any:
        """The table of good reviews as text; counts and lists the others, and stops where they are too many."""
        from amzrec.sources import checks, engine, rejects

        self.stage("reading")
        opened = [(self.source, False)] + ([(self.tests, True)] if self.tests else [])
        table = engine.union([checks.checked(s, p, self.key).mutate(given=t) for s, t in opened for p in s.parts])
        table = self.con.create_table("checked", table)
        counts = table.group_by("reason").agg(n=table.count(), undated=table.undated.sum()).to_pyarrow().to_pylist()
        rejected = {row["reason"]: row["n"] for row in counts if row["reason"] is not None}
        if unreadable := engine.unreadable_lines(self.con):
            rejected[rejects.NOT_UTF8] = unreadable
        rejected = dict(sorted(rejected.items(), key=lambda pair: -pair[1]))
        read = sum(row["n"] for row in counts) + unreadable
        self.counts |= {"read": read, "rejected": rejected}

        def listed() -> Iterator[rejects.Reject]:
            for source, _ in opened if rejected else ():
                for part in source.parts:
                    yield from rejects.refused(self.con, source, part, self.key)

        rejects.write_rejects(self.folder / REJECTS, listed())
        checks.enough(self.source, self.config, read, rejected, self.folder / REJECTS)
        if undated := sum(row["undated"] for row in counts if row["reason"] is None):
            self.warnings.append(f"{int(undated):,} timestamps could not be read and count as missing")
        return table.filter(table.reason.isnull())

    def encode(self, clean: Any) -> Any:
        """Reviews with customers and products as numbers, each with its draw for the split."""
        import ibis

        from amzrec import split

        self.stage("encoding")
        for name in ("customer", "product"):
            ids = clean.select(f"{name}_id").distinct()
            self.con.create_table(f"{name}_ids", ids.mutate(**{name: ibis.row_number().cast("int32")}))
        coded = clean.join(self.con.table("customer_ids"), "customer_id").join(
            self.con.table("product_ids"), "product_id"
        )
        draw = split.draw(coded.customer_id, coded.product_id, self.config.seed)
        return self.con.create_table(
            "coded", coded.select("customer", "product", "stars", "timestamp", "given", draw=draw)
        )

    def unique(self, coded: Any) -> Any:
        """One review per customer and product: test before train, then the latest, then the highest stars."""
        import ibis

        rows = coded.distinct()
        total, distinct = int(coded.count().execute()), int(rows.count().execute())
        window = ibis.window(
            group_by=[rows.customer, rows.product],
            order_by=[rows.given.desc(), rows.timestamp.desc(nulls_first=False), rows.stars.desc(nulls_first=False)],
        )
        first = rows.mutate(place=ibis.row_number().over(window)).filter(lambda t: t.place == 0).drop("place")
        first = self.con.create_table("unique_reviews", first)
        self.counts |= {"duplicates": total - distinct, "repeats": distinct - int(first.count().execute())}
        return first

    def core(self, rows: Any) -> Any:
        """The k-core: customers and products with fewer than min_reviews reviews go, until none is left."""
        before = left = int(rows.count().execute())
        k, turn = self.config.min_reviews, 0
        while k > 1 and left:
            busy = rows
            for name in ("customer", "product"):
                enough = rows.group_by(name).agg(n=rows.count()).filter(lambda t: t.n >= k)
                busy = busy.semi_join(enough, name)
            turn += 1
            rows = self.con.create_table(f"core_{turn}", busy)
            now = int(rows.count().execute())
            if now == left:
                break
            left = now
        self.counts["filtered"] = before - left
        if not left:
            raise AmzrecError(f"--min-reviews {k} leaves none of the {before:,} reviews: take a smaller number")
        return rows

    def split(self, rows: Any) -> Any:
        """The kept reviews with their part."""
        from amzrec import split

        self.stage("splitting")
        kept = self.con.create_table("kept", split.parts(rows, self.config))
        found = kept.group_by("part").agg(n=kept.count()).to_pyarrow().to_pylist()
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

    def write(self, clean: Any, kept: Any) -> None:
        """The customers, the products, the three parts and dataset.json."""
        from amzrec import vocab
        from amzrec.sources import catalogue

        self.stage("counting")
        products, customers = catalogue.by_key(self.source.products, self.key), self.source.customers
        everyone = not self.config.min_reviews
        people = vocab.numbered(self.con, kept, "customer", list(customers) if everyone else [])
        goods = vocab.numbered(self.con, kept, "product", list(products) if everyone else [])
        vocab.write_customers(self.folder / CUSTOMERS, people, customers)
        vocab.write_products(self.folder / PRODUCTS, vocab.described(goods, clean, self.source.has), products)
        self.counts |= {"customers": int(people.count().execute()), "products": int(goods.count().execute())}
        self.stage("writing")
        people = people.select(customer="code", customer_row="row")
        goods = goods.select(product="code", product_row="row")
        coded = kept.join(people, "customer").join(goods, "product")
        coded = coded.select("part", "stars", "timestamp", customer="customer_row", product="product_row")
        for number, part in enumerate(PARTS):
            rows = coded.filter(coded.part == number).select("customer", "product", "stars", "timestamp")
            rows = rows.order_by([rows.customer, rows.timestamp.asc(nulls_first=True), rows.product])
            self.con.to_parquet(rows, str(self.folder / f"{part}.parquet"))
        self.write_info(kept)

    def write_info(self, kept: Any) -> None:
        """dataset.json."""
        from amzrec import sources

        facts = kept.aggregate(low=kept.stars.min(), high=kept.stars.max(), timeless=kept.timestamp.isnull().sum())
        found = facts.to_pyarrow().to_pylist()[0]
        low, high = self.source.scale or (found["low"], found["high"])
        if found["timeless"] and found["timeless"] < self.counts["kept"]:
            self.warnings.append(f"{int(found['timeless']):,} of {self.counts['kept']:,} reviews have no timestamp")
        info = {
            "source": self.source.name,
            "fingerprint": sources.fingerprint_of(self.source.name),
            "format": self.source.format,
            "columns": self.source.columns,
            "protocol": {**self.config.protocol(), "product_key": self.key},
            "stars": None if found["low"] is None else {"min": float(low), "max": float(high)},
            "counts": {name: self.counts[name] for name in COUNTS},
            "warnings": self.warnings,
            "version": __version__,
        }
        (self.folder / INFO).write_text(json.dumps(info, indent=1, ensure_ascii=False), encoding="utf-8")
        for warning in self.warnings:
            self.progress.say(warning)
        self.progress.say(summary(info["counts"]))


def columns_text(columns: dict[str, str]) -> str:
    """`customer_id = UserId, …` for the one line that says how a source is read."""
    return ", ".join(f"{ours} = {theirs}" for ours, theirs in columns.items())


def summary(counts: Any) -> str:
    """What became of every row, in one sentence."""
    lost = {**counts["rejected"], **{n: counts[n] for n in ("duplicates", "repeats")}}
    lost["filtered by --min-reviews"] = counts["filtered"]
    gone = "".join(f", {n:,} {reason}" for reason, n in lost.items() if n)
    return (
        f"{counts['read']:,} rows read{gone}, {counts['kept']:,} kept: {counts['train']:,} train, "
        f"{counts['valid']:,} valid, {counts['test']:,} test; {counts['customers']:,} customers, "
        f"{counts['products']:,} products"
    )


def product_key(wanted: str, source: Any) -> str:
    """id, title or parent: what `auto` means for this source; raises AmzrecError where the source has no such column."""
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
    return str(wanted)
