"""Requests made up from the service's own description are answered as it says: no failure, no undocumented answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from amzrec.config import ServeConfig
from amzrec.store.dataset import open_dataset
from runs import random_vectors, write_run
from services import served

schemathesis = pytest.importorskip("schemathesis")
EXAMPLES = 6  # per route, each with what is allowed and with what is not
LOOSE = "/v1/models/amzrec:predict"  # whose inputs depend on the signature, which the description cannot say


@pytest.fixture(scope="module")
def described(checkerboard: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The description of a service with a token and events."""
    folder = tmp_path_factory.mktemp("described")
    dataset = open_dataset(checkerboard)
    vectors = random_vectors(dataset, np.random.default_rng(2))
    dated = dataclasses.replace(
        vectors,
        context=np.zeros((2, len(vectors.product_ids)), np.float32),
        context_edges=np.array([1_000_000_000]),
        rating_context=np.array([-0.5, 0], np.float32),
    )
    run = write_run(folder / "run", dataset, dated)
    events = str(folder / "events.db")
    config = ServeConfig(events=events, token="t", allow_host="testserver", access_log=False, timeout=60.0)
    with served(run.path, config) as client:
        schema = schemathesis.openapi.from_asgi("/openapi.json", client.app, headers={"Authorization": "Bearer t"})
        yield schema


@pytest.mark.long
def test_every_route_keeps_what_the_description_promises(described: Any) -> None:
    asked = set[str]()
    for operation in (result.ok() for result in described.get_all_operations()):
        takes_something = operation.body or operation.query or operation.path_parameters
        for mode in schemathesis.GenerationMode:
            if takes_something or mode == schemathesis.GenerationMode.POSITIVE:
                keeps_its_promise(operation.as_strategy(generation_mode=mode), operation.path == LOOSE)
        asked.add(f"{operation.method.upper()} {operation.path}")
    assert {"POST /recommend", "GET /recommend/{customer_id}", "POST /events", "POST /admin/reload"} <= asked


def keeps_its_promise(cases: Any, loose: bool) -> None:
    """Send a few requests; whatever schemathesis checks holds for the answers."""
    checks = schemathesis.checks
    left_out = [checks.positive_data_acceptance, checks.negative_data_rejection] if loose else []

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def holds(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": "Bearer t"}, excluded_checks=left_out)

    holds()
