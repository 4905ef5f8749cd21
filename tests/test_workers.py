"""Several processes answer at one port as one does: none is missed, all are told, and they end together."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from amzrec.commands.recommend import recommend
from amzrec.store.run import Run
from conftest import ROOT
from services import started

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="these tests look at processes in /proc")


@contextlib.contextmanager
def service(run: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service of two workers, which is gone in the end, whatever came."""
    process, address = started(run, "--workers", "2", "--no-access-log", *words)
    try:
        yield process, address
    finally:
        process.kill()
        process.communicate()


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes that answer."""
    return [int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def running(process: int) -> bool:
    """Whether there is such a process, and it is not one that ended and was not waited for."""
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds; fails where that never comes."""
    for _ in range(1200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("this did not come in a minute")


def figures(address: str, name: str) -> float:
    """The sum of all series of a figure."""
    text = httpx.get(f"{address}/metrics").text
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (.*)$", text, re.MULTILINE))


def asked(address: str, route: str = "/recommend/u03") -> httpx.Response:
    """The answer to one question, on a connection of its own, which any of the workers may take."""
    return httpx.get(address + route, timeout=60)


@pytest.mark.slow
def test_all_workers_answer_are_counted_together_and_share_the_events(two: tuple[Run, Run], tmp_path: Path) -> None:
    with service(two[0].path, "--events", str(tmp_path / "events.db")) as (process, address):
        first, second = workers_of(process)
        for stopped in (first, second):  # while one cannot, the other answers
            os.kill(stopped, signal.SIGSTOP)
            try:
                assert asked(address).json() == recommend("u03", two[0]) | {"run": "a"}
                event = {"customer_id": f"new-{stopped}", "product_id": "p03"}
                assert httpx.post(f"{address}/events", json=event, timeout=60).json() == {"stored": 1, "known": 0}
            finally:
                os.kill(stopped, signal.SIGCONT)
        for customer in (f"new-{first}", f"new-{second}"):
            for _ in range(4):
                assert asked(address, f"/recommend/{customer}").json()["answered_from"] == "events"
        assert figures(address, "amzrec_answers_total") == 10
        assert figures(address, "amzrec_events_total") == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert not running(first)
        assert not running(second)


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced(two: tuple[Run, Run]) -> None:
    with service(two[0].path, "--events", "none") as (process, address):
        before = workers_of(process)
        os.kill(before[0], signal.SIGKILL)
        until(lambda: before[0] not in workers_of(process) and len(workers_of(process)) == 2)
        os.kill(before[1], signal.SIGKILL)
        assert asked(address).status_code == 200, "the new one, or the one after it, answers"


@pytest.mark.slow
@pytest.mark.parametrize("way", ["signal", "request", "watch"])
def test_all_workers_answer_from_the_run_that_lies_there_now(two: tuple[Run, Run], tmp_path: Path, way: str) -> None:
    path = tmp_path / "latest"
    path.symlink_to(two[0].path)
    with service(path, "--events", "none", "--token", "t", *(["--watch"] if way == "watch" else [])) as (
        process,
        address,
    ):
        headers = {"Authorization": "Bearer t"}
        (tmp_path / "new").symlink_to(two[1].path)
        (tmp_path / "new").replace(path)
        if way == "signal":
            process.send_signal(signal.SIGHUP)
        elif way == "request":
            assert httpx.post(f"{address}/admin/reload", headers=headers, timeout=60).status_code == 200
        for other, mine in (workers_of(process), workers_of(process)[::-1]):

            def new(other: int = other) -> bool:
                os.kill(other, signal.SIGSTOP)
                try:
                    return bool(
                        httpx.get(f"{address}/run", headers=headers, timeout=60).json()["runs"][0]["run"] == "b"
                    )
                finally:
                    os.kill(other, signal.SIGCONT)

            until(new)
            assert running(mine)


@pytest.mark.slow
def test_workers_end_when_the_process_that_made_them_is_killed(two: tuple[Run, Run]) -> None:
    with service(two[0].path, "--events", "none") as (process, _):
        workers = workers_of(process)
        process.kill()
        until(lambda: not any(running(each) for each in workers))


@pytest.mark.slow
def test_what_no_worker_can_serve_is_one_error(two: tuple[Run, Run], tmp_path: Path) -> None:
    file = two[0].path / "vectors" / "rating_candidate.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\x77")
    command = [sys.executable, "-m", "amzrec", "serve", str(two[0].path), "--port", "0", "--workers", "3"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count("amzrec: error: ") == 1
    assert "checksum" in done.stderr
    assert "Traceback" not in done.stderr
