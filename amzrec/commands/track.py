"""`--track mlflow` of train and evaluate: a finished run, written into a store of MLflow."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from amzrec.errors import AmzrecError
from amzrec.page.summary import curves_of, read_json, source_of
from amzrec.settings import require
from amzrec.store.documents import plain
from amzrec.store.run import METRICS, Run, open_run
from amzrec.store.tracking import STORES, Tracked, Tracker

GROUPS = ("rating", "retrieval", "ranking")


def track(run: Run | Path | str | None = None, store: str = "mlflow", *, tracker: Tracker | None = None) -> str:
    """Write a run (default: the latest) into a store, and return its id there; each call makes another entry.

    Kept are the recipe and the protocol as parameters, the figures of each epoch, those of metrics.json for the model
    and the baselines, and the run folder with its pictures. The store is the one that MLflow takes: mlflow.db in the
    working directory, or what MLFLOW_TRACKING_URI names; MLFLOW_EXPERIMENT_NAME names the experiment. `tracker` is one
    that is open already. Raises AmzrecError for another `store`, where MLflow is not installed, and where it fails;
    the run folder stays as it is.
    """
    tracker = tracker or open_tracker(store)
    run = open_run(run)
    try:
        return tracker.keep(tracked(run))
    except AmzrecError as error:
        again = f"amzrec evaluate {shlex.quote(str(run.path))} --track {store}"
        raise AmzrecError(f"the run {run.path} is whole, but not tracked: {error}, then type: {again}") from error


def open_tracker(store: str) -> Tracker:
    """Reach the store, before anything is trained that is to be kept there."""
    require(store in STORES, "track", store, " | ".join(STORES))
    return Tracker()


def tracked(run: Run) -> Tracked:
    """Gather what is kept of a run."""
    info, file = run.info, run.folder / METRICS
    document = read_json(run, file) if file.is_file() else None
    protocol = plain(info.protocol) if info.protocol else {}
    tags = {"source": source_of(run), "fingerprint": info.fingerprint, "tasks": ",".join(info.trained)}
    tags |= {f"version.{name}": version for name, version in info.versions.items()}
    started = info.finished - info.seconds
    return Tracked(
        name=run.name,
        parameters=dict(info.recipe) | {f"split.{name}": value for name, value in protocol.items()},
        tags={name: value for name, value in tags.items() if value},
        figures=figures_of(document) | {f"best_epoch/{task}": float(epoch) for task, epoch in info.best_epochs.items()},
        epochs=epochs_of(run, started),
        started=started,
        finished=info.finished,
        folder=run.folder,
    )


def figures_of(document: dict[str, Any] | None) -> dict[str, float]:
    """Return the figures of metrics.json under names: test/rmse of the model, popularity/top_10 of a baseline."""
    if document is None:
        return {}
    systems = {"test": document["model"], **document["baselines"]}
    return {
        f"{system}/{metric}": float(value)
        for system, found in systems.items()
        for group in GROUPS
        if not (system == "test" and is_untrained(group, document.get("untrained", [])))
        for metric, value in (found.get(group) or {}).items()
    }


def is_untrained(group: str, untrained: list[str]) -> bool:
    """Tell whether a group of figures is of a task that was not trained."""
    return ("rating" if group == "rating" else "retrieval") in untrained


def epochs_of(run: Run, started: float) -> list[tuple[int, float, dict[str, float]]]:
    """Return the epochs of history.csv: number, when it ended, and its figures as select/valid_rmse."""
    found, seconds = [], started
    for row in curves_of(run):
        seconds += row.get("seconds") or 0.0
        phase, epoch = row.get("phase") or "select", int(row["epoch"] or 0)
        values = {f"{phase}/{name}": value for name, value in row.items() if isinstance(value, float)}
        found.append((epoch, seconds, {name: v for name, v in values.items() if not name.endswith("/epoch")}))
    return found
