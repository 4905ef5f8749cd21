"""What killed processes leave is removed by the next command that meets it; what the living do is left alone."""

from __future__ import annotations

import csv
import dataclasses
import errno
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from amzrec.answers.files import all_harmless
from amzrec.commands.recommend_all import recommend_all
from amzrec.errors import AmzrecError
from amzrec.reviews.cache import dataset_of
from amzrec.reviews.sources import fingerprint_of
from amzrec.store import locks
from amzrec.store.dataset import open_dataset
from amzrec.store.folders import cache_folder, replace_folder, scratch_folder, sweep, tidy, whole_file, whole_folder
from amzrec.store.locks import alone, claim, lock_of, owner, taken_over
from amzrec.store.ownership import Kind
from amzrec.store.strings import Strings
from conftest import ROOT
from runs import parity_vectors, write_run
from voices import Voice

IT = Kind("it", "it.json", frozenset(), ("it.json", "new"))
WORKS = {  # what a process is in the middle of, at the place `place`
    "file": "whole_file(place, 'it')",
    "folder": "whole_folder(place, IT, True)",
    "private folder": "whole_folder(place, IT, True, private=True)",
    "scratch": "scratch_folder(place.parent)",
}


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def working(place: Path, work: str, before: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of a work; `before` are words before its command."""
    program = f"""
        import sys, time
        from pathlib import Path
        from amzrec.store.folders import replace_folder, scratch_folder, whole_file, whole_folder
        from amzrec.store.locks import alone, claim
        from amzrec.store.ownership import Kind
        IT = Kind("it", "it.json", frozenset(), ("it.json", "new"))
        place = Path(sys.argv[1])
        with {work} as partial:
            if partial and Path(partial).is_dir():
                (partial / "it.json").write_text("half of it")
            elif partial and "partial" in str(partial):
                partial.write_text("half of it")
            print("working", flush=True)
            time.sleep(60)
    """
    command = [*before, sys.executable, "-c", textwrap.dedent(program), str(place)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.read()  # type: ignore[union-attr]  # until the last of the group has ended
        process.stdout.close()  # type: ignore[union-attr]


@pytest.mark.parametrize("work", WORKS)
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_does_is_not(tmp_path: Path, work: str) -> None:
    place = tmp_path / ("amzrec" if work == "scratch" else "out.csv")
    with working(place, WORKS[work]):
        doing = names(tmp_path)
        assert len(doing) == 2
        tidy(place)
        sweep(tmp_path)
        assert names(tmp_path) == doing
    assert names(tmp_path) == doing  # it was killed
    (tmp_path / ".out.csv.mine.partial").touch()
    (tmp_path / f".out.csv.{doing[0].split('.')[-2]}.notes").touch()
    tidy(tmp_path / "other")
    assert len(names(tmp_path)) == 4
    sweep(tmp_path)
    assert names(tmp_path) == sorted([".out.csv.mine.partial", f".out.csv.{doing[0].split('.')[-2]}.notes"])


def test_the_next_work_of_each_kind_removes_what_was_left(tmp_path: Path) -> None:
    with working(tmp_path / "out", WORKS["file"]):
        pass
    assert len(names(tmp_path)) == 2
    with whole_file(tmp_path / "out", "it") as partial:
        partial.write_text("{}")
    assert names(tmp_path) == ["out"]
    with working(tmp_path / "folder", WORKS["folder"]):
        pass
    assert len(names(tmp_path)) == 3
    with whole_folder(tmp_path / "folder", IT, True) as partial:
        (partial / "it.json").write_text("{}")
    assert names(tmp_path) == ["folder", "out"]


@pytest.mark.skipif(not shutil.which("unshare") or os.geteuid() != 0, reason="needs root and unshare (util-linux)")
def test_another_container_sees_that_a_process_lives(tmp_path: Path) -> None:
    """In a PID namespace of its own, numbers of processes mean nothing."""
    inside = ("unshare", "--pid", "--fork", "--kill-child")
    if subprocess.run([*inside, "true"]).returncode:
        pytest.skip("this system allows no namespaces")
    with working(tmp_path / "out", WORKS["folder"], inside):
        doing = names(tmp_path)
        tidy(tmp_path / "out")
        assert names(tmp_path) == doing
        with whole_folder(tmp_path / "out", IT, False) as partial:
            (partial / "it.json").touch()
        assert names(tmp_path) == sorted([*doing, "out"])
    deadline = time.monotonic() + 60
    while names(tmp_path) != ["out"] and time.monotonic() < deadline:  # its lock is let go of a moment after it ended
        tidy(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    with working(tmp_path / "run", "alone(place)", inside), pytest.raises(AmzrecError, match="another training"):
        alone(tmp_path / "run").__enter__()


def test_two_processes_of_one_number_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with whole_folder(tmp_path / "out", IT, True) as one, whole_folder(tmp_path / "out", IT, True) as two:
        assert one != two
        (one / "it.json").write_text("{}")
        (two / "it.json").write_text("{}")
    assert names(tmp_path) == ["out"]


def test_many_threads_claim_many_names(tmp_path: Path) -> None:
    """Also while others take what is not yet locked for what was left."""
    found: list[str] = []

    def work() -> None:
        for _ in range(30):
            with claim(tmp_path / "out") as token:
                found.append(token)
                (tmp_path / f".out.{token}.partial").mkdir()
                tidy(tmp_path / "out")
                assert (tmp_path / f".out.{token}.partial").is_dir()
                (tmp_path / f".out.{token}.partial").rmdir()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 120
    assert names(tmp_path) == []


def test_what_was_moved_away_is_put_back_unless_something_stands_there(tmp_path: Path) -> None:
    for before in (False, True):
        old = tmp_path / ".out.x0123456789ab.old"
        old.mkdir()
        (old / "it.json").write_text("old")
        tidy(tmp_path / "out")
        assert names(tmp_path) == ["out"]
        assert before == ((tmp_path / "out" / "it.json").read_text() == "new")
        (tmp_path / "out" / "it.json").write_text("new")


def test_a_link_that_was_moved_away_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "kept")
    (tmp_path / ".out.x0123456789ab.old").symlink_to(tmp_path / "kept")
    (tmp_path / ".out.x0123456789ac.partial").symlink_to(tmp_path / "kept")
    tidy(tmp_path / "out")
    assert names(tmp_path) == ["kept", "out"]
    (tmp_path / "new").mkdir()
    replace_folder(tmp_path / "new", tmp_path / "out", IT, True)
    assert names(tmp_path) == ["kept", "out"]
    assert not (tmp_path / "out").is_symlink()


def test_a_file_for_everyone_removes_what_a_killed_one_left(checkerboard: Path, tmp_path: Path) -> None:
    board = open_dataset(checkerboard)
    run = write_run(tmp_path / "run", board, parity_vectors(board))
    with working(tmp_path / "all.csv", WORKS["file"]):
        pass
    recommend_all(run, tmp_path / "all.csv")
    assert names(tmp_path) == ["all.csv", "run"]


def test_the_cache_and_the_temporary_folder_lose_what_killed_processes_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMZREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    reviews = tmp_path / "r.csv"
    reviews.write_text("user,item,rating\n" + "".join(f"u{i % 9},p{i % 7},{i % 5 + 1}\n" for i in range(80)))
    (tmp_path / "cache").mkdir()
    for place, work in ((tmp_path / "cache" / "other", "folder"), (tmp_path / "amzrec", "scratch")):
        with working(place, WORKS[work]):
            pass
    assert len(names(tmp_path / "cache")) == 2
    dataset = dataset_of(str(reviews))
    assert names(tmp_path / "cache") == [dataset.path.name]
    assert names(tmp_path) == ["cache", "r.csv"]


# --- the lock of a run folder


def test_what_others_are_writing_in_the_folder_of_a_source_is_no_part_of_its_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("user,item\nu,p\n")
    before = fingerprint_of(str(tmp_path))
    with whole_folder(tmp_path / "out", IT, False) as partial:
        (partial / "it.json").write_text("{}")
        assert fingerprint_of(str(tmp_path)) == before


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    with working(tmp_path / "run", "alone(place)"), pytest.raises(AmzrecError, match="another training"):
        alone(tmp_path / "run").__enter__()
    assert names(tmp_path) == [".run.lock"]
    with alone(tmp_path / "run"):
        pass
    assert names(tmp_path) == []


def test_a_lock_file_that_is_a_link_empties_nothing(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for target in ("thesis.tex", "nothing"):
        lock_of(tmp_path / "run").unlink(missing_ok=True)
        lock_of(tmp_path / "run").symlink_to(tmp_path / target)
        with pytest.raises(AmzrecError, match=r"lock file .* is a link to .*remove it"), alone(tmp_path / "run"):
            pass
    assert names(tmp_path) == [".run.lock", "thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_file_system_without_locks_is_said_and_owners_tell_who_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    voice = Voice()
    with alone(tmp_path / "run", voice):
        assert "has no locks" in voice.lines[0]
    dead = subprocess.Popen(["true"])
    dead.wait()
    here = owner().strip().rpartition(" ")[0]
    for who, lives in (
        (owner(), True),
        (f"{here} {dead.pid}\n", False),
        (f"elsewhere {dead.pid}\n", True),  # until a day has passed
        ("", True),
    ):
        lock = lock_of(tmp_path / "out", "x0123456789ab")
        lock.write_text(who)
        with taken_over(tmp_path / "out", "x0123456789ab") as free:
            assert free != lives, who
    os.utime(lock, (0, 0))
    with taken_over(tmp_path / "out", "x0123456789ab") as free:
        assert free
    assert locks.STALE == 86_400


# --- who may read


def modes(folder: Path) -> set[str]:
    """Who may do what with a folder and with all in it."""
    return {oct(stat.S_IMODE(path.stat().st_mode)) for path in (folder, *folder.rglob("*"))}


def test_nobody_else_may_read_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMZREC_CACHE", str(tmp_path / "above" / "cache"))
    reviews = tmp_path / "r.csv"
    reviews.write_text("user,item,rating\n" + "".join(f"u{i % 9},p{i % 7},{i % 5 + 1}\n" for i in range(80)))
    dataset_of(str(reviews))
    assert modes(cache_folder()) == {"0o700", "0o600"}


def test_what_is_written_into_a_folder_of_ones_own_is_ones_own(tmp_path: Path) -> None:
    os.umask(old := os.umask(0o022))
    for mode, expected in ((0o700, 0o600), (0o755, 0o666 & ~old)):
        folder = tmp_path / oct(mode)
        folder.mkdir()
        folder.chmod(mode)
        with whole_file(folder / "metrics.json", "it") as partial:
            partial.write_text("{}")
        assert stat.S_IMODE((folder / "metrics.json").stat().st_mode) == expected
    with scratch_folder(tmp_path) as scratch:
        assert modes(scratch) == {"0o700"}
    with whole_folder(tmp_path / "mine", IT, False, private=True) as partial:
        (partial / "new").mkdir()
        (partial / "new" / "it").touch()
        assert stat.S_IMODE(partial.stat().st_mode) == 0o700
    assert modes(tmp_path / "mine") == {"0o700", "0o600"}


def test_a_csv_for_everyone_has_no_formulas_and_no_escapes(checkerboard: Path, tmp_path: Path) -> None:
    board = open_dataset(checkerboard)
    vectors = parity_vectors(board)
    evil = ["=1+1", "+1", "-1", "@sum", "\t=1", "a=1", "'=1", "\x1b[31m", "＝1", ""]
    ids = [vectors.customer_ids[row] for row in range(len(vectors.customer_ids))]
    titles = [evil[row % len(evil)] for row in range(len(vectors.titles))]
    vectors = dataclasses.replace(
        vectors, customer_ids=Strings.of(["", "=cmd()", *ids[2:]]), titles=Strings.of(titles)
    )  # fmt: skip
    run = write_run(tmp_path / "run", board, vectors)
    recommend_all(run, tmp_path / "all.csv", k=20)
    with (tmp_path / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert "'=cmd()" in {row["customer_id"] for row in rows}
    cells = {cell for row in rows for name, cell in row.items() if name not in ("score", "stars")}
    assert not [cell for cell in cells if cell[:1] in set("=+-@\t＝") or "\x1b" in cell]
    assert {"'=1+1", "'+1", "'-1", "'@sum", r"\t=1", "a=1", "'=1", r"\x1b[31m", "'＝1"} <= cells
    recommend_all(run, tmp_path / "all.jsonl", k=20)
    assert '"=cmd()"' in (tmp_path / "all.jsonl").read_text()  # for programs: as it is
    assert all_harmless(pa.array(["a", "b"])).to_pylist() == ["a", "b"]
    assert np.isfinite([float(row["score"]) for row in rows]).all()
