"""One training of amzrec and its figures in short, as the tables of quality show them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import amzrec
from amzrec.store.dataset import Dataset
from amzrec.store.run import Run

Figures = dict[str, Any]
Job = Callable[[Path, Path], Figures]  # (data, scratch folder) → what was measured


def trained(source: Path | Dataset, folder: Path, split: Figures | None, **settings: Any) -> tuple[Run, float]:
    """One training; the run and its seconds, which do not hold the cleaning of the file."""
    config = amzrec.TrainConfig(**settings)
    if not isinstance(source, Dataset):
        source = amzrec.prepare(source, folder / "dataset", amzrec.PrepareConfig(**(split or {})), overwrite=True)
    start = time.monotonic()
    run = amzrec.train(source, folder / "run", config, overwrite=True)
    return run, time.monotonic() - start


def short(found: Figures) -> Figures:
    """The figures of one system that the tables show."""
    kept = {}
    for group, name in (("rating", "rmse"), ("retrieval", "top_100"), ("ranking", "recall@10"), ("ranking", "ndcg@10")):
        if name in found.get(group, {}):
            kept[name] = found[group][name]
    return kept


def measured(run: Run, seconds: float) -> Figures:
    """The model and the baselines in short, with the intervals of the differences."""
    document = amzrec.evaluate(run)
    systems = {"amzrec": short(document["model"]) | {"seconds": seconds}}
    if "as_of_now" in document:
        systems["amzrec, as of now"] = short(document["as_of_now"])
    if document.get("without_moment"):
        systems["amzrec, without the moment"] = short({"rating": document["without_moment"]})
    systems |= {name: short(found) for name, found in document["baselines"].items()}
    return {"rows": document["protocol"]["test_rows"], "systems": systems, "differences": document["differences"]}
