"""The model card of a run: data, protocol, figures with intervals and baselines, slices, limits, how to reproduce.

The sections follow Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

from __future__ import annotations

import shlex
import time
from typing import Any

from amzrec.config import PrepareConfig, TrainConfig
from amzrec.page.blocks import Block, Heading, Items, Lines, Paragraph, Table
from amzrec.page.summary import last_name
from amzrec.settings import settings_of
from amzrec.store.dataset import DatasetInfo
from amzrec.store.recipe import command_of
from amzrec.store.run import Run

COLUMNS = {  # heading → (group, metric, whether less is better) of the figures of a system
    "RMSE": ("rating", "rmse", True),
    "MAE": ("rating", "mae", True),
    "top-1": ("retrieval", "top_1", False),
    "top-10": ("retrieval", "top_10", False),
    "top-100": ("retrieval", "top_100", False),
    "recall@10": ("ranking", "recall@10", False),
    "NDCG@10": ("ranking", "ndcg@10", False),
    "coverage@10": ("ranking", "coverage@10", False),
}
JUDGED = ("RMSE", "top-10", "top-100", "recall@10", "NDCG@10")  # whose gaps to the baselines are shown
SLICED = {"RMSE": "rmse", "top-10": "top_10", "NDCG@10": "ndcg@10"}  # what summary() has of a slice
TASKS = {"rating": "predicts the stars that a customer would give", "retrieval": "finds products for a customer"}
SPLITS = {
    "random": "drawn at random from all reviews",
    "per-customer": "drawn at random from the reviews of each customer",
    "temporal": "the latest of all",
    "leave-last-out": "the last one of each customer",
    "given": "those of a file of their own",
}

Document = dict[str, Any]


def card_blocks(run: Run, found: Document, dataset: DatasetInfo | None) -> list[Block]:
    """Write the card of a run from its summary (page/summary.py) and, where it is there, what its dataset says."""
    figures = found["figures"]
    parts = [
        [Heading(f"Model card: {found['run']}", 1), *about(run, found)],
        [Heading("Data"), *data(run, found, dataset)],
        [Heading("Protocol"), *(protocol(figures["protocol"]) if figures else [Paragraph(found["missing"])])],
        [Heading("Figures"), *systems(figures), *gaps(figures)] if figures else [],
        [Heading("Slices"), *slices(figures)] if figures and figures["slices"] else [],
        [Heading("What is recommended"), *spread(found["shares"])] if found["shares"] else [],
        [Heading("Limits"), Items(limits(run, found))],
        [Heading("Training"), *training(run)],
        [Heading("How to reproduce"), *reproduction(run, dataset)],
    ]
    return [block for part in parts for block in part]


def about(run: Run, found: Document) -> list[Block]:
    """Say what the model is and does."""
    does = " and ".join(TASKS[task] for task in run.info.trained)
    day = time.strftime("%Y-%m-%d", time.gmtime(found["finished"]))
    return [
        Paragraph(
            f"A recommender that {does}, learned from reviews by amzrec {found['version']}: two towers, one of the "
            f"customer and one of the product, on TensorFlow Recommenders. Finished on {day} after "
            f"{max(found['seconds'], 1):,.0f} s of training."
        ),
        Paragraph(
            "It is meant to order a catalogue for the customers of the shop that the reviews came from, and to tell "
            "how many stars they would give. It is not meant to judge customers, or products of another catalogue."
        ),
    ]


def data(run: Run, found: Document, dataset: DatasetInfo | None) -> list[Block]:
    """Say what the model was fitted on, and what became of each row of the source."""
    counts = found["counts"]
    rows = {"source": found["source"], "fingerprint of the source": run.info.fingerprint}
    if dataset is not None:
        told = dataset.counts
        rows |= {"format": dataset.format, "rows read": f"{told.read:,}"}
        rows |= {f"rejected: {reason}": f"{number:,}" for reason, number in told.rejected.items()}
        dropped = {"exact duplicates": told.duplicates, "repeats of a pair": told.repeats, "filtered": told.filtered}
        rows |= {name: f"{number:,}" for name, number in dropped.items() if number}
        sizes = {part: getattr(told, part) for part in ("train", "valid", "test")}
        rows |= {f"reviews in {part}": f"{size:,}" for part, size in sizes.items() if size}
    rows |= {
        f"reviews fitted ({' and '.join(run.info.fit_parts)})": f"{counts['reviews']:,}",
        "customers": f"{counts['customers']:,}",
        "products to recommend": f"{counts['products']:,}",
        "stars": " to ".join(f"{end:g}" for end in found["stars"]) if found["stars"] else None,
    }
    before = [
        f"it goes on from a run that was trained on {each.reviews:,} reviews of {last_name(each.source or 'a source')}"
        for each in run.info.ancestors
    ]
    later = [
        f"{each['reviews']:,} reviews of {last_name(each['source'])} were added without training"
        for each in run.info.updates
    ]
    notes = [*(dataset.warnings if dataset else ()), *before, *later]
    return [facts(rows), *([Items(notes)] if notes else [])]


def facts(rows: dict[str, str | None]) -> Table:
    """Set what is known under its names."""
    return Table(["", "value"], [[name, value] for name, value in rows.items() if value is not None])


def protocol(told: Document) -> list[Block]:
    """Say what the figures were measured on, and how they are counted."""
    known = told.get("query_context") or []
    split = told["split"]
    return [
        Paragraph(
            f"Split {split}, seed {told['seed']}: {told['test_rows']:,} test reviews of {told['test_customers']:,} "
            f"customers, {SPLITS.get(split, split)}; {told['fit_rows']:,} reviews fitted; "
            f"{told['candidates']:,} products to retrieve from. "
            f"{told['unknown_customer_rows']:,} test reviews have a customer and {told['unknown_product_rows']:,} a "
            "product that was not fitted: these products count as not found."
        ),
        Items(
            [
                "RMSE and MAE: in stars, over all test reviews with stars, predictions clipped to the scale.",
                "top-k: share of all test reviews whose product is among the k best of the whole catalogue, nothing "
                "removed; ties count against the model.",
                "recall@10 and NDCG@10: means over the customers with a wanted test product"
                + (f" ({told['min_stars']:g} stars or more)" if told.get("min_stars") else "")
                + ", products that they have already removed.",
                "Beside the customer's other reviews, a query knows: "
                + (", ".join(known) if known else "nothing")
                + ".",
                "Intervals: 95 %, paired bootstrap over the test reviews, or over customers for means over customers.",
            ]
        ),
    ]


def systems(figures: Document) -> list[Block]:
    """Set the model beside the baselines."""
    used = [name for name, place in COLUMNS.items() if any(value_of(s, place) is not None for s in figures["systems"])]
    rows = [[words(s["name"]), *(four(value_of(s, COLUMNS[name])) for name in used)] for s in figures["systems"]]
    return [Table(["system", *used], rows)]


def value_of(system: Document, place: tuple[str, str, bool]) -> float | None:
    """Return one figure of a system, None where it has none."""
    return (system[place[0]] or {}).get(place[1])


def gaps(figures: Document) -> list[Block]:
    """Set the gaps to the baselines with their intervals, and say which are beyond chance."""
    used = [name for name in JUDGED if any(gap_of(g, name) for g in figures["gaps"].values())]
    rows, verdicts = [], []
    for baseline, groups in figures["gaps"].items():
        found = {name: gap_of(groups, name) for name in used}
        if any(found.values()):
            rows.append([words(baseline), *(interval(gap) if gap else None for gap in found.values())])
            verdicts.append(verdict(words(baseline), {name: gap for name, gap in found.items() if gap}))
    return [Table(["model less", *used], rows), Items(verdicts)] if rows else []


def gap_of(groups: Document, name: str) -> Document | None:
    """Return the gap in one of the COLUMNS; None where it was not measured."""
    group, metric, _ = COLUMNS[name]
    gap: Document | None = (groups.get(group) or {}).get(metric)
    return gap


def interval(gap: Document) -> str:
    """Write a gap with the ends of its interval."""
    return f"{gap['difference']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})"


def verdict(baseline: str, found: dict[str, Document]) -> str:
    """Say in what the model is better or worse than a baseline by more than chance."""
    sides: dict[str, list[str]] = {"better": [], "worse": [], "no clear difference": []}
    for name, gap in found.items():
        low, high = (-gap["high"], -gap["low"]) if COLUMNS[name][2] else (gap["low"], gap["high"])
        sides["better" if low > 0 else "worse" if high < 0 else "no clear difference"].append(name)
    told = "; ".join(f"{side} in {', '.join(names)}" for side, names in sides.items() if names)
    return f"Against {baseline}: {told}."


def slices(figures: Document) -> list[Block]:
    """Set the figures on parts of the test reviews, each beside the baseline that is best there."""
    used = {name: key for name, key in SLICED.items() if any(key in part for part in figures["slices"])}
    rows = [
        [words(part["name"]), f"{part['rows']:,}", *(beside(part.get(key)) for key in used.values())]
        for part in figures["slices"]
    ]
    return [
        Paragraph("Parts of the test reviews; in brackets what the baseline reaches that is best on that part."),
        Table(["part", "reviews", *used], rows),
    ]


def beside(found: Document | None) -> str | None:
    """Write a figure of the model, and that of the best baseline in brackets."""
    if found is None:
        return None
    return f"{found['model']:.4f}" + (f" ({found['reached']:.4f})" if found["reached"] is not None else "")


def spread(shares: Document) -> list[Block]:
    """Say how much of the catalogue is recommended, beside what customers reviewed."""
    first, whole = shares["parts"][0], shares["customers"] == shares["of"]
    drawn = f"{shares['customers']:,} customers" + ("" if whole else f" drawn from {shares['of']:,}")
    return [
        Paragraph(
            f"Of the top {shares['k']} of {drawn}: {share(shares['coverage'])} of the products reach someone. The most "
            f"reviewed {first['products']:,} of {shares['products']:,} products get {share(first['recommended'])} of "
            f"the recommendations; they have {share(first['bought'])} of the reviews."
        )
    ]


def limits(run: Run, found: Document) -> list[str]:
    """Say what the figures do not tell, and where the model is weak, as far as this run shows it."""
    figures, told = found["figures"], []
    if figures is None:
        told.append("It has not been measured: nothing is known of how good it is.")
    elif figures["protocol"]["split"] in ("random", "per-customer", "given"):
        told.append(
            "Test reviews are not later than those fitted, so the model may know what came after a query; on later "
            "reviews figures are usually lower (amzrec backtest measures that)."
        )
    for part in figures["slices"] if figures else []:
        if weak := [name for name, key in SLICED.items() if is_behind(part.get(key), COLUMNS[name][2])]:
            told.append(f"On the part {words(part['name'])} a baseline is ahead in {', '.join(weak)}.")
    untrained = run.info.untrained
    return [
        *told,
        *(f"It was not trained for {task}: it answers as it started there." for task in untrained),
        "A customer who was not fitted is answered from what is popular, or from products that are given; products "
        "that were not fitted are not recommended unless the catalogue was prepared with all.",
        "Reviews are of what customers chose to review. What was never shown or never reviewed counts as not wanted, "
        "in training and in the figures.",
        "These figures are of one split and one seed; another split gives others.",
        "Nothing was measured by age, gender or origin of customers; the parts above are all that is known.",
        "The run folder holds customer ids and what each reviewed: it is to be kept as the reviews are.",
    ]


def is_behind(found: Document | None, less: bool) -> bool:
    """Tell whether the best baseline of a part is ahead of the model."""
    if found is None or found["reached"] is None:
        return False
    return bool(found["model"] > found["reached"] if less else found["model"] < found["reached"])


def training(run: Run) -> list[Block]:
    """Say with which settings it was trained, and where it stopped."""
    known = settings_of(TrainConfig)
    named = {name: value for name, value in run.info.recipe.items() if name in known}
    rows: dict[str, str | None] = {f"best epoch, {task}": str(n) for task, n in run.info.best_epochs.items()}
    rows |= {words(name): setting(value) for name, value in named.items()}
    return [facts(rows | {f"{name}, version": version for name, version in run.info.versions.items()})]


def setting(value: Any) -> str | None:
    """Write the value of a setting as it is typed."""
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else None if value is None else str(value)


def reproduction(run: Run, dataset: DatasetInfo | None) -> list[Block]:
    """Give the line to type, and what must be the same for it."""
    source = f"with the fingerprint {run.info.fingerprint}" if run.info.fingerprint else "of this run"
    columns = dataset.columns if dataset is not None and dataset.format == "table" else None
    versions = run.info.versions
    told = [
        f"With the source {source}, amzrec {versions.get('amzrec', '')} and the versions above (constraints.txt), the "
        "same kind of processor and number of threads give the same bits; another processor, figures that differ in "
        "the last digits.",
        f"How a file is read ({flags_of_reading()}) is not recorded: add the flags that were given.",
    ]
    first = [*command_of(run, columns), *(["--from", "RUN"] if run.info.ancestors else [])]
    if run.info.ancestors:
        told.append("RUN is the run that it goes on from, whose settings and split count.")
    more = [f"amzrec update RUN {shlex.quote(last_name(each['source']))} --run NEW" for each in run.info.updates]
    return [Lines([" ".join(first), *more]), Items(told)]


def flags_of_reading() -> str:
    """Name the settings of `prepare` that change what is read of a source, beside those of its protocol."""
    kept = ("format", "table", "query", "encoding", "delimiter", "time_format", "stars_are", "unrated", "titles")
    return ", ".join(f"--{name.replace('_', '-')}" for name in kept if name in settings_of(PrepareConfig))


def words(name: str) -> str:
    """Read a key of the JSON as words."""
    return name.replace("_", " ")


def four(value: float | None) -> str | None:
    """Write a figure with four decimals."""
    return None if value is None else f"{value:.4f}"


def share(value: float) -> str:
    """Write a share in percent."""
    return f"{100 * value:.1f} %"
