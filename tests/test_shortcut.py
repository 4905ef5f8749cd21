"""The short way to a route answers as FastAPI does, byte for byte, and hands over all that is not plain and right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from amzrec.config import ServeConfig
from amzrec.service.desk import Desk
from amzrec.service.guard import Guard
from amzrec.service.sqlite import SQLiteLedger
from amzrec.store.dataset import open_dataset
from runs import random_vectors, write_run
from services import served

SHORT, LONG = True, False  # which way a request takes


@pytest.fixture(scope="module")
def board(checkerboard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the checkerboard."""
    dataset = open_dataset(checkerboard)
    return write_run(
        tmp_path_factory.mktemp("short") / "run", dataset, random_vectors(dataset, np.random.default_rng(2))
    ).path


@pytest.fixture(scope="module")
def client(board: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    events = str(tmp_path_factory.mktemp("events") / "events.db")
    with served(board, ServeConfig(events=events, most_k=100, most_bytes=20_000)) as client:
        yield client


def both_ways(client: TestClient, monkeypatch: pytest.MonkeyPatch, *request: Any, **more: Any) -> tuple[Any, Any, bool]:
    """What a request is answered by the short way, by FastAPI alone, and whether the first one left FastAPI out."""
    guard: Any = client.app
    shortcut, asked = guard.app, list[str]()

    async def spied(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        await fastapi(scope, receive, send)

    fastapi = shortcut.app
    monkeypatch.setattr(shortcut, "app", spied)
    one = client.request(*request, **more)
    monkeypatch.setattr(guard, "app", fastapi)
    return one, client.request(*request, **more), not asked


def body(document: Any, kind: str | None = "application/json") -> dict[str, Any]:
    """The arguments of a request with a body, which says that it is of this kind."""
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return {"content": content, "headers": {"Content-Type": kind} if kind else {}}


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "way"),
    [
        ("GET", "/recommend/u03", {}, 200, SHORT),
        ("GET", "/recommend/u03?k=3", {}, 200, SHORT),
        ("GET", "/recommend/u03?k=003", {}, 200, SHORT),
        ("GET", "/recommend/u03?k=101", {}, 422, SHORT),  # right as a request, and more than this service allows
        ("GET", "/recommend/nobody%2Fat%20all", {}, 200, SHORT),
        ("GET", "/recommend/17.0", {}, 200, SHORT),
        ("GET", "/recommend/u03?k=0", {}, 422, LONG),
        ("GET", "/recommend/u03?k=", {}, 422, LONG),
        ("GET", "/recommend/u03?k=3&k=4", {}, 200, LONG),
        ("GET", "/recommend/u03?k=+3", {}, 200, LONG),
        ("GET", "/recommend/u03?k=3.0", {}, 200, LONG),
        ("GET", "/recommend/u03?exclude=p01&exclude=p02", {}, 200, LONG),
        ("GET", "/recommend/u03?who=u03", {}, 422, LONG),
        ("GET", "/recommend/", {}, 422, LONG),
        ("GET", "/recommend/%00", {}, 422, LONG),
        ("GET", "/recommend/" + "a" * 1001, {}, 422, LONG),
        ("GET", "/recommend", {}, 405, LONG),
        ("HEAD", "/recommend/u03", {}, 405, LONG),
        ("POST", "/recommend/u03", body({}), 405, LONG),
        ("GET", "/similar/p01", {}, 200, LONG),
        ("POST", "/recommend", body({"customer_id": "u03"}), 200, SHORT),
        ("POST", "/recommend", body({"customer_id": 17, "k": 2.0, "exclude": ["p01"], "sort": "stars"}), 200, SHORT),
        ("POST", "/recommend", body([{"customer_id": "u03"}, {"customer_id": "u04", "k": 1}]), 200, SHORT),
        ("POST", "/recommend", body({"customer_id": "ü", "liked": [{"product_id": "p01", "stars": 5}]}), 200, SHORT),
        ("POST", "/recommend", body({"customer_id": "u03", "liked": ["no such"]}), 404, SHORT),
        ("POST", "/recommend", body([{"customer_id": "u03", "liked": ["no such"]}]), 404, SHORT),
        ("POST", "/recommend", body({"customer_id": "u03", "at": 1e9}), 400, SHORT),
        ("POST", "/recommend", body({"customer_id": "u03", "k": "3"}), 422, LONG),
        ("POST", "/recommend", body({"customer_id": "u03", "typo": 1}), 422, LONG),
        ("POST", "/recommend", body({}), 422, LONG),
        ("POST", "/recommend", body([]), 422, LONG),
        ("POST", "/recommend", body(b"{"), 422, LONG),
        ("POST", "/recommend", body(b"\xff"), 400, LONG),
        ("POST", "/recommend", body(b"[" * 15_000), 400, LONG),
        ("POST", "/recommend", body(b""), 422, LONG),
        ("POST", "/recommend", body({"customer_id": "a" * 30_000}), 413, SHORT),  # neither hears of it
        ("POST", "/recommend", body(b'{"customer_id": "u03"}', None), 422, LONG),
        ("POST", "/recommend", body({"customer_id": "u03"}, "text/plain"), 422, LONG),
        ("POST", "/recommend", body({"customer_id": "u03"}, "application/x+json"), 200, LONG),
        ("POST", "/events", body({"customer_id": "e", "product_id": "p01", "key": "once"}), 200, SHORT),
        ("POST", "/events", body({"customer_id": "e", "product_id": "p01", "kind": "no such"}), 422, SHORT),
        ("POST", "/events", body({"customer_id": "e"}), 422, LONG),
    ],
    ids=str,
)  # fmt: skip
def test_a_request_is_answered_as_fastapi_answers_it(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, method: str, path: str, more: Any, status: int, way: bool
) -> None:
    if "once" in str(more):  # so that it is known to both
        client.request(method, path, **more)
    one, other, short = both_ways(client, monkeypatch, method, path, **more)
    assert (one.status_code, short) == (status, way), one.text
    assert (one.status_code, one.content, one.headers.raw) == (other.status_code, other.content, other.headers.raw)


@pytest.mark.parametrize("error", [ZeroDivisionError("a secret"), KeyError("a"), ValueError("b")], ids=repr)
def test_what_nobody_foresaw_is_answered_and_logged_as_by_fastapi(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Desk, "best", fail)
    one, other, short = both_ways(client, monkeypatch, "GET", "/recommend/u03")
    assert short
    assert (one.status_code, one.content, one.headers.raw) == (500, other.content, other.headers.raw)
    assert caplog.text.count(f"{type(error).__name__}: ") == 2, "each way told the log"


def test_requests_are_counted_under_the_route_that_fastapi_names(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted() -> dict[str, float]:
        lines = (line for line in client.get("/metrics").text.splitlines() if line.startswith("amzrec_requests_total{"))
        return {
            name: float(value) for name, _, value in (line.rpartition(" ") for line in lines) if "metrics" not in name
        }

    before = counted()
    for method, path, more in (("GET", "/recommend/u03", {}), ("POST", "/recommend", body({"customer_id": "u03"}))):
        assert both_ways(client, monkeypatch, method, path, **more)[2]
        monkeypatch.undo()
    changed = {name: value - before.get(name, 0) for name, value in counted().items() if value != before.get(name, 0)}
    assert sorted(changed.values()) == [2, 2], changed


async def together(guard: Guard, count: int) -> list[httpx.Response]:
    """The answers to the same question, asked so often at once."""
    transport = httpx.ASGITransport(guard)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await asyncio.gather(*(client.get("/recommend/u03") for _ in range(count)))


def test_quick_questions_beyond_those_that_may_wait_are_refused_at_once(board: Path) -> None:
    with served(board, ServeConfig(events="none", most_waiting=2)) as client:
        answers = asyncio.run(together(client.app, 5))  # type: ignore[arg-type]
        assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503]
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert refused.headers["retry-after"] == "1"
        assert "--most-waiting" in refused.json()["error"]
        assert "amzrec_waiting 0.0" in client.get("/metrics").text
        assert client.get("/recommend/u03").status_code == 200


def test_a_quick_question_whose_turn_comes_too_late_is_refused(board: Path) -> None:
    with served(board, ServeConfig(events="none", timeout=1e-9)) as client:
        refused = client.get("/recommend/u03")
        assert (refused.status_code, refused.json()) == (
            504,
            {"error": "this was not answered within 1e-09 s (--timeout)"},
        )


def test_only_short_plain_lists_are_answered_without_a_thread(
    board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(board, ServeConfig(events=str(tmp_path / "events.db"))) as client:
        on_threads, real = list[str](), Desk.recommend

        def spied(*words: Any) -> Any:
            on_threads.append(words[-1].customer_id)
            return real(*words)

        monkeypatch.setattr(Desk, "recommend", spied)

        def threads(*request: Any, **more: Any) -> int:
            on_threads.clear()
            assert client.request(*request, **more).status_code == 200
            return len(on_threads)

        assert threads("GET", "/recommend/u03?k=100") == 0
        assert threads("GET", "/recommend/u03?k=101") == 1
        assert threads("POST", "/recommend", json=[{"customer_id": "u03"}, {"customer_id": "u04"}]) == 2
        assert threads("POST", "/recommend", json={"customer_id": "u03", "exclude": ["p01"]}) == 1
        monkeypatch.setattr(SQLiteLedger, "near", False)  # as a database of another machine
        assert threads("GET", "/recommend/u03") == 1
        monkeypatch.setattr(SQLiteLedger, "near", True)
        monkeypatch.setattr(Desk, "recommend_quickly", lambda *_: None)  # as for who bought very much
        assert threads("GET", "/recommend/u03") == 1
