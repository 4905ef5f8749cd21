"""A run that is replaced is one or the other, for every reader and whoever is killed; of two writers one wins."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amzrec.commands.prepare import prepare
from amzrec.commands.recommend import recommend
from amzrec.commands.update import update
from amzrec.errors import AmzrecError
from amzrec.store import numbered
from amzrec.store.dataset import PARTS, Dataset, open_dataset
from amzrec.store.folders import whole_folder
from amzrec.store.manifest import new_identity, write_manifest
from amzrec.store.numbered import exchange, hold, home_of, is_ours, numbers, place_of, publish, recover
from amzrec.store.ownership import DATASET_FOLDER, RUN_FOLDER
from amzrec.store.run import RUN, RunInfo, finished_runs, latest_run, open_run
from amzrec.store.vectors import Vectors, write_vectors
from conftest import ROOT
from runs import random_vectors, write_run


def made(board: Path, seed: int) -> Vectors:
    return random_vectors(open_dataset(board), np.random.default_rng(seed))


def fill(folder: Path, board: Path, vectors: Vectors, finished: float = 1.0) -> None:
    """Write the files of a run into a folder under construction."""
    write_vectors(folder, vectors)
    dataset = open_dataset(board)
    RunInfo(finished=finished, dataset=str(board), protocol=dataset.protocol, identity=new_identity()).write(
        folder / RUN
    )


def put(place: Path, board: Path, seed: int, overwrite: bool = True) -> None:
    """Make a run of this seed the run at a place, as commands do."""
    with whole_folder(place, RUN_FOLDER, overwrite, private=True) as work:
        fill(work, board, made(board, seed), finished=float(seed + 1))


def answer(place: Path) -> str:
    return json.dumps(recommend("u03", place))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_is_a_link_to_a_numbered_folder_that_is_replaced_in_one_step(checkerboard: Path, tmp_path: Path) -> None:
    place = tmp_path / "runs" / "joint"
    put(place, checkerboard, 0)
    assert os.readlink(place) == ".joint/1"
    assert is_ours(place)
    with pytest.raises(AmzrecError, match=r"exists already.*--overwrite"):
        put(place, checkerboard, 1, overwrite=False)
    first = answer(place)
    put(place, checkerboard, 1)
    assert os.readlink(place) == ".joint/2"
    assert answer(place) != first
    assert names(place.parent) == [".joint", "joint"]
    assert names(home_of(place)) == ["2", "lock"]
    run = open_run(place)
    assert (run.name, run.place, run.folder) == ("joint", place.resolve().parent.parent / "joint", place.resolve())
    assert run.path == place
    assert finished_runs(place.parent) == [place]


def test_what_is_read_stays_until_it_is_read_no_more(checkerboard: Path, tmp_path: Path) -> None:
    place = tmp_path / "joint"
    put(place, checkerboard, 0)
    run, before = open_run(place), answer(place)
    for seed in (1, 2):
        put(place, checkerboard, seed)
        assert json.dumps(recommend("u03", run)) == before  # opens its vectors only now
    assert names(home_of(place)) == ["1", "3", "lock"]
    vectors = run.vectors
    del run
    put(place, checkerboard, 3)
    assert names(home_of(place)) == ["1", "4", "lock"]  # its vectors are used
    del vectors
    put(place, checkerboard, 4)
    assert names(home_of(place)) == ["5", "lock"]


def test_a_run_of_before_stays_readable_and_is_replaced(checkerboard: Path, tmp_path: Path) -> None:
    for place, can in ((tmp_path / "a" / "joint", True), (tmp_path / "b" / "joint", False)):
        write_run(place, checkerboard, made(checkerboard, 0))
        run, before = open_run(place), answer(place)
        with pytest.MonkeyPatch.context() as patch:
            if not can:
                patch.setattr(numbered, "exchange", lambda one, other: False)
            put(place, checkerboard, 1)
        assert os.readlink(place) == ".joint/2"
        assert answer(place) != before
        assert names(home_of(place)) == ["1", "2", "lock"]
        assert json.dumps(recommend("u03", open_run(home_of(place) / "1"))) == before
        assert names(place.parent) == [".joint", "joint"]
        del run
        put(place, checkerboard, 2)
        assert names(home_of(place)) == ["3", "lock"]


def test_a_run_that_was_renamed_or_linked_is_not_removed(checkerboard: Path, tmp_path: Path) -> None:
    place = tmp_path / "joint"
    put(place, checkerboard, 0)
    before = answer(place)
    place.rename(tmp_path / "best")
    put(place, checkerboard, 1, overwrite=False)
    put(place, checkerboard, 2)
    assert answer(tmp_path / "best") == before
    with pytest.raises(AmzrecError, match="is a link to"):
        put(tmp_path / "best", checkerboard, 3)
    place.unlink()  # the run is removed
    with pytest.raises(AmzrecError, match="no run folder"):
        open_run(place)
    assert latest_run(tmp_path).name == "best"
    shutil.rmtree(home_of(place))
    put(place, checkerboard, 4, overwrite=False)


def test_a_link_of_the_user_is_followed_and_never_replaced(checkerboard: Path, tmp_path: Path) -> None:
    put(tmp_path / "joint", checkerboard, 0)
    (tmp_path / "latest").symlink_to("joint")
    assert open_run(tmp_path / "latest").name == "joint"
    with pytest.raises(AmzrecError, match="is a link to joint"):
        put(tmp_path / "latest", checkerboard, 1)
    assert place_of(Path("runs/.joint/12")) == Path("runs/joint")
    assert place_of(Path("runs/12")) == Path("runs/12")


def test_a_run_is_not_updated_into_itself_and_can_be_into_another(checkerboard: Path, tmp_path: Path) -> None:
    put(tmp_path / "joint", checkerboard, 0)
    (tmp_path / "new.csv").write_text("customer,product,stars\nu03,p12,4\n")
    with pytest.raises(AmzrecError, match="holds the source"):
        update(tmp_path / "joint", tmp_path / "new.csv", tmp_path / "joint", overwrite=True)


@pytest.mark.long
def test_no_answer_mixes_two_runs(checkerboard: Path, tmp_path: Path) -> None:
    """Readers open the run all the time, while it is replaced."""
    place, possible = tmp_path / "joint", set[str]()
    both = [made(checkerboard, seed) for seed in (0, 1)]
    for number, vectors in enumerate(both):
        with whole_folder(tmp_path / f"alone-{number}", RUN_FOLDER, False) as work:
            fill(work, checkerboard, vectors)
        possible.add(answer(tmp_path / f"alone-{number}"))
    put(place, checkerboard, 0)
    stop, seen, failed = threading.Event(), list[str](), list[BaseException]()

    def read() -> None:
        while not stop.is_set():
            try:
                seen.append(answer(place))
            except BaseException as error:
                failed.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(30):
        with whole_folder(place, RUN_FOLDER, True) as work:
            fill(work, checkerboard, both[number % 2])
    stop.set()
    for reader in readers:
        reader.join()
    assert not failed, "\n".join(map(str, failed))
    assert set(seen) <= possible
    put(place, checkerboard, 2)
    assert len(names(home_of(place))) == 2


# --- of several that come at once


def at_once(count: int, work: Any) -> list[Exception]:
    """Do some work several times at once, all beginning together; returns the errors."""
    ready = threading.Barrier(count)

    def one(number: int) -> Exception | None:
        ready.wait()
        try:
            work(number)
        except Exception as error:
            return error
        return None

    with ThreadPoolExecutor(count) as pool:
        return [error for error in pool.map(one, range(count)) if error is not None]


def test_of_several_runs_for_one_place_exactly_one_comes_there(checkerboard: Path, tmp_path: Path) -> None:
    place, middle = tmp_path / "joint", threading.Barrier(6)

    def write(number: int) -> None:
        with whole_folder(place, RUN_FOLDER, False) as work:
            (work / RUN).write_text(json.dumps({"finished": float(number)}))
            middle.wait()  # the place is free for all of them

    errors = at_once(6, write)
    assert len(errors) == 5
    assert all(isinstance(error, AmzrecError) and "exists already" in str(error) for error in errors)
    assert names(tmp_path) == [".joint", "joint"]
    assert open_run(place).info.finished in range(6)


def test_of_several_datasets_for_one_place_exactly_one_comes_there(tmp_path: Path) -> None:
    place, middle = tmp_path / "dataset", threading.Barrier(6)

    def write(number: int) -> None:
        with whole_folder(place, DATASET_FOLDER, False) as work:
            (work / "dataset.json").write_text(json.dumps({"source": number, "protocol": {}, "counts": {}}))
            middle.wait()

    errors = at_once(6, write)
    assert len(errors) == 5
    assert all(isinstance(error, AmzrecError) and "exists already" in str(error) for error in errors)
    assert names(tmp_path) == ["dataset"]


@pytest.mark.long
def test_of_parallel_prepares_exactly_one_wins(tmp_path: Path) -> None:
    rows = "".join(f"u{n % 9},p{n % 7},{n % 5 + 1}\n" for n in range(63))
    (tmp_path / "reviews.csv").write_text(f"user,item,rating\n{rows}")
    words = [sys.executable, "-m", "amzrec", "prepare", str(tmp_path / "reviews.csv"), "--out", str(tmp_path / "d")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(4)
    ]
    said = [process.communicate()[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1, 1, 1]
    lost = [text for text, process in zip(said, processes, strict=True) if process.returncode]
    assert all(text.count("amzrec: error: ") == 1 and "exists already" in text for text in lost)
    open_dataset(tmp_path / "d").check_files()
    assert names(tmp_path) == ["d", "reviews.csv"]


def test_overwriting_datasets_at_once_leaves_one_that_is_whole(tmp_path: Path) -> None:
    rows = "".join(f"u{n % 9},p{n % 7},{n % 5 + 1}\n" for n in range(63))
    (tmp_path / "reviews.csv").write_text(f"user,item,rating\n{rows}")
    files = {file.name: file.read_bytes() for file in prepare(tmp_path / "reviews.csv", tmp_path / "d").path.iterdir()}
    assert at_once(3, lambda _: written(tmp_path / "d", files)) == []
    found: Dataset = open_dataset(tmp_path / "d")
    found.check_files()


def test_a_dataset_that_is_replaced_after_it_was_opened_is_read_to_its_end(tmp_path: Path) -> None:
    rows = [f"u{n % 9},p{n % 7},{n % 5 + 1}\n" for n in range(63)]
    (tmp_path / "reviews.csv").write_text("user,item,rating\n" + "".join(rows))
    (tmp_path / "others.csv").write_text("user,item,rating\n" + "".join(rows[:50]))
    whole = prepare(tmp_path / "reviews.csv", tmp_path / "d")
    parts = {name: whole.part(name) for name in PARTS}
    opened = open_dataset(tmp_path / "d")
    prepare(tmp_path / "others.csv", tmp_path / "d", overwrite=True)
    for name, part in parts.items():
        for field in ("customer", "product", "stars"):
            np.testing.assert_array_equal(getattr(opened.part(name), field), getattr(part, field))
    assert open_dataset(tmp_path / "d").info.counts.kept == 50
    copied = pickle.loads(pickle.dumps(opened))  # in another process, which has none of the open files
    with pytest.raises(AmzrecError, match="is damaged"):
        copied.part("train")


def written(place: Path, files: dict[str, bytes]) -> None:
    """Replace a dataset by these files."""
    with whole_folder(place, DATASET_FOLDER, True) as work:
        for name, content in files.items():
            (work / name).write_bytes(content)


# --- killed at the swap

KILLED = """
import os, signal, sys
from pathlib import Path
from amzrec.store import numbered
from amzrec.store.numbered import publish

at, new, place = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
calls = [0]

def counting(kind, name):
    real = getattr(kind, name)
    def call(*args, **kwargs):
        if calls[0] == int(at):
            os.kill(os.getpid(), signal.SIGKILL)
        calls[0] += 1
        return real(*args, **kwargs)
    setattr(kind, name, call)

for name in ("rename", "replace", "symlink_to", "touch", "unlink"):
    counting(Path, name)
counting(numbered.shutil, "rmtree")
publish(new, place, True)
print(calls[0])
"""


@pytest.mark.parametrize("before", ["nothing", "a run", "a plain folder"])
def test_killed_at_any_step_of_the_swap_a_whole_run_stands_there(
    checkerboard: Path, tmp_path: Path, before: str
) -> None:
    vectors = [made(checkerboard, seed) for seed in (0, 1)]
    answers = []
    for number, each in enumerate(vectors):
        write_run(tmp_path / f"alone-{number}", checkerboard, each)
        answers.append(answer(tmp_path / f"alone-{number}"))
    for step in range(20):
        root = tmp_path / f"{step}"
        root.mkdir()
        place, new = root / "joint", root / ".joint.training"
        if before == "a plain folder":
            write_run(place, checkerboard, vectors[0])
        elif before == "a run":
            put(place, checkerboard, 0)
        new.mkdir()
        fill(new, checkerboard, vectors[1])
        write_manifest(new, RUN_FOLDER)
        words = [sys.executable, "-c", KILLED, str(step), str(new), str(place)]
        done = subprocess.run(words, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        if new.exists():  # the training goes on, or begins anew: nothing was swapped
            assert before == "nothing" or answer(place) == answers[0]
            shutil.rmtree(new)
            if before == "nothing":
                continue
        else:
            assert answer(place) in answers
            assert finished_runs(root) == [place]
            if before == "nothing":
                assert answer(place) == answers[1]
        recover(place)
        assert answer(place) in answers
        put(place, checkerboard, 2)
        assert names(root) == [".joint", "joint"], step
        assert len(names(home_of(place))) == 2, step
        if done.returncode == 0:
            break
    else:
        raise AssertionError("it never came to its end")


def test_a_swap_that_fails_gives_the_folder_back(
    checkerboard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, place = tmp_path / "new", tmp_path / "joint"
    new.mkdir()
    fill(new, checkerboard, made(checkerboard, 0))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "symlink_to", full)
    with pytest.raises(OSError, match="No space"):
        publish(new, place, False)
    assert (new / RUN).exists()
    assert names(home_of(place)) == ["lock"]
    assert numbers(home_of(place)) == []


def test_where_there_are_no_locks_an_old_number_stays_for_a_day(
    checkerboard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "joint"

    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    put(place, checkerboard, 0)
    held = hold(place)
    assert held is not None
    put(place, checkerboard, 1)
    assert names(home_of(place)) == ["1", "2", "lock"]
    os.utime(home_of(place) / "1", (0, 0))
    put(place, checkerboard, 2)
    assert names(home_of(place)) == ["2", "3", "lock"]


def test_two_paths_change_places(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    if not exchange(tmp_path / "folder", tmp_path / "link"):
        pytest.skip("this file system cannot")
    assert (tmp_path / "link").is_dir()
    assert (tmp_path / "folder").is_symlink()
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "folder", tmp_path / "nothing")


@pytest.mark.parametrize("times", [4, 5])
def test_a_parser_that_another_thread_disturbed_is_asked_again(
    checkerboard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """As CPython does (issue 106905): a run with nothing wrong was called damaged, once in many swaps."""
    place = tmp_path / "joint"
    put(place, checkerboard, 0)
    before, load, left = answer(place), np.load, [times]

    def disturbed(*given: Any, **named: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise SystemError("AST constructor recursion depth mismatch (before=18, after=14)")
        return load(*given, **named)

    monkeypatch.setattr(np, "load", disturbed)
    if times == 4:
        assert answer(place) == before
    else:
        with pytest.raises(AmzrecError, match=r"is damaged: \w+\.npy has no header of an array \(AST"):
            answer(place)
