"""A run as one document for people: figures beside the baselines, slices, training curves, what is recommended."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

from amzrec import __version__
from amzrec.answers.recommender import Recommender
from amzrec.errors import AmzrecError
from amzrec.evaluation.metrics import without_untrained
from amzrec.page.shares import shares
from amzrec.store.documents import json_value
from amzrec.store.history import HISTORY, read_history
from amzrec.store.recipe import how_to_measure
from amzrec.store.run import METRICS, Run

GROUPS = ("rating", "retrieval", "ranking")
JUDGED = (("rating", "rmse", min), ("retrieval", "top_10", max), ("ranking", "ndcg@10", max))  # what slices show
TEXT = ("phase",)  # columns of history.csv that are no numbers

Document = dict[str, Any]


def summary(run: Run, model: Recommender) -> Document:
    """Describe a run and what its folder holds; no number is NaN, and what is not there is None or empty.

    {"run", "version", "finished": unix seconds, "seconds", "source", "settings", "best_epochs": by task, "counts",
    "stars": ends of the scale or None, "figures": see `figures_of`, None without metrics.json, "missing": what to type
    then, "curves": rows of history.csv, "shares": see `shares`}. Raises AmzrecError for files that cannot be read.
    """
    return described(run) | computed(model)


def computed(model: Recommender) -> Document:
    """Describe what the vectors of a run tell; see `summary`."""
    return {"shares": shares(model), "stars": scale_of(model), "counts": counts_of(model)}


def described(run: Run, there: bool = True) -> Document:
    """Describe what the files of a run tell beside its vectors, or run.json alone where the others are not `there`."""
    info, figures = run.info, figures_of(run) if there else None
    return {
        "run": run.name,
        "version": __version__,
        "finished": info.finished,
        "seconds": info.seconds,
        "source": source_of(run),
        "settings": dict(info.recipe),
        "best_epochs": dict(info.best_epochs),
        "untrained": info.untrained,
        "figures": figures,
        "missing": None if figures else missing(run),
        "curves": curves_of(run) if there else [],
    }


def source_of(run: Run) -> str | None:
    """Name the source of a run, a file without the folders that it lies in."""
    return run.info.source and last_name(run.info.source)


def last_name(source: str) -> str:
    """Return a file without the folders that it lies in; an address as it is."""
    return source if "://" in source else Path(source).name or source


def scale_of(model: Recommender) -> list[float] | None:
    """Return the least and the most stars that the run predicts; None where it knows no stars."""
    head = model.vectors.head
    return [float(head.low), float(head.high)] if model.has_stars else None


def counts_of(model: Recommender) -> dict[str, int]:
    """Count customers, products that can be recommended, and the reviews that the model was fitted on."""
    vectors = model.vectors
    return {
        "customers": len(vectors.customer_ids) - 1,
        "products": len(vectors.candidates),
        "reviews": int(vectors.customer_counts.sum()),
    }


def missing(run: Run) -> str:
    """Say why there are no figures, and what to type."""
    if run.info.untested:
        return f"This run was trained on all reviews, so none were left to measure it on: {how_to_measure(run)}"
    return f"This run has not been measured yet. Type: amzrec evaluate {shlex.quote(str(run.path))}"


def figures_of(run: Run) -> Document | None:
    """Read metrics.json as {"protocol", "systems", "gaps", "slices"}, without what was not trained; None without it.

    "systems" are the model, the model as of now where dates tell the two apart, and the baselines, each with "name",
    "kind" and its groups of metrics. "gaps" are model - baseline with 95 % intervals, by baseline, group and metric.
    """
    file = run.folder / METRICS
    document = read_json(run, file) if file.is_file() else None
    if document is None:
        return None
    untrained = document.get("untrained", run.info.untrained)
    model = without_untrained(document["model"], untrained)
    baselines: dict[str, Document] = document["baselines"]
    now = document.get("as_of_now")
    systems = [system("model", "model", model)]
    systems += [system("model, as of now", "variant", without_untrained(now, untrained))] if now else []
    systems += [system(name, "baseline", figures) for name, figures in baselines.items()]
    return {
        "protocol": document["protocol"] | {"source": source_of(run)},
        "systems": [each for each in systems if any(each[group] for group in GROUPS)],
        "gaps": {name: without_untrained(gaps, untrained) for name, gaps in document["differences"].items()},
        "slices": [
            slice_of(name, part, {rival: figures["slices"].get(name) for rival, figures in baselines.items()})
            for name, part in (model.get("slices") or {}).items()
            if part
        ],
    }


def system(name: str, kind: str, figures: Document) -> Document:
    """Return the groups of metrics of a system, None where one does not apply."""
    return {"name": name, "kind": kind} | {group: figures.get(group) for group in GROUPS}


def slice_of(name: str, part: Document, rivals: dict[str, Document | None]) -> Document:
    """Describe a part of the test reviews: what the model reaches there, and the baseline that is best there."""
    found: Document = {"name": name, "rows": part["rows"]}
    for group, metric, best in JUDGED:
        mine = (part.get(group) or {}).get(metric)
        theirs = {
            rival: figures[group][metric]
            for rival, figures in rivals.items()
            if figures and metric in (figures.get(group) or {})
        }
        if mine is not None:
            winner = best(theirs, key=lambda rival: theirs[rival]) if theirs else None
            found[metric] = {"model": mine, "baseline": winner, "reached": None if winner is None else theirs[winner]}
    return found


def read_json(run: Run, file: Path) -> Document:
    """Read the figures of a run; AmzrecError where they are damaged."""
    try:
        run.check(file.name)
        document = json_value(file.read_text(encoding="utf-8"))
        if isinstance(document, dict) and {"protocol", "model", "baselines", "differences"} <= set(document):
            return document
    except (OSError, ValueError, AmzrecError):
        pass
    raise AmzrecError(
        f"{file} cannot be read as figures: write it again with: amzrec evaluate {shlex.quote(str(file.parent))}"
    )


def curves_of(run: Run) -> list[Document]:
    """Read history.csv, one object per epoch: numbers, None where a cell is empty; no rows where there is no file."""
    if (run.folder / HISTORY).is_file():
        run.check(HISTORY)
    rows = read_history(run.folder, run.path)
    return [{name: text if name in TEXT else number(text) for name, text in row.items()} for row in rows]


def number(text: str | None) -> float | None:
    """Read a cell; None for an empty one, and for what is no finite number."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
