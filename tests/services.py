"""The service in tests: in this process, and as a process of its own that can be killed."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from starlette.testclient import TestClient

from amzrec.config import ServeConfig
from amzrec.service.application import application
from amzrec.service.events import EventStore
from amzrec.service.guard import Guard
from amzrec.service.runs import Shelf
from amzrec.service.service import Service
from amzrec.service.telemetry import Telemetry
from conftest import ROOT


@contextlib.contextmanager
def served(run: Path, config: ServeConfig) -> Iterator[TestClient]:
    """A client of the service of a run, in this process."""
    also = None if config.also is None else Path(config.also)
    shelf = Shelf(run, also, config.share, config.index, config.recall)
    telemetry = Telemetry()
    store = None if config.events == "none" else EventStore.open(config.events)
    guard = Guard(application(Service(shelf, store, config, telemetry)), config, telemetry)
    headers = {"Authorization": f"Bearer {config.token}"} if config.token else {}
    with TestClient(guard, "http://127.0.0.1", headers=headers) as client:
        yield client


def started(run: Path, *words: str, paths: str = str(ROOT)) -> tuple[subprocess.Popen[str], str]:
    """A process that serves a run, and its address, as soon as it listens; it imports from `paths` first."""
    command = [sys.executable, "-m", "amzrec", "serve", str(run), "--port", "0", *words]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}
    )
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"serving .* at (http://\S+)", line):
            return process, found[1]
    raise AssertionError("the service did not start")
