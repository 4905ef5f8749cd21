"""Runs are swapped while the service answers, a second run answers a share, and the examples of the document work."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from amzrec.commands.recommend import recommend
from amzrec.commands.update import update
from amzrec.config import ServeConfig
from amzrec.errors import AmzrecError
from amzrec.store.dataset import open_dataset
from amzrec.store.run import Run
from conftest import ROOT
from runs import parity_vectors, write_run
from services import served, started

SERVE = (ROOT / "docs" / "serve.md").read_text()


def link(path: Path, run: Run) -> Path:
    """Lead a symbolic link to a run, at once."""
    new = path.with_name("new-link")
    new.symlink_to(run.path)
    new.replace(path)
    return path


def spoil(run: Run) -> None:
    """Change the last byte of a run's vectors."""
    file = run.path / "vectors" / "rating_candidate.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\x77")


def test_a_reload_answers_from_the_run_that_lies_there_now(two: tuple[Run, Run], tmp_path: Path) -> None:
    path = link(tmp_path / "latest", two[0])
    with served(path, ServeConfig(events="none", token="t")) as client:
        assert client.get("/recommend/u03").json() == recommend("u03", two[0]) | {"run": "a"}
        link(path, two[1])
        assert client.get("/recommend/u03").json()["run"] == "a"
        assert client.post("/admin/reload").json()["runs"][0]["run"] == "b"
        assert client.get("/recommend/u03").json() == recommend("u03", two[1]) | {"run": "b"}
        assert 'amzrec_run_share{run="b"} 1.0' in client.get("/metrics").text


def test_the_loop_closes_events_enter_the_next_run_and_count_once(two: tuple[Run, Run], tmp_path: Path) -> None:
    path, events = link(tmp_path / "latest", two[0]), tmp_path / "events.db"
    with served(path, ServeConfig(events=str(events), token="t")) as client:
        given = [{"customer_id": "ann", "product_id": product, "stars": 5} for product in ("p04", "p08")]
        assert client.post("/events", json=given).status_code < 300
        before = client.get("/recommend/ann?k=8").json()
        assert before["answered_from"] == "events"
        link(path, update(path, events, tmp_path / "next"))
        assert client.post("/admin/reload").json()["runs"][0]["run"] == "next"
        after = client.get("/recommend/ann?k=8").json()
        assert after["answered_from"] == "model"
        ids = [[entry["product_id"] for entry in answer["recommendations"]] for answer in (before, after)]
        assert ids[0] == ids[1]
        assert not {"p04", "p08"} & set(ids[1])
        history = client.get("/customers/ann").json()["history"]
        assert [(entry["product_id"], entry["stars"]) for entry in history] == [("p04", 5.0), ("p08", 5.0)]


@pytest.mark.parametrize("broken", ["spoilt", "gone"])
def test_the_old_run_goes_on_where_the_new_one_is_broken(two: tuple[Run, Run], tmp_path: Path, broken: str) -> None:
    path = link(tmp_path / "latest", two[0])
    with served(path, ServeConfig(events="none", token="t")) as client:
        link(path, two[1])
        spoil(two[1]) if broken == "spoilt" else shutil.rmtree(two[1].path)
        refused = client.post("/admin/reload")
        assert refused.status_code == 400
        assert str(tmp_path) not in refused.text
        assert client.get("/recommend/u03").json() == recommend("u03", two[0]) | {"run": "a"}
        assert 'amzrec_reloads_total{outcome="failed"} 1.0' in client.get("/metrics").text


def test_a_watched_link_is_followed(two: tuple[Run, Run], tmp_path: Path) -> None:
    path = link(tmp_path / "latest", two[0])
    with served(path, ServeConfig(events="none", watch=True)) as client:
        assert client.get("/run").json()["runs"][0]["run"] == "a"
        link(path, two[1])
        until(lambda: client.get("/run").json()["runs"][0]["run"] == "b")


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds; fails where that never comes."""
    for _ in range(2400):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("this did not come in two minutes")


def test_a_share_of_the_customers_is_answered_by_the_other_run_and_always_the_same_ones(two: tuple[Run, Run]) -> None:
    customers = [f"c{number}" for number in range(2000)]
    asked = [{"customer_id": customer, "k": 1} for customer in customers]
    with served(two[0].path, ServeConfig(events="none", also=str(two[1].path), share=0.1)) as client:
        found = [client.post("/recommend", json=asked[part : part + 1000]).json() for part in (0, 1000)]
        runs = [document["run"] for half in found for document in half]
        again = client.post("/recommend", json=asked[:1000]).json()
        text = client.get("/metrics").text
    assert set(runs) == {"a", "b"}
    assert 140 < runs.count("b") < 260  # 200 ± 4.5 standard deviations
    assert [document["run"] for document in again] == runs[:1000]
    for customer, document in zip(customers, [*found[0], *found[1]], strict=True):
        if document["run"] == "b":
            assert document == recommend(customer, two[1], k=1) | {"run": "b"}
            break
    assert 'amzrec_run_share{run="b"} 0.1' in text
    assert 'amzrec_answers_total{answered_from="popularity",run="b"}' in text


def test_two_runs_of_one_name_are_refused(two: tuple[Run, Run], tmp_path: Path) -> None:
    other = shutil.copytree(two[0].path, tmp_path / "elsewhere" / "a")
    with pytest.raises(AmzrecError, match="both called a"):
        served(two[0].path, ServeConfig(events="none", also=str(other))).__enter__()


@pytest.mark.slow
def test_no_request_fails_or_is_mixed_while_runs_are_swapped(two: tuple[Run, Run], tmp_path: Path) -> None:
    path = link(tmp_path / "latest", two[0])
    asked = [{"customer_id": f"u{number:02}", "k": 5} for number in range(20)]
    wanted = {
        run.path.name: [recommend(each["customer_id"], run, k=5) | {"run": run.path.name} for each in asked]
        for run in two
    }
    process, address = started(path, "--events", "none", "--no-access-log")
    wrong, counts, stop = list[str](), dict.fromkeys("ab", 0), threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=address) as client:
            while not stop.is_set():
                try:
                    response = client.post("/recommend", json=asked)
                except httpx.HTTPError as error:
                    wrong.append(repr(error))
                    return
                document = response.json()
                name = document[0]["run"] if response.status_code == 200 else ""
                if document != wanted.get(name):
                    wrong.append(response.text)
                    return
                counts[name] += 1

    threads = [threading.Thread(target=ask) for _ in range(3)]
    try:
        for thread in threads:
            thread.start()
        for swap in range(6):
            link(path, two[1 - swap % 2])
            process.send_signal(signal.SIGHUP)
            name = "ba"[swap % 2]
            before = counts[name]
            until(lambda before=before, name=name: bool(wrong) or counts[name] > before + 3)  # type: ignore[misc]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        process.terminate()
    assert not wrong
    assert process.wait() == 0
    assert sum(counts.values()) > 18


@pytest.fixture(scope="module")
def address(checkerboard: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service of the parity run, in a process of its own."""
    folder = tmp_path_factory.mktemp("service")
    dataset = open_dataset(checkerboard)
    run = write_run(folder / "run", dataset, parity_vectors(dataset))
    process, address = started(run.path, "--events", str(folder / "events.db"), "--no-access-log")
    yield address
    process.terminate()
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("language", "command", "prints"),
    [
        ("python", [sys.executable, "-"], "events ['Product 2', 'Product 4', 'Product 6']"),
        ("js", ["node", "-"], "[ 'Product 0', 'Product 1', 'Product 2' ]"),
    ],
)
def test_the_clients_of_the_document_work(address: str, language: str, command: list[str], prints: str) -> None:
    program = re.search(rf"```{language} client\n(.*?)```", SERVE, re.S)
    assert program
    if not shutil.which(command[0]):
        pytest.skip(f"there is no {command[0]} here")
    text = program[1].replace("http://127.0.0.1:8501", address)
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == prints, done.stderr


def test_a_port_that_is_taken_is_one_error(address: str, checkerboard: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", (data := open_dataset(checkerboard)), parity_vectors(data))
    port = address.rpartition(":")[2]
    command = [sys.executable, "-m", "amzrec", "serve", str(run.path), "--port", port, "--events", "none"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith(f"amzrec: error: cannot listen on 127.0.0.1 port {port}: Address already in use")
    assert len(done.stderr.splitlines()) == 1
