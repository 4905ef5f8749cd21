"""A source on its way to a dataset folder, stage by stage: opened, read, made single, split, written."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from amzrec import __version__
from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError, Progress
from amzrec.reviews import checks, engines, ids, kcore, rejects, repeats, secondlook, senses, split, stars, vocabulary
from amzrec.reviews.engines.protocol import Engine, Table, union
from amzrec.reviews.outliers import without_outliers
from amzrec.reviews.relation import BLANK, Facts, Meaning, Part, Source
from amzrec.reviews.sources import Known, address, catalogue, fingerprint_of, open_source
from amzrec.reviews.sources.origin import Origin
from amzrec.reviews.sources.remote import Copied
from amzrec.reviews.textfile import content_of
from amzrec.store.dataset import CUSTOMERS, INFO, PARTS, PRODUCTS, REJECTS, Counts, DatasetInfo, Scale
from amzrec.store.manifest import new_identity
from amzrec.store.protocol import DataProtocol
from amzrec.store.times import few

SCRATCH = "scratch"  # engine files and copies, inside the folder under construction
STAGES = ("reading", "encoding", "splitting", "counting", "writing")
CHECKED, KEPT = "checked", "kept"  # tables
TABLES = (CUSTOMERS, PRODUCTS, *(f"{part}.parquet" for part in PARTS))


class Input(NamedTuple):
    """One file of reviews, and the source that it is of."""

    source: Source
    part: Part
    is_test: bool  # of --test-source


class RowCounts(NamedTuple):
    """How many rows were read, and what became of them."""

    good: int
    undated: int  # of the good ones: their timestamps could not be read
    odd: int  # with an odd number of quotes
    exponents: int  # with an id that may be a number such as 1e+05
    blank: int  # passed over
    oldest: int | None  # unix seconds of the good ones
    newest: int | None
    lowest: float | None  # stars of the good ones
    highest: float | None
    refused: Counter[str]  # by reason, by the checks and by the readers


class Preparation:
    """One run of prepare: the engine, the sources, and the counts as they come.

    `run` does all stages. Each stage is a method that takes the table of the stage before it: `open_sources`, `read`,
    `single`, `split`, `write`.
    """

    source: Source
    tests: Source | None  # of --test-source
    key: str  # id | title | parent

    def __init__(self, origin: Origin, config: PrepareConfig, folder: Path, progress: Progress) -> None:
        self.origin, self.config, self.folder, self.progress = origin, config, folder, progress
        self.known = Known(meaning=senses.asked(config))  # what a first reading has shown
        if origin.is_copy:
            (copy,) = map(Path, origin.names)
            self.known.copies[str(copy)] = Copied(copy, origin.shown, content_of([copy]))
        self.scratch = folder / SCRATCH
        self.scratch.mkdir()
        self.engine: Engine = engines.connect(self.scratch, config)
        self.counts: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.said: set[str] = set()

    def run(self) -> None:
        """Do all stages; the folder then holds the dataset. Raises AmzrecError where Arrow cannot read a file."""
        try:
            with self.engine.working(self.origin.shown, self.folder):
                self.open_sources()
                self.write(self.split(self.single(self.read())))
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno:  # of the system: it is no fault of the file
                raise
            raise AmzrecError(
                f"{self.origin.shown} is damaged and could not be read ({' '.join(str(error).split())[:200]}): "
                "download or write it again"
            ) from error
        shutil.rmtree(self.scratch)

    def say(self, sentence: str) -> None:
        """Say a sentence once."""
        if sentence and sentence not in self.said:
            self.said.add(sentence)
            self.progress.say(sentence)

    def stage(self, name: str) -> None:
        """Tell that a stage begins."""
        self.progress.step(f"prepare: {name}", STAGES.index(name), len(STAGES))

    def open_sources(self) -> None:
        """Find out what the sources are, and say so."""
        of_test = dataclasses.replace(self.config, table=None, query=None)  # which are of SOURCE
        names = [self.origin.names, *([(self.config.test_source,)] if self.config.test_source else [])]
        opened, *tests = (
            open_source(self.engine, name, config, self.scratch, self.progress, self.known)
            for name, config in zip(names, (self.config, of_test), strict=False)
        )
        self.source = opened
        self.tests = tests[0] if tests else None
        self.with_meaning()
        self.key = product_key(self.config.product_key, self.source)
        renamed = [f"{theirs} = {ours}" for ours, theirs in self.source.columns.items() if ours != theirs]
        as_what = f"{self.source.format}{' with ' if renamed else ''}{', '.join(renamed)}"
        self.say(f"{self.source.name}: read as {as_what}")
        for source in (self.source, self.tests):
            for note in source.notes if source else ():
                self.say(note)
        if self.source.meaning.counts:
            self.say(senses.counted(self.source))

    def with_meaning(self) -> None:
        """Read the values of all sources as what is known of them."""
        self.source = dataclasses.replace(self.source, meaning=self.known.meaning)
        self.tests = dataclasses.replace(self.tests, meaning=self.known.meaning) if self.tests else None

    @property
    def inputs(self) -> list[Input]:
        """All files of all sources."""
        inputs = [Input(self.source, part, False) for part in self.source.parts]
        return inputs + ([Input(self.tests, part, True) for part in self.tests.parts] if self.tests else [])

    def read(self) -> Table:
        """Return the good reviews as text; count and list the others, and stop where they are too many."""
        self.stage("reading")
        table, counts = self.checked()
        parts = [one.part for one in self.inputs]
        if better := secondlook.writings(parts, counts.refused, counts.odd > 0, self.known.writings, self.config):
            self.known.writings |= better
            self.engine.forget_unread()
            self.open_sources()
            table, counts = self.checked()
        parts = [one.part for one in self.inputs]
        reading = senses.reading_of(self.engine, self.source, parts, table, counts, self.config)
        for note in reading.notes:
            self.say(note)
        if reading.meaning != self.source.meaning:
            unread = counts.refused[checks.NO_STARS]
            table, counts = self.checked_with(reading.meaning)
            if reading.meaning.written_stars:
                if counts.refused[checks.NO_STARS] < unread:
                    self.say(senses.WRITTEN.format(self.source.columns["stars"]))
                table, counts = self.with_meant_stars(table, counts)
        if counts.undated:
            self.warnings.append(
                f"{counts.undated:,} timestamps could not be read as times from 1970 to 2099 and count as missing"
            )
        if counts.newest is not None:
            table, span = without_outliers(self.engine, table)
            self.warnings += [span.said] if span else []
        self.count_refused(counts)
        return table.filter(table.reason.isnull()) if counts.refused or counts.blank else table

    def with_meant_stars(self, table: Table, counts: RowCounts) -> tuple[Table, RowCounts]:
        """Return checked rows with their stars, now numbers, as what they mean: stars, clicks, some of them unrated.

        They are no clicks where a row was refused for its stars: as a click it would be taken in silence.
        """
        sense = senses.stars_sense(self.engine, self.source, table, counts, self.config)
        if sense is None or (sense.clicks and counts.refused[checks.NO_STARS]):
            return table, counts
        if sense.note:
            self.say(sense.note)
        meaning = dataclasses.replace(self.source.meaning, clicks=sense.clicks, unrated=sense.unrated)
        return (table, counts) if meaning == self.source.meaning else self.checked_with(meaning)

    def checked_with(self, meaning: Meaning) -> tuple[Table, RowCounts]:
        """Return what `checked` does, with the columns read as they are meant."""
        self.known.meaning = meaning
        self.with_meaning()
        self.engine.forget_unread()
        return self.checked()

    def checked(self) -> tuple[Table, RowCounts]:
        """Return all rows as text with the reason why one is refused, and how many there are of each reason."""
        titles = self.titles()
        checked = [
            checks.checked(one.source, one.part, self.key, titles).mutate(is_test=one.is_test) for one in self.inputs
        ]
        table = self.engine.create_table(CHECKED, union(checked), overwrite=True)
        pa.default_memory_pool().release_unused()  # what blocks of a large file were parsed in
        good, bad = table.reason.isnull(), table.reason.notnull()
        totals = table.agg(  # without groups, which would take three times as long
            good=good.sum(), bad=bad.sum(), undated=(good & table.undated).sum(), odd=table.odd.sum(),
            exponents=(table.customer_id.contains("e+") | table.product_id.contains("e+")).sum(),
            oldest=table.timestamp.min(where=good), newest=table.timestamp.max(where=good),
            lowest=table.stars.min(where=good), highest=table.stars.max(where=good),
        )  # fmt: skip
        (found,) = self.engine.fetch(totals).to_pylist()
        refused: Counter[str] = Counter()
        if found.pop("bad"):
            rows = table.filter(bad)
            reasons = self.engine.fetch(rows.group_by("reason").agg(n=rows.count())).to_pylist()
            refused.update({row["reason"]: row["n"] for row in reasons})
        blank = refused.pop(BLANK, 0)
        refused.update(rejects.counts_of(self.engine.unread()))
        numbers = {name: int(found.pop(name) or 0) for name in ("good", "undated", "odd", "exponents")}
        return table, RowCounts(**numbers, **found, blank=blank, refused=refused)

    def titles(self) -> Table | None:
        """Return the table of titles that product key `title` looks titles up in."""
        return catalogue.titles_table(self.engine, self.source.products) if self.key == "title" else None

    def count_refused(self, counts: RowCounts) -> None:
        """Write rejects.parquet, and raise AmzrecError where too many rows were refused by the reader or the checks."""
        read = counts.good + counts.refused.total()
        self.counts |= {"read": read, "rejected": dict(counts.refused.most_common())}
        titles = self.titles()

        def listed() -> Iterator[rejects.Reject]:
            if not counts.refused:
                return
            called = {str(one.part.file): one.part.called for one in self.inputs}
            yield from rejects.unread_records(self.engine.unread(), called)
            for one in self.inputs:
                yield from rejects.refused_rows(self.engine, one.source, one.part, self.key, titles)

        rejects.write_rejects(self.folder / REJECTS, listed())
        checks.enough(self.source, self.config, read, self.counts["rejected"], self.folder / REJECTS)

    def single(self, reviews: Table) -> Table:
        """Return one review per customer and product, ids as hashes, without those that --min-reviews filters."""
        self.stage("encoding")
        reviews = ids.hashed(self.engine, reviews)
        ids.keep_ids(self.engine, reviews, [n for n in vocabulary.REVIEW_FACTS.values() if n in self.source.has])
        part = functools.partial(split.part_at_once, config=self.config)
        single = repeats.one_per_pair(self.engine, reviews, part)
        self.engine.drop(CHECKED)
        if self.tests and (both := repeats.in_test_and_others(self.engine)):
            self.warnings.append(f"{both:,} reviews are also among the test reviews and left out of train")
        self.engine.drop(repeats.REPEATED)
        core, filtered = kcore.kcore(self.engine, single.reviews, self.config.min_reviews)
        self.counts |= {"duplicates": single.duplicates, "repeats": single.repeats, "filtered": filtered}
        return core

    def split(self, reviews: Table) -> Table:
        """Return the reviews with the part that each belongs to; AmzrecError where nothing is left to train on."""
        self.stage("splitting")
        kept = split.with_part(self.engine, reviews, self.config)
        if kept is not reviews:
            kept = self.engine.create_table(KEPT, kept)
            self.engine.drop(repeats.SINGLE, *kcore.TABLES)
        by_part = self.engine.fetch(kept.group_by("part").agg(n=kept.count())).to_pylist()
        sizes = dict.fromkeys(PARTS, 0) | {PARTS[row["part"]]: row["n"] for row in by_part}
        self.counts |= {"kept": sum(sizes.values())} | sizes
        if not sizes["train"]:
            raise AmzrecError(
                f"the {sum(sizes.values()):,} reviews kept of {self.source.name} leave nothing to train on with "
                f"--split {self.config.split}: take more reviews, or smaller --test and --valid"
            )
        for part, share in (("valid", self.config.valid), ("test", self.config.test)):
            if share and not sizes[part]:
                self.warnings.append(f"the {part} part is empty: there are too few reviews for its share")
        return kept

    def write(self, kept: Table) -> None:
        """Write the products, the customers, the three parts and dataset.json."""
        self.stage("counting")
        catalogued = catalogue.by_key(self.source.products, self.key)
        listed = list(catalogued) if not self.config.min_reviews else []
        products = vocabulary.in_rows(self.engine, kept, "product", listed)
        self.counts["products"] = self.engine.size(products)
        self.stage("writing")
        with ThreadPoolExecutor(1) as pool:  # the engine sorts reviews while Python reads titles
            reviews = pool.submit(self.write_customers_and_reviews, self.engine.beside(), kept.op().name)
            products = vocabulary.with_review_facts(products, self.engine.table(ids.PRODUCT_FACTS))
            vocabulary.write_products(self.engine, self.folder / PRODUCTS, products, catalogued)
            reviews.result()
        if self.config.titles:
            self.say_titles(catalogued)
        self.write_info(kept)

    def say_titles(self, catalogued: Facts) -> None:
        """Say how many of the reviewed products --titles knows; warn where it knows none."""
        rows = self.engine.table("product_rows")
        reviewed = self.engine.fetch(rows.filter(rows.hash.notnull()).select("id"))["id"].to_pylist()
        known = sum(catalogued.get(product, (None, []))[0] is not None for product in reviewed)
        file = address.masked(str(self.config.titles))
        if known or not reviewed:
            self.progress.say(f"{file} has titles of {known:,} of the {len(reviewed):,} products that have reviews")
            return
        theirs = next(iter(self.source.products), "")
        self.warnings.append(
            f"{file} has a title of none of the {len(reviewed):,} products that have reviews: reviews have ids such "
            f"as {reviewed[0]!r}, that file {theirs!r}; see that it is of these products"
        )

    def write_customers_and_reviews(self, engine: Engine, name: str) -> None:
        """Write customers.parquet and the three parts from the table `name` of kept reviews.

        The customers are all that the sources list, or with --min-reviews those who are left.
        """
        kept = engine.table(name)
        catalogued = {**(self.tests.customers if self.tests else {}), **self.source.customers}
        listed = list(catalogued) if not self.config.min_reviews else []
        customers = vocabulary.in_rows(engine, kept, "customer", listed)
        self.counts["customers"] = engine.size(customers)
        vocabulary.write_customers(engine, self.folder / CUSTOMERS, customers, catalogued)
        customers = customers.select(customer="hash", customer_row="row")
        products = engine.table("product_rows").select(product="hash", product_row="row")
        weight = ["weight"] if self.source.meaning.counts else []
        kept = stars.weights_of(engine, kept) if weight else kept
        reviews = kept.join(customers, "customer").join(products, "product")
        reviews = reviews.select("part", "stars", "timestamp", *weight, customer="customer_row", product="product_row")
        for number, part in enumerate(PARTS):
            rows = reviews.filter(reviews.part == number).select("customer", "product", "stars", "timestamp", *weight)
            rows = rows.order_by([rows.customer, rows.timestamp.asc(nulls_first=True), rows.product])
            engine.write_parquet(rows, self.folder / f"{part}.parquet")
            self.check_written(part)

    def check_written(self, part: str) -> None:
        """Raise AmzrecError where two ids have one hash: each of their reviews was then joined with both."""
        written = pq.read_metadata(self.folder / f"{part}.parquet").num_rows
        if written != self.counts[part]:
            others = " or ".join(f"--engine {name}" for name in engines.names() if name != self.engine.name)
            raise AmzrecError(
                f"{written:,} {part} reviews were written for {self.counts[part]:,}: two ids of {self.origin.shown} "
                f"have one hash of 64 bits. That happens hardly ever; {others} has other hashes"
            )

    def write_info(self, kept: Table) -> None:
        """Write dataset.json, and say what became of every row."""
        timeless = kept.timestamp.isnull()
        facts = kept.aggregate(
            low=kept.stars.min(), high=kept.stars.max(),
            timeless=timeless.sum(), learned=(timeless & (kept.part != split.TEST)).sum(),
        )  # fmt: skip
        found = self.engine.fetch(facts).to_pylist()[0]
        low, high = self.source.scale or (found["low"], found["high"])
        if found["timeless"] and found["timeless"] < self.counts["kept"]:
            what_then = "these few count as old as the oldest"
            if found["learned"] > few(self.counts["kept"]):
                what_then = "a model then reads no times at all: leave them out of the source, or mend them"
            self.warnings.append(
                f"{int(found['timeless']):,} of {self.counts['kept']:,} reviews have no timestamp: {what_then}"
            )
        info = DatasetInfo(
            source=self.source.name,
            fingerprint=self.source.fingerprint or fingerprint_of(self.origin.names),
            format=self.source.format,
            columns=self.source.columns,
            protocol=DataProtocol(**{**self.config.protocol(), "product_key": self.key}),
            stars=None if found["low"] is None or self.source.meaning.counts else Scale(float(low), float(high)),
            stars_are=senses.name_of(self.source),
            counts=Counts(**self.counts),
            warnings=tuple(self.warnings),
            version=__version__,
            identity=new_identity(),
        )
        info.write(self.folder / INFO)
        for warning in self.warnings:
            self.progress.say(warning)
        self.progress.say(summary(info.counts))


def product_key(wanted: str, source: Source) -> str:
    """Return id, title or parent: what `auto` means for this source; AmzrecError where it has no such column."""
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


def summary(counts: Counts) -> str:
    """Say what became of every row, in one sentence."""
    lost = {**counts.rejected, "duplicates": counts.duplicates, "repeats": counts.repeats}
    lost["filtered by --min-reviews"] = counts.filtered
    not_kept = "".join(f", {number:,} {reason}" for reason, number in lost.items() if number)
    return (
        f"{counts.read:,} rows read{not_kept}, {counts.kept:,} kept: {counts.train:,} train, "
        f"{counts.valid:,} valid, {counts.test:,} test; {counts.customers:,} customers, {counts.products:,} products"
    )
