"""`amzrec describe`: what a file of reviews holds, and what is already known without learning anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from amzrec.config import PrepareConfig
from amzrec.errors import SILENT, Progress
from amzrec.evaluation.baselines import DatedBaseline, PopularityBaseline, all_baselines, popularity
from amzrec.evaluation.judge import groups_of, judge
from amzrec.evaluation.testset import line_up_test
from amzrec.reviews.cache import dataset_of
from amzrec.store.dataset import NO_TIME, PARTS, Dataset, Reviews
from amzrec.store.documents import plain
from amzrec.store.folders import whole_file

ROWS = ("read", "rejected", "duplicates", "repeats", "filtered", "kept", *PARTS)
DISTINCT = 20  # most values of the stars that are shown one by one
BINS = 10  # of stars with more values than that
TIMES = 80  # most bars of the reviews over time

Array = npt.NDArray[Any]
Figures = dict[str, Any]


def describe(
    source: str | Path | Dataset | None = None,
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
    dataset = dataset_of(source, config, progress=progress)
    parts = {name: getattr(dataset, name) for name in PARTS}
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
        with whole_file(Path(out), "the picture") as partial:
            draw(document, partial)
    return document


def spread(rows: Array) -> Figures | None:
    """How many reviews each of the customers (or products) in `rows` has: mean, median, most, histogram.

    The bins are 1, 2, 3-4, 5-8, … : {"from", "to", "count": how many have so many, "reviews": how many these are}.
    """
    counts = np.unique(rows, return_counts=True)[1]
    if not len(counts):
        return None
    place = np.ceil(np.log2(counts)).astype(np.int64)
    having, held = np.bincount(place), np.bincount(place, counts)
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
    """Mean, deviation and histogram of the stars: each value, or BINS bins where there are many; None without any."""
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
    """First and last day (UTC), reviews without a time, and a histogram by part; None where no review has a time."""
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
    """Unix seconds at which the days, weeks, months, quarters or years of a time span begin, at most TIMES."""
    start, end = np.datetime64(first, "s"), np.datetime64(last, "s")
    for unit in ("D", "W", "M", "3M", "Y", "10Y", "100Y"):
        begins = np.arange(start.astype(f"M8[{unit}]"), end.astype(f"M8[{unit}]") + 1)
        if len(begins) <= TIMES:
            break
    return [int(moment) for moment in begins.astype("M8[s]").astype(np.int64)]


def day(seconds: int) -> str:
    """`2015-08-31`, in UTC."""
    return str(np.datetime64(seconds, "s").astype("M8[D]"))


def cold(dataset: Dataset) -> Figures | None:
    """Shares of test rows whose customer, product, or either has no review in train and valid; None without test."""
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
    found: dict[str, Figures] = {}
    for system in all_baselines(dataset, testset):
        found[system.name] = dict(groups_of(judge(testset, system)))
        if isinstance(system, PopularityBaseline | DatedBaseline) and system.half_life:
            found[system.name]["half_life_days"] = system.half_life
    return {name: figures for name, figures in found.items() if figures}


def draw(document: Figures, file: Path) -> None:
    """Reviews per customer and product, stars, and reviews over time, those that there are, in one picture."""
    from amzrec.evaluation import pictures

    panels = ["reviews_per_customer", "reviews_per_product", *(n for n in ("stars", "time") if document[n])]
    figure, axes = pictures.canvas(2, 11, 3.6 * ((len(panels) + 1) // 2), (len(panels) + 1) // 2)
    for axis, name in zip(axes, panels, strict=False):
        axis.grid(axis="y", color=pictures.GRID)
        if name == "stars":
            draw_stars(axis, document[name])
        elif name == "time":
            draw_time(axis, document[name])
        else:
            draw_spread(axis, document[name], name.removeprefix("reviews_per_"))
    for axis in axes[len(panels) :]:
        axis.remove()
    kept, unknown = document["rows"]["kept"], document["cold"]
    title = (
        f"{Path(document['source']).name}: {kept:,} reviews of {document['customers']:,} customers "
        f"and {document['products']:,} products, {100 * document['density']:.2g} % of all pairs"
    )
    if unknown:
        title += (
            f"\n{document['protocol']['split']} split: {100 * unknown['customer']:.0f} % of the test reviews are of an "
            f"unknown customer, {100 * unknown['product']:.0f} % of an unknown product"
        )
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=pictures.INK)
    figure.savefig(file, dpi=pictures.DPI, format="png")


def draw_spread(axis: Any, found: Figures, who: str) -> None:
    """Two bars per bin: the share of the customers (products), and that of the reviews they hold."""
    from amzrec.evaluation import pictures

    bins = found["histogram"][next(i for i, b in enumerate(found["histogram"]) if b["count"]) :]
    names = [str(b["to"]) if b["from"] == b["to"] else f"{b['from']}–{b['to']}" for b in bins]
    at = np.arange(len(bins))
    for key, label, shift, colour in (
        ("count", f"% of the {who}s", -0.2, pictures.COLOURS["popularity"]),
        ("reviews", "% of the reviews", 0.2, pictures.COLOURS["recent_popularity"]),
    ):
        values = np.array([b[key] for b in bins])
        axis.bar(at + shift, 100 * values / values.sum(), 0.4, color=colour, label=label)
    crowded = len(bins) > 8
    axis.set_xticks(at, names, rotation=35 if crowded else 0, ha="right" if crowded else "center", fontsize=8)
    axis.set_title(f"Reviews per {who}", loc="left", color=pictures.INK)
    axis.set_xlabel(f"mean {found['mean']:.2f}, median {found['median']:g}, most {found['most']:,}", fontsize=9)
    axis.legend(frameon=False, fontsize=9)


def draw_stars(axis: Any, found: Figures) -> None:
    """One bar per value or bin of the stars."""
    from amzrec.evaluation import pictures

    bins = found["histogram"]
    values = np.array([b["reviews"] for b in bins])
    names = [f"{b['from']:g}" if b["from"] == b["to"] else f"{b['from']:.3g}–{b['to']:.3g}" for b in bins]
    bars = axis.bar(np.arange(len(bins)), 100 * values / values.sum(), 0.7, color=pictures.TASKS["rating"])
    axis.bar_label(bars, [f"{100 * v / values.sum():.0f}" for v in values], fontsize=8, color=pictures.QUIET)
    axis.set_xticks(np.arange(len(bins)), names, fontsize=8, rotation=35 if len(bins) > 12 else 0)
    axis.set_title("Stars: % of the reviews", loc="left", color=pictures.INK)
    unrated = f", {found['unrated']:,} without stars" if found["unrated"] else ""
    axis.set_xlabel(f"mean {found['mean']:.2f}, deviation {found['deviation']:.2f}{unrated}", fontsize=9)


def draw_time(axis: Any, found: Figures) -> None:
    """Reviews per period, the parts on top of each other."""
    from amzrec.evaluation import pictures

    bins = found["histogram"]
    begins = [b["from"] for b in bins]
    if all(begin.endswith("-01") for begin in begins):
        begins = [begin[:7] for begin in begins]  # months
    at = np.arange(len(bins))
    below = np.zeros(len(bins))
    colours = pictures.COLOURS["popularity"], pictures.COLOURS["recent_popularity"], pictures.MODELS[3]
    for name, colour in zip(PARTS, colours, strict=True):
        values = np.array([b[name] for b in bins])
        axis.bar(at, values, 0.9, below, color=colour, label=name)
        below += values
    few = np.unique(np.linspace(0, len(bins) - 1, min(6, len(bins))).round().astype(int))
    axis.set_xticks(few, [begins[i] for i in few], fontsize=8)
    axis.set_title("Reviews over time, by part", loc="left", color=pictures.INK)
    axis.set_xlabel(f"{found['first']} to {found['last']}", fontsize=9)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.legend(frameon=False, fontsize=9)
