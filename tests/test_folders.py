"""Folders and files that are whole or absent, also where the disk is full or the process is killed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from amzrec.errors import AmzrecError
from amzrec.store.folders import tidy, whole_file, whole_folder, writing
from amzrec.store.locks import alone
from amzrec.store.ownership import Kind

IT = Kind("it", "it.json", frozenset(), ("it.json", "old", "new"))


def full_disk() -> OSError:
    """What the system says when there is no space left."""
    return OSError(28, "No space left on device")


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_what_cannot_be_written_is_told_with_place_reason_and_what_is_left(tmp_path: Path) -> None:
    with pytest.raises(AmzrecError) as caught, writing("the picture", tmp_path / "x.png", "the figures were written"):
        raise full_disk()
    expected = f"cannot write the picture {tmp_path / 'x.png'}: No space left on device; the figures were written."
    assert str(caught.value).startswith(expected)
    assert "Free some space" in str(caught.value)


def test_other_errors_pass_through(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writing("it", tmp_path):
        raise KeyError


@pytest.mark.parametrize("before", [None, "old"])
def test_a_file_that_fails_half_way_leaves_what_was_there(tmp_path: Path, before: str | None) -> None:
    file = tmp_path / "figures.json"
    if before:
        file.write_text(before)

    def write_half() -> None:
        with whole_file(file, "the figures") as partial:
            partial.write_text("half of")
            raise full_disk()

    with pytest.raises(AmzrecError, match=r"cannot write the figures .*figures\.json"):
        write_half()
    assert names(tmp_path) == (["figures.json"] if before else [])
    assert not before or file.read_text() == before


def test_a_file_that_is_whole_takes_its_place_and_keeps_its_suffix(tmp_path: Path) -> None:
    file = tmp_path / "recs.csv"
    file.write_text("old")
    with whole_file(file, "it") as partial:
        assert partial.suffix == ".csv"
        partial.write_text("new")
        assert file.read_text() == "old"
    assert (file.read_text(), names(tmp_path)) == ("new", ["recs.csv"])


def test_a_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with whole_folder(out, IT, False) as partial:
        (partial / "file").write_text("whole")
        assert not out.exists()
    assert names(out) == ["file", "manifest.json"]
    assert names(out.parent) == ["out"]


def test_a_folder_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with whole_folder(out, IT, False) as partial:
        (partial / "it.json").write_text("{}")
        (partial / "old").touch()

    def write_half() -> None:
        with whole_folder(out, IT, True) as partial:
            (partial / "new").touch()
            raise full_disk()

    with pytest.raises(AmzrecError, match="nothing was left there"):
        write_half()
    assert names(tmp_path) == ["out"]
    assert names(out) == ["it.json", "manifest.json", "old"]


def test_a_folder_that_exists_is_refused_with_the_flag_that_replaces_it(tmp_path: Path) -> None:
    (tmp_path / "it.json").write_text("{}")
    with pytest.raises(AmzrecError, match=r"exists already.*--overwrite"), whole_folder(tmp_path, IT, False):
        pass


def test_what_a_killed_process_moved_aside_is_put_back_and_what_lives_is_left_alone(tmp_path: Path) -> None:
    killed = subprocess.Popen(["true"])
    killed.wait()
    (tmp_path / f".out.{killed.pid}.old").mkdir()
    (tmp_path / f".out.{killed.pid}.old" / "dataset.json").touch()
    (tmp_path / f".out.{killed.pid}.partial").mkdir()
    for name in (f".out.{os.getppid()}.partial", ".out.notes", f".out2.{killed.pid}.partial"):
        (tmp_path / name).mkdir()
    tidy(tmp_path / "out")
    kept = [".out.notes", f".out.{os.getppid()}.partial", f".out2.{killed.pid}.partial", "out"]
    assert names(tmp_path) == sorted(kept)
    assert (tmp_path / "out" / "dataset.json").exists()


def test_a_place_is_held_by_one_at_a_time_and_free_afterwards(tmp_path: Path) -> None:
    with alone(tmp_path / "run"):
        with pytest.raises(AmzrecError, match=r"another training is writing .*run now.*--run"), alone(tmp_path / "run"):
            pass
        with alone(tmp_path / "other"):
            pass
    with alone(tmp_path / "run"):
        pass
    assert names(tmp_path) == []
