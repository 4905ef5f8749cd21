"""The run folder: round trip, damage, which run is the latest."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from amzrec.errors import AmzrecError
from amzrec.store.dataset import open_dataset
from amzrec.store.run import Run, finished_runs, latest_run, open_run
from amzrec.store.strings import Strings
from amzrec.store.vectors import FILES, OPTIONAL, read_vectors
from runs import parity_vectors, random_vectors, write_run


@pytest.fixture
def run(checkerboard: Path, tmp_path: Path) -> Run:
    dataset = open_dataset(checkerboard)
    return write_run(tmp_path / "runs" / "joint", dataset, random_vectors(dataset, np.random.default_rng(0)))


def test_vectors_come_back_as_they_were_written(checkerboard: Path, run: Run) -> None:
    written = random_vectors(open_dataset(checkerboard), np.random.default_rng(0))
    read = read_vectors(run.path, verify=True)
    assert written.arrays().keys() == set(FILES) - OPTIONAL
    for name, array in written.arrays().items():
        np.testing.assert_array_equal(getattr(read, name), array)
        assert isinstance(getattr(read, name), np.memmap)
    assert read.head == written.head
    assert [read.titles[row] for row in range(21)] == [written.titles[row] for row in range(21)]
    for one, other in zip(read.layers, written.layers, strict=True):
        np.testing.assert_array_equal(one[0], other[0])


@pytest.mark.parametrize(
    "values",
    [[], [""], ["", "b", "a"], ["", "007", "7", "NA", "null", "é", "日本", "a\tb", "a b"], ["x" * 10_000, ""]],
)
def test_every_string_is_found_in_its_row_and_no_other_is_found(values: list[str]) -> None:
    strings = Strings.of(values)
    assert [strings[row] for row in range(len(values))] == values
    assert [strings.find(value) for value in values] == list(range(len(values)))
    assert strings.find("not there") is None


def test_of_equal_strings_the_first_row_is_found() -> None:
    assert Strings.of(["", "b", "a", "b"]).find("b") == 1


def test_a_run_can_be_opened_by_path_as_itself_or_as_the_latest(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_run(run) is run
    assert open_run(str(run.path)).path == run.path
    monkeypatch.chdir(run.path.parent.parent)
    assert open_run().path.name == "joint"


def test_the_latest_run_is_the_one_that_finished_last(checkerboard: Path, tmp_path: Path) -> None:
    vectors = parity_vectors(open_dataset(checkerboard))
    for name, finished in (("b", 2.0), ("a", 3.0), ("c", 1.0)):
        write_run(tmp_path / name, checkerboard, vectors, finished=finished)
    assert [path.name for path in finished_runs(tmp_path)] == ["c", "b", "a"]
    assert latest_run(tmp_path).name == "a"


def test_an_unfinished_folder_is_not_the_latest_run(run: Run) -> None:
    (run.path.parent / "newer").mkdir()
    assert latest_run(run.path.parent) == run.path


def test_without_any_run_the_error_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AmzrecError, match="amzrec train"):
        open_run()


def test_an_unknown_run_names_the_known_ones(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.path.parent.parent)
    with pytest.raises(AmzrecError, match=r"no run folder runs/other.*runs/joint"):
        open_run("runs/other")


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AmzrecError, match=r"no run\.json"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(AmzrecError, match="damaged"):
        open_run(tmp_path)


@pytest.mark.parametrize("name", sorted(set(FILES) - OPTIONAL))
def test_a_missing_array_is_named(run: Run, name: str) -> None:
    (run.path / "vectors" / f"{name}.npy").unlink()
    with pytest.raises(AmzrecError, match=name):
        read_vectors(run.path)


def test_a_truncated_array_is_refused(run: Run) -> None:
    file = run.path / "vectors" / "history_bag.npy"
    os.truncate(file, file.stat().st_size - 8)
    with pytest.raises(AmzrecError, match="damaged"):
        read_vectors(run.path)


def test_a_changed_byte_is_found_by_verify(run: Run) -> None:
    file = run.path / "vectors" / "seen_product.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(AmzrecError, match=r"seen_product.*checksum"):
        read_vectors(run.path, verify=True)


def test_an_array_of_another_shape_is_refused(run: Run) -> None:
    np.save(run.path / "vectors" / "product_bias.npy", np.zeros(3, np.float32))
    with pytest.raises(AmzrecError, match="product_bias"):
        read_vectors(run.path)


def test_a_pickle_is_never_loaded(run: Run) -> None:
    np.save(run.path / "vectors" / "product_bias.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(AmzrecError, match="damaged"):
        read_vectors(run.path)


def test_a_damaged_index_is_one_clear_error(run: Run) -> None:
    file = run.path / "vectors" / "vectors.json"
    for text in ("", "{}", "[1]", json.dumps({"files": {}, "layers": 0, "head": {}})):
        file.write_text(text)
        with pytest.raises(AmzrecError, match="train again"):
            read_vectors(run.path)
