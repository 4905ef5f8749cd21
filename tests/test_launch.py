"""launch: several workers of one cluster on this machine, with one exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pyarrow import csv

from amzrec.commands import launch as module
from amzrec.commands.launch import launch
from amzrec.errors import AmzrecError
from amzrec.model.keras2 import import_tensorflow
from test_strategy import FULL, environment, reviews, same_model  # noqa: F401 (a fixture)

WORKER = """
import json, os, signal, sys, time
config = json.loads(os.environ["TF_CONFIG"])
number, addresses = config["task"]["index"], config["cluster"]["worker"]
assert len(set(addresses)) == len(addresses) and all(a.startswith("127.0.0.1:") for a in addresses)
print(f"worker {number} of {len(addresses)}: {' '.join(sys.argv[1:])}", flush=True)
"""


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a script of a few lines in the place of amzrec; `number` says which worker it is."""

    def does(lines: str) -> None:
        monkeypatch.setattr(module, "PROGRAM", [sys.executable, "-c", WORKER + lines])

    return does


def test_what_the_chief_prints_is_shown_and_all_get_the_same_words(
    worker: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    worker("")
    assert launch(["train", "reviews.csv"], 3) == 0
    assert capfd.readouterr().out == "worker 0 of 3: train reviews.csv --strategy multi-worker\n"


def test_the_exit_code_is_that_of_the_worker_that_fails_and_its_last_words_are_shown(
    worker: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    worker("if number == 1: sys.exit('no such file')\ntime.sleep(60)")
    begun = time.monotonic()
    assert launch(["train", "missing.csv"], 2) == 1
    assert time.monotonic() - begun < 50, "the chief is not waited for"
    assert capfd.readouterr().err.splitlines()[-1] == "[worker 1] no such file"


def test_all_workers_start_again_with_resume_where_a_signal_kills_one(
    worker: Any, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    worker("if number == 1 and '--resume' not in sys.argv: os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(1)")
    assert launch(["train"], 2) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "worker 0 of 2: train --strategy multi-worker --resume"


def test_a_worker_that_is_killed_again_and_again_is_given_up(worker: Any) -> None:
    worker("if number == 1: os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(60)")
    with pytest.raises(AmzrecError, match=r"worker 1 was killed \(SIGKILL\), after 1 restarts"):
        launch(["train"], 2, restarts=1)


@pytest.mark.long
def test_an_interrupt_is_passed_to_the_chief_which_ends_first(worker: Any, tmp_path: Path) -> None:
    """The others stay until the chief has saved: it waits for them within a step."""
    file = tmp_path / "ended"
    saves = f"""
def save(*_):
    time.sleep(1); open({str(file)!r}, "a").write(f"{{number}} "); sys.exit(130)
signal.signal(signal.SIGINT, save)
time.sleep(60)
"""
    worker(saves)
    timer = threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        assert launch(["train"], 2) == 130
    finally:
        timer.cancel()
    assert file.read_text() == "0 "


@pytest.mark.parametrize(
    ("words", "workers", "said"),
    [
        ([], 2, "launch runs amzrec train; found nothing after --"),
        (["recommend"], 2, "found 'recommend'"),
        (["train", "-"], 2, "workers cannot share standard input"),
        (["train"], 0, "--workers is 0; allowed: 1 to 64"),
    ],
)
def test_what_cannot_be_launched_is_said_before_anything_starts(words: list[str], workers: int, said: str) -> None:
    with pytest.raises(AmzrecError) as error:
        launch(words, workers)
    assert said in str(error.value)


@pytest.mark.long
def test_two_processes_give_the_model_of_one_also_where_one_is_killed(reviews: Path, tmp_path: Path) -> None:  # noqa: F811
    """SIGKILL after the first checkpoint, within an epoch: the run goes on from there to the same weights.

    The source is read by TensorFlow, which joins no cluster any more once it has computed anything.
    """
    saved = tmp_path / "saved"
    table = csv.read_csv(reviews).to_pydict()
    import_tensorflow().data.Dataset.from_tensor_slices(table).save(str(saved))
    settings = {"compared": 100, "history_budget": 400} | {k: v for k, v in FULL.items() if k != "head"}
    flags = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    common = ["train", str(saved), *flags, "--head", "4", "--checkpoint-every", "3"]
    here = environment(tmp_path)
    amzrec = [sys.executable, "-m", "amzrec"]
    subprocess.run([*amzrec, *common, "--run", "one"], cwd=tmp_path, env=here, check=True, timeout=600)
    command = [*amzrec, "launch", "--workers", "2", "--", *common, "--run", "two"]
    with (tmp_path / "log").open("w") as log:
        there = here | {"AMZREC_CACHE": str(tmp_path / "other cache")}  # or it would be read already
        launched = subprocess.Popen(command, cwd=tmp_path, env=there, stdout=log, stderr=log)
        while launched.poll() is None and not list(tmp_path.glob(".two.training/checkpoints/select-0-3.index")):
            time.sleep(0.05)
        children = Path(f"/proc/{launched.pid}/task/{launched.pid}/children").read_text().split()
        os.kill(int(children[1]), signal.SIGKILL)
        assert launched.wait(900) == 0, (tmp_path / "log").read_text()
    said = (tmp_path / "log").read_text()
    assert "worker 1 was killed (SIGKILL): starting all 2 again" in said
    assert "going on after step" in said
    same_model(tmp_path / "one", tmp_path / "two")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == [
        "cache",
        "log",
        "one",
        "other cache",
        "reviews.csv",
        "saved",
        "two",
    ]
    assert json.loads((tmp_path / "two" / "run.json").read_text())["trained"] == ["rating", "retrieval"]
