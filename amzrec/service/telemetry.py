"""What operators see of the service: figures for Prometheus, and one line of JSON per request."""

from __future__ import annotations

import functools
import json
import logging
import os
import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from amzrec.answers.listing import Document
from amzrec.service.runs import Runs
from amzrec.service.workers import METRICS

ACCESS = logging.getLogger("amzrec.access")
BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Telemetry:
    """The figures of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.shared = METRICS in os.environ  # with other processes, see workers
        if not self.shared:
            ProcessCollector(registry=self.registry)
        by_route = ["route", "method", "status"]
        self.requests = Counter("amzrec_requests", "Requests by route.", by_route, registry=self.registry)
        self.seconds = Histogram(
            "amzrec_request_seconds", "Time to answer.", ["route"], buckets=BUCKETS, registry=self.registry
        )
        self.answers = Counter(
            "amzrec_answers", "Answers to customers by run.", ["run", "answered_from"], registry=self.registry
        )
        self.events = Counter(
            "amzrec_events", "Events that were stored, or known.", ["outcome"], registry=self.registry
        )
        self.reloads = Counter("amzrec_reloads", "Runs opened again.", ["outcome"], registry=self.registry)
        self.waiting = Gauge(
            "amzrec_waiting",
            "Questions whose answers are not made yet.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.share = Gauge(
            "amzrec_run_share",
            "Share of the customers that a run answers.",
            ["run"],
            registry=self.registry,
            multiprocess_mode="max",
        )

        self.named = set[str]()  # the runs that were ever served
        self.series = dict[tuple[object, ...], Any]()  # those that were counted, which labels() takes long to find

    def count_answer(self, document: Document) -> None:
        """Count an answer to a customer."""
        if "answered_from" in document:
            self.of(self.answers, document["run"], document["answered_from"]).inc()

    def show_runs(self, runs: Runs) -> None:
        """Tell which runs answer."""
        if self.shared:  # where a series cannot be taken away
            for name in self.named:
                self.share.labels(name).set(0)
        else:
            self.share.clear()
        self.named |= {served.name for served, _ in runs.all()}
        for served, share in runs.all():
            self.share.labels(served.name).set(share)

    def text(self) -> bytes:
        """Return all figures in the format of Prometheus."""
        if not self.shared:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request; routes and methods are among a few, so that nobody can make up new series."""
        self.of(self.requests, route, method, status).inc()
        self.of(self.seconds, route).observe(seconds)

    def of(self, figure: Counter | Histogram, *labels: object) -> Any:
        """Return the series of a figure with these labels."""
        key = (figure, *labels)
        if key not in self.series:
            self.series[key] = figure.labels(*labels)
        return self.series[key]


@functools.lru_cache(maxsize=1)
def written(second: int) -> str:
    """Write a time in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


def log_access(method: str, path: str, status: int, seconds: float, size: int, client: str) -> None:
    """Write the line of one request; JSON escapes whatever a path holds."""
    entry = {
        "time": written(int(time.time())),
        "method": method,
        "path": path,
        "status": status,
        "ms": round(seconds * 1000, 3),
        "bytes": size,
        "client": client,
    }
    ACCESS.info(json.dumps(entry))
