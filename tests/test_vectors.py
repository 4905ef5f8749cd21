"""The vectors of a run: written whole, read memory-mapped, refused where a file is not what was written."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

from amzrec.errors import AmzrecError
from amzrec.store.dataset import open_dataset
from amzrec.store.run import Run
from amzrec.store.vectors import FILES, OPTIONAL, read_vectors
from runs import random_vectors, write_run


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
        with pytest.raises(AmzrecError, match=r"[Tt]rain again"):
            read_vectors(run.path)


def test_an_array_that_is_optional_may_be_there_or_not(checkerboard: Path, tmp_path: Path) -> None:
    dataset = open_dataset(checkerboard)
    vectors = dataclasses.replace(
        random_vectors(dataset, np.random.default_rng(0)),
        context=np.ones((2, 21), np.float32),
        context_edges=np.array([7]),
    )
    assert vectors.rating_context is None
    read = write_run(tmp_path / "run", dataset, vectors).vectors
    assert read.rating_context is None
    assert read.context is not None
    np.testing.assert_array_equal(read.context, np.ones((2, 21)))


def test_the_products_and_features_of_a_row_are_read_as_lists(run: Run) -> None:
    vectors = run.vectors
    assert sorted(vectors.seen[1].tolist()) == sorted(vectors.seen_product[vectors.seen.span(1)].tolist())
    assert len(vectors.seen) == len(vectors.customer_ids)
    assert vectors.features_of_products[1].tolist() == []
