"""Ctrl-C and SIGTERM: one line, exit code 130 or 143, nothing half-written, and how to go on where that is possible."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import amzrec.commands.prepare
from amzrec import interrupts
from amzrec.cli.app import app
from amzrec.cli.program import going_on
from conftest import ROOT


@pytest.fixture
def listening() -> Iterator[None]:
    """Let this process hear signals as the command line does."""
    before = {number: signal.getsignal(number) for number in interrupts.ASK_TO_END}
    hook = sys.unraisablehook
    interrupts.listen()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    sys.unraisablehook = hook
    interrupts.forget()


def test_a_signal_waits_for_the_end_of_a_block_and_a_second_one_does_not(listening: None) -> None:
    done = []

    def block(*numbers: int) -> None:
        with interrupts.held():
            for number in numbers:
                signal.raise_signal(number)
            done.append(interrupts.waits())

    with pytest.raises(KeyboardInterrupt):
        block(signal.SIGTERM)
    assert done == [True]
    assert interrupts.asked() == signal.SIGTERM
    with pytest.raises(KeyboardInterrupt):
        block(signal.SIGINT, signal.SIGINT)
    assert done == [True]
    assert not interrupts.waits()


def test_a_block_hears_ctrl_c_where_only_python_listens() -> None:
    done = []

    def block() -> None:
        with interrupts.held():
            signal.raise_signal(signal.SIGINT)
            done.append(interrupts.waits())

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not interrupts.asked()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("library", ["raises", "raises an error of its own", "goes on"])
def test_whatever_a_library_makes_of_a_signal_it_is_one_line(
    library: str, number: int, code: int, listening: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(*arguments: object, **settings: object) -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as error:
            if library == "raises":
                raise
            if library == "raises an error of its own":
                raise RuntimeError("Query interrupted") from error

    monkeypatch.setattr(amzrec.commands.prepare, "prepare", prepare)
    done = CliRunner().invoke(app, ["prepare", "--out", "x"])
    assert done.exit_code == code
    assert done.stderr == "amzrec: interrupted\n"
    assert done.stdout == ""


IMPORTED = """
class Loud:
    def find_spec(self, name, *rest):
        if name == "typer":
            signal.raise_signal(signal.SIGTERM)

sys.meta_path.insert(0, Loud())
"""
BUILT = """
import typer.main
typer.main.get_group = lambda app: signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.parametrize("moment", [IMPORTED, BUILT], ids=["imported", "built"])
def test_an_interrupt_while_the_program_begins_is_one_line(moment: str) -> None:
    code = f"import signal, sys\nfrom amzrec.__main__ import main\n{moment}\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "amzrec: interrupted\n")


def test_the_line_that_goes_on_is_what_was_typed_with_the_run_and_resume() -> None:
    typed = ["train", "my reviews.csv", "--overwrite", "--epochs", "9"]
    assert (
        going_on(typed, Path("runs/joint-2")) == "amzrec train 'my reviews.csv' --epochs 9 --run runs/joint-2 --resume"
    )
    assert going_on(["train", "--run=r", "--resume"], Path("r")) == "amzrec train --run=r --resume"
    assert going_on(["compare", "--overwrite"], Path("runs/joint")) == "amzrec compare --overwrite --resume"


@pytest.mark.long
def test_what_a_stopped_training_says_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    words = [sys.executable, str(ROOT / "tests" / "stopped.py"), str(tmp_path)]
    done = subprocess.run(
        words, capture_output=True, text=True, env=os.environ | {"AMZREC_CACHE": str(tmp_path / "cache")}
    )
    assert done.returncode == 0, done.stderr
