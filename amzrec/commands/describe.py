"""`amzrec describe`: what a file of reviews holds, and what is already known without learning anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from amzrec.config import PrepareConfig
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.evaluation.baselines import DatedBaseline, PopularityBaseline, all_baselines, popularity
from amzrec.evaluation.judge import groups_of, judge
from amzrec.evaluation.testset import line_up_test
from amzrec.reviews.cache import dataset_of
from amzrec.store.dataset import NO_TIME, PARTS, Dataset, Reviews
from amzrec.store.documents import plain
from amzrec.store.folders import asked_file
from amzrec.store.ownership import check_file, is_picture

ROWS = ("read", "rejected", "duplicates", "repeats", "filtered", "kept", *PARTS)
DISTINCT = 20  # most values of the stars that are shown one by one
BINS = 10  # of stars with more values than that
TIMES = 80  # most bars of the reviews over time

Array = npt.NDArray[Any]
Figures = dict[str, Any]


def describe(
    source: Any = None,
    config: PrepareConfig | None = None,
    *,
    out: Path | str | None = None,
    progress: Progress = SILENT,
) -> Figures:
    """Describe a source, prepared into the cache as `train` does it, or a dataset folder; `out` is a picture (PNG).

    Returns {"source", "format", "protocol", "rows", "customers", "products", "titled_products", "density",
    "reviews_per_customer", "reviews_per_product", "stars", "time", "cold", "baselines", "warnings", "picture"}.
    "cold" and "baselines" speak of the test rows, as metrics.json does, with train + valid as what is known. What the
    data does not have is None. Raises AmzrecError as `prepare` does, and where the picture cannot be written.
    """
    if out is not None:
        if Path(out).suffix.lower() != ".png":
            raise AmzrecError(f"--out {out} names no picture: let it end in .png")
        check_file(Path(out), "the picture", is_picture)
    dataset = dataset_of(source, config, progress=progress)
    parts = {name: dataset.part(name) for name in PARTS}  # times that are missing are counted
    reviews = Reviews.concat(list(parts.values()))
    customers, products = np.unique(reviews.customer), np.unique(reviews.product)
    titled = dataset.products["title"].is_valid().to_numpy()[products]
    counts = plain(dataset.info.counts)
    document = {
        "source": dataset.info.source,
        "format": dataset.info.format,
        "protocol": plain(dataset.protocol),
        "rows": {name: counts[name] for name in ROWS},
        "customers": len(customers),
        "products": len(products),
        "titled_products": int(titled.sum()),
        "density": len(reviews) / (len(customers) * len(products)),
        "reviews_per_customer": spread(reviews.customer),
        "reviews_per_product": spread(reviews.product),
        "stars": stars_of(reviews.stars),
        "time": time_of(parts),
        "cold": cold(dataset),
        "baselines": baseline_figures(dataset),
        "warnings": list(dataset.info.warnings),
        "picture": None if out is None else str(out),
    }
    if out is not None:
        from amzrec.evaluation.dataset_picture import draw_dataset

        with asked_file(Path(out), "the picture") as partial:
            draw_dataset(document, partial)
    return document


def spread(rows: Array) -> Figures | None:
    """Count how many reviews each of the customers (or products) in `rows` has: mean, median, most, histogram.

    The bins are 1, 2, 3-4, 5-8, … : {"from", "to", "count": how many have so many, "reviews": how many these are}.
    """
    counts = np.unique(rows, return_counts=True)[1]
    if not len(counts):
        return None
    bin_of = np.ceil(np.log2(counts)).astype(np.int64)
    having, held = np.bincount(bin_of), np.bincount(bin_of, counts)
    return {
        "mean": float(counts.mean()),
        "median": float(np.median(counts)),
        "most": int(counts.max()),
        "histogram": [
            {"from": 2**i // 2 + 1, "to": 2**i, "count": int(n), "reviews": int(k)}
            for i, (n, k) in enumerate(zip(having, held, strict=True))
        ],
    }


def stars_of(stars: Array) -> Figures | None:
    """Compute mean, deviation and histogram of the stars, by value or in BINS bins where there are many values.

    None where no review has stars.
    """
    rated = stars[~np.isnan(stars)].astype(np.float64)
    if not len(rated):
        return None
    values, counts = np.unique(rated, return_counts=True)
    bins = [(value, value) for value in values.tolist()]
    if len(values) > DISTINCT:
        counts, edges = np.histogram(rated, BINS)
        bins = list(zip(edges.tolist(), edges[1:].tolist(), strict=False))
    return {
        "mean": float(rated.mean()),
        "deviation": float(rated.std()),
        "unrated": len(stars) - len(rated),
        "histogram": [{"from": a, "to": b, "reviews": int(n)} for (a, b), n in zip(bins, counts, strict=True)],
    }


def time_of(parts: dict[str, Reviews]) -> Figures | None:
    """Find the first and last day (UTC), reviews without a time, and a histogram by part; None without any time."""
    dated = {name: part.timestamp[part.timestamp != NO_TIME] for name, part in parts.items()}
    everything = np.concatenate(list(dated.values()))
    if not len(everything):
        return None
    edges = periods(int(everything.min()), int(everything.max()))
    counts = {name: np.histogram(times, [*edges, np.inf])[0].tolist() for name, times in dated.items()}
    return {
        "first": day(int(everything.min())),
        "last": day(int(everything.max())),
        "undated": sum(map(len, parts.values())) - len(everything),
        "histogram": [
            {"from": day(edge), **{name: counts[name][i] for name in counts}} for i, edge in enumerate(edges)
        ],
    }


def periods(first: int, last: int) -> list[int]:
    """List the unix seconds at which the days, weeks, months, quarters or years of a time span begin, at most TIMES."""
    start, end = np.datetime64(first, "s"), np.datetime64(last, "s")
    for unit in ("D", "W", "M", "3M", "Y", "10Y", "100Y"):
        begins = np.arange(start.astype(f"M8[{unit}]"), end.astype(f"M8[{unit}]") + 1)
        if len(begins) <= TIMES:
            break
    return [int(moment) for moment in begins.astype("M8[s]").astype(np.int64)]


def day(seconds: int) -> str:
    """Write a moment as its day in UTC, such as `2015-08-31`."""
    return str(np.datetime64(seconds, "s").astype("M8[D]"))


def cold(dataset: Dataset) -> Figures | None:
    """Count the shares of test reviews whose customer, product, or either has none in train and valid; None without."""
    test = dataset.test
    if not len(test):
        return None
    known = []
    for name, size in (("customer", dataset.customers.num_rows), ("product", dataset.products.num_rows)):
        there = np.zeros(size, np.bool_)
        for part in (dataset.train, dataset.valid):
            there[getattr(part, name)] = True
        known.append(there[getattr(test, name)])
    return {
        "customer": float(1 - known[0].mean()),
        "product": float(1 - known[1].mean()),
        "either": float(1 - (known[0] & known[1]).mean()),
    }


def baseline_figures(dataset: Dataset) -> dict[str, Figures]:
    """Judge the baselines as `evaluate` does, fitted on train and valid; none where there are no test reviews."""
    if not len(dataset.test):
        return {}
    counts = popularity(np.concatenate([dataset.train.product, dataset.valid.product]), dataset.products.num_rows)
    testset = line_up_test(dataset, ("train", "valid"), dataset.candidates(counts))
    figures: dict[str, Figures] = {}
    for system in all_baselines(dataset, testset):
        figures[system.name] = dict(groups_of(judge(testset, system)))
        if isinstance(system, PopularityBaseline | DatedBaseline) and system.half_life:
            figures[system.name]["half_life_days"] = system.half_life
    return {name: groups for name, groups in figures.items() if groups}
