"""Where trainings are tracked: a store of MLflow, on this machine or behind MLFLOW_TRACKING_URI."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from amzrec.errors import AmzrecError

STORES = ("mlflow",)
EXPERIMENT = "amzrec"  # where MLFLOW_EXPERIMENT_NAME names no other one
SETTINGS = {  # of MLflow, unless the user set them
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # 7 would be minutes of waiting for a server that is not there
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # where --json prints one document and nothing else
    "MLFLOW_DISABLE_TELEMETRY": "true",  # what is trained here is nobody else's business
}
PARAMETERS, METRICS = 100, 1000  # most that MLflow takes at once
SECRET = re.compile(r"(://[^:/@\s]*):[^@\s]*@")  # a password in an address


@dataclasses.dataclass(frozen=True)
class Tracked:
    """What is kept of a run."""

    name: str
    parameters: Mapping[str, Any]
    tags: Mapping[str, str]
    figures: Mapping[str, float]  # by name
    epochs: Sequence[tuple[int, float, Mapping[str, float]]]  # (epoch, unix seconds, figures by name)
    started: float  # unix seconds
    finished: float
    folder: Path  # kept whole, pictures and all


class Tracker:
    """A store of MLflow that was reached; AmzrecError wherever it fails, with what it said."""

    def __init__(self) -> None:
        """Open the store, and find or make the experiment."""
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise AmzrecError(
                f"--track mlflow needs a package that is not installed here ({error}): pip install 'amzrec[mlflow]'"
            ) from error
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        with self.reached():
            self.client = MlflowClient()
            self.experiment = self.found_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT)

    @property
    def where(self) -> str:
        """Name the store, without a password."""
        from mlflow.tracking import get_tracking_uri

        return SECRET.sub(r"\1:***@", get_tracking_uri())

    @contextlib.contextmanager
    def reached(self) -> Iterator[None]:
        """Turn whatever the store, its database or the network raises into one AmzrecError."""
        try:
            yield
        except AmzrecError:
            raise
        except Exception as error:  # what the many stores of MLflow raise has no base class
            said = SECRET.sub(r"\1:***@", " ".join(str(error).split()) or type(error).__name__)
            raise AmzrecError(
                f"MLflow at {self.where} did not take it: {said[:300]}. Check MLFLOW_TRACKING_URI and the server"
            ) from error

    def found_experiment(self, name: str) -> str:
        """Return the id of the experiment of this name, made where there is none."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            with contextlib.suppress(Exception):  # another training has just made it
                return str(self.client.create_experiment(name))
            found = self.client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != "active":
            raise AmzrecError(
                f"the experiment {name} of MLflow at {self.where} was deleted, or cannot be made: restore it, or name "
                "another one in MLFLOW_EXPERIMENT_NAME"
            )
        return str(found.experiment_id)

    def keep(self, tracked: Tracked) -> str:
        """Write a run into the store, and return its id there; one that could not be written whole is marked failed."""
        from mlflow.entities import Metric, Param

        begun, finished = (round(1000 * seconds) for seconds in (tracked.started, tracked.finished))
        metrics = [Metric(named(name), value, finished, 0) for name, value in tracked.figures.items()]
        for epoch, seconds, figures in tracked.epochs:
            metrics += [Metric(named(name), value, round(1000 * seconds), epoch) for name, value in figures.items()]
        metrics = [metric for metric in metrics if math.isfinite(metric.value)]
        parameters = [Param(named(name), str(value)) for name, value in tracked.parameters.items()]
        with self.reached():
            run = self.client.create_run(self.experiment, begun, dict(tracked.tags), tracked.name).info.run_id
            try:
                for start in range(0, len(parameters), PARAMETERS):
                    self.client.log_batch(run, params=parameters[start : start + PARAMETERS])
                for start in range(0, len(metrics), METRICS):
                    self.client.log_batch(run, metrics=metrics[start : start + METRICS])
                self.client.log_artifacts(run, str(tracked.folder), "run")
            except BaseException:
                with contextlib.suppress(Exception):
                    self.client.set_terminated(run, "FAILED")
                raise
            self.client.set_terminated(run, "FINISHED", finished)
        return str(run)


def named(name: str) -> str:
    """Write a name as MLflow takes it: recall@10 is recall_at_10."""
    return re.sub(r"[^\w\-. /]", "_", name.replace("@", "_at_"))
