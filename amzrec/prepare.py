"""prepare: any review source → a dataset folder, cleaned, counted, split and encoded."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from amzrec import __version__, vocab
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

REJECT_SCHEMA = pa.schema([("file", pa.string()), ("line", pa.int64()), ("reason", pa.string()), ("text", pa.string())])


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
    with whole_folder(Path(out), overwrite, "the dataset folder") as folder:
        Preparation(named(source), config or PrepareConfig(), folder, progress).run()
    return open_dataset(out)


def cached(source: str | Path | None, config: PrepareConfig | None = None, *, progress: Progress = SILENT) -> Dataset:
    """The dataset of this source and these settings from the cache (AMZREC_CACHE), prepared when it is not there."""
    from amzrec import sources

    config = config or PrepareConfig()
    name = named(source)
    prints = [sources.fingerprint_of(s) for s in (name, config.test_source, config.titles) if s]
    key = hashlib.md5(json.dumps([prints, config.to_json(), __version__]).encode()).hexdigest()[:16]
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

        self.config, self.folder, self.progress = config, folder, progress
        self.con = connect(folder)
        self.source = sources.open_source(self.con, source, config)
        progress.say(f"{source} is read as {self.source.format}")
        self.tests = sources.open_source(self.con, config.test_source, config) if config.test_source else None
        self.key = product_key(config.product_key, self.source)
        self.counts: dict[str, Any] = {}
        self.warnings: list[str] = []

    def run(self) -> None:
        """All stages; the folder then holds the dataset."""
        try:
            reviews = self.reviews(self.clean())
            reviews = self.core(self.unique(reviews))
            self.write(reviews)
        finally:
            self.con.disconnect()
            for file in self.folder.glob("work.duckdb*"):
                file.unlink()

    def clean(self) -> Any:
        """The table of reviews as text, checked: reason is null where a row is good."""
        from amzrec import sources

        table = sources.checked(self.source, self.key)
        if self.tests is not None:
            table = table.union(sources.checked(self.tests, self.key).mutate(given=True))
        table = self.con.create_table("checked", table)
        read = int(table.count().execute())
        reasons = table.filter(table.reason.notnull()).group_by("reason").agg(n=lambda t: t.count()).to_pyarrow()
        rejected = dict(sorted(zip(reasons["reason"].to_pylist(), reasons["n"].to_pylist(), strict=True)))
        self.counts |= {"read": read, "rejected": rejected}
        pq.write_table(REJECT_SCHEMA.empty_table(), self.folder / REJECTS)
        return table.filter(table.reason.isnull()).drop("reason")

    def reviews(self, clean: Any) -> Any:
        """The table of reviews with customers and products as numbers."""
        from amzrec import split

        for name in ("customer", "product"):
            ids = clean.select(f"{name}_id").distinct()
            ids = ids.mutate(**{name: ibis_row_number(ids[f"{name}_id"]).cast("int32")})
            self.con.create_table(f"{name}s", ids)
        coded = clean.join(self.con.table("customers"), "customer_id").join(self.con.table("products"), "product_id")
        coded = coded.select(
            "customer",
            "product",
            "stars",
            "timestamp",
            "given",
            draw=split.draw(coded.customer_id, coded.product_id, self.config.seed),
        )
        return self.con.create_table("coded", coded)

    def unique(self, coded: Any) -> Any:
        """One review per customer and product: test before train, then the latest, then the highest stars."""
        import ibis

        total = int(coded.count().execute())
        rows = coded.group_by(coded.columns).agg()
        distinct = int(rows.count().execute())
        window = ibis.window(
            group_by=[rows.customer, rows.product],
            order_by=[rows.given.desc(), rows.timestamp.desc(nulls_first=False), rows.stars.desc(nulls_first=False)],
        )
        first = rows.mutate(place=ibis.row_number().over(window)).filter(lambda t: t.place == 0).drop("place")
        first = self.con.create_table("unique_reviews", first)
        self.counts |= {"duplicates": total - distinct, "repeats": distinct - int(first.count().execute())}
        return first

    def core(self, rows: Any) -> Any:
        """The k-core: customers and products with fewer than min_reviews go, until none is left."""
        before = left = int(rows.count().execute())
        k, turn = self.config.min_reviews, 0
        while k > 1 and left:
            busy = rows
            for name in ("customer", "product"):
                enough = rows.group_by(name).agg(n=lambda t: t.count()).filter(lambda t: t.n >= k)
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

    def write(self, rows: Any) -> None:
        """Split, number and write the kept reviews with their customers and products."""
        from amzrec import split

        self.progress.say("splitting and encoding")
        kept = self.con.create_table("kept", split.parts(rows, self.config))
        sizes = [int(kept.filter(kept.part == p).count().execute()) for p in range(len(PARTS))]
        self.counts |= {"kept": sum(sizes)} | dict(zip(PARTS, sizes, strict=True))
        facts = {"customer": self.source.customers, "product": self.product_facts()}
        for name, make in (("customer", vocab.customers_table), ("product", vocab.products_table)):
            counts = kept.group_by(name).agg(n=(kept.part == split.TRAIN).sum()).join(self.con.table(f"{name}s"), name)
            found = counts.to_pyarrow()
            listed = [] if self.config.min_reviews else self.listed(name)
            ids, n = vocab.in_order(found[f"{name}_id"].to_pylist(), found["n"].to_numpy(), listed)
            table = make(ids, n, facts[name])
            pq.write_table(table, self.folder / (CUSTOMERS if name == "customer" else PRODUCTS))
            rows_of = pa.table({f"{name}_id": table[f"{name}_id"], "row": table["row"]})
            codes = self.con.create_table(f"{name}_rows_text", rows_of).join(self.con.table(f"{name}s"), f"{name}_id")
            self.con.create_table(f"{name}_rows", codes.select(name, **{f"{name}_row": codes.row}))
            self.counts[f"{name}s"] = len(ids)
        encoded = kept.join(self.con.table("customer_rows"), "customer").join(self.con.table("product_rows"), "product")
        encoded = encoded.select("part", customer="customer_row", product="product_row", stars="stars", timestamp="timestamp")
        for number, part in enumerate(PARTS):
            rows = encoded.filter(encoded.part == number).drop("part")
            rows = rows.order_by(["customer", rows.timestamp.asc(nulls_first=True), "product"])
            self.con.to_parquet(rows, str(self.folder / f"{part}.parquet"))
        self.write_info(kept)

    def listed(self, name: str) -> list[str]:
        """Ids that only the source's catalogue lists."""
        facts = self.source.customers if name == "customer" else self.source.products
        return [title or "" for title, _ in facts.values() if title] if self.key == "title" and name == "product" else list(facts)

    def product_facts(self) -> Any:
        """Raw title and features of each product: the catalogue's where there is one, else the commonest in the reviews."""
        facts = dict(self.source.products)
        if self.key == "title":
            facts = {title: (title, features) for title, features in reversed(list(facts.values())) if title}
        table = self.con.table("checked")
        table = table.filter(table.reason.isnull())
        found: dict[str, dict[str, str]] = {}
        for column in ("product_title", "category"):
            if column in self.source.reviews.columns:
                counts = table.filter(table[column].notnull()).group_by(["product_id", column]).agg(n=lambda t: t.count())
                counts = counts.order_by(["product_id", counts.n.asc(), counts[column].desc()]).to_pyarrow()
                found[column] = dict(zip(counts["product_id"].to_pylist(), counts[column].to_pylist(), strict=True))
        titles, categories = found.get("product_title", {}), found.get("category", {})
        for product in {**titles, **categories}:
            title, features = facts.get(product, (None, []))
            category = [f"category={categories[product]}"] if product in categories else []
            facts[product] = (title or titles.get(product), [*category, *features])
        return facts

    def write_info(self, kept: Any) -> None:
        """dataset.json."""
        from amzrec import sources

        low, high = kept.stars.min().execute(), kept.stars.max().execute()
        stars = None if low is None or np.isnan(low) else {"min": float(low), "max": float(high)}
        if stars and self.source.scale:
            stars = dict(zip(("min", "max"), self.source.scale, strict=True))
        self.counts = {k: self.counts[k] for k in COUNTS}
        info = {
            "source": self.source.name,
            "fingerprint": sources.fingerprint(self.source.files),
            "format": self.source.format,
            "columns": self.source.columns,
            "protocol": {**self.config.protocol(), "product_key": self.key},
            "stars": stars,
            "counts": self.counts,
            "warnings": self.warnings,
            "version": __version__,
        }
        (self.folder / INFO).write_text(json.dumps(info, indent=1, ensure_ascii=False))


COUNTS = (
    "read", "kept", "rejected", "duplicates", "repeats", "filtered", "train", "valid", "test", "customers", "products",
)  # fmt: skip


def connect(folder: Path) -> Any:
    """An Ibis connection to DuckDB that works in `folder` and spills to it."""
    import ibis

    con = ibis.duckdb.connect(folder / "work.duckdb")
    con.raw_sql("SET preserve_insertion_order = false")
    con.raw_sql(f"SET temp_directory = '{str(folder / 'work.duckdb.tmp')}'")
    con.raw_sql("SET enable_progress_bar = false")
    return con


def product_key(wanted: str, source: Any) -> str:
    """id, title or parent: what `auto` means for this source; raises AmzrecError where the source has no such column."""
    columns = source.reviews.columns
    if wanted == "auto":
        return "parent" if "product_parent" in columns else "id"
    if wanted == "parent" and "product_parent" not in columns:
        raise AmzrecError(f"--product-key parent: {source.name} ({source.format}) has no parent column; take id or title")
    if wanted == "title" and "product_title" not in columns and not source.products:
        raise AmzrecError(f"--product-key title: {source.name} ({source.format}) has no titles; take id, or add --titles FILE")
    return wanted


def ibis_row_number(column: Any) -> Any:
    """Positions 0.. in the order of a column."""
    import ibis

    return ibis.row_number().over(ibis.window(order_by=column))
