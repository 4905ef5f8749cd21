"""Datasets of TensorFlow as sources: saved folders, nested and flat, and tensorflow-datasets without the network."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest

from amzrec.commands.prepare import prepare
from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews import checks, engines, sources
from amzrec.reviews.engines.protocol import Engine, union
from amzrec.reviews.relation import Source
from amzrec.reviews.sources import saved

FIELDS = {
    "customer_id": [b"007", b"7"],
    "product_id": [b"B1", b"B2"],
    "product_parent": [b"1", b"2"],
    "product_title": [b"Caf\xc3\xa9", b"bad \xff byte"],
    "star_rating": [5, 2],
    "review_date": [b"2015-08-31", b"1970-01-02"],
    "vine": [1, 1],
}


def save(folder: Path, nested: bool, compression: str | None = None) -> Path:
    import tensorflow as tf

    columns = {name: tf.constant(values) for name, values in FIELDS.items()}
    dataset = tf.data.Dataset.from_tensor_slices({"data": columns} if nested else columns)
    dataset.save(str(folder), compression=compression)
    return folder


def rows_of(engine: Engine, source: Source) -> list[dict[str, Any]]:
    relation = union([checks.checked(source, part, "id") for part in source.parts])
    rows: list[dict[str, Any]] = engine.fetch(relation).to_pylist()
    return rows


@pytest.mark.parametrize(("nested", "compression"), [(True, None), (False, None), (True, "GZIP")])
def test_a_saved_dataset_reads_nested_or_flat_and_compressed_or_not(
    tmp_path: Path, nested: bool, compression: str | None
) -> None:
    folder = save(tmp_path / "saved", nested, compression)
    engine = engines.connect(tmp_path)
    source = sources.open_source(engine, str(folder), PrepareConfig(), tmp_path)
    found = {
        (r["customer_id"], r["product_id"], r["product_title"], r["stars"], r["timestamp"])
        for r in rows_of(engine, source)
    }
    assert found == {("007", "B1", "Café", 5.0, 1440979200), ("7", "B2", "bad \ufffd byte", 2.0, 86400)}
    assert (source.format, source.scale) == ("tensorflow", (1.0, 5.0))


def test_a_saved_dataset_with_other_columns_asks_for_columns(tmp_path: Path) -> None:
    import tensorflow as tf

    folder = tmp_path / "saved"
    tf.data.Dataset.from_tensor_slices({"a": ["u"], "b": ["p"]}).save(str(folder))
    engine = engines.connect(tmp_path)
    with pytest.raises(AmzrecError, match=r"columns a, b.*--columns customer=a,product=b"):
        sources.open_source(engine, str(folder), PrepareConfig(), tmp_path)
    source = sources.open_source(engine, str(folder), PrepareConfig(columns="customer=a,product=b"), tmp_path)
    assert [(r["customer_id"], r["product_id"], r["stars"]) for r in rows_of(engine, source)] == [("u", "p", None)]


def test_the_order_of_columns_does_not_depend_on_the_order_that_tensorflow_loads_them_in() -> None:
    import tensorflow as tf

    scalar = tf.TensorSpec([], tf.string)
    for spec in ({"b": scalar, "data": {"a": scalar, "b": scalar}}, {"data": {"b": scalar, "a": scalar}, "b": scalar}):
        assert list(saved.leaves(spec).items()) == [("b", ("b",)), ("a", ("data", "a"))]


def test_a_damaged_saved_dataset_is_an_error(tmp_path: Path) -> None:
    folder = save(tmp_path / "saved", True)
    for file in folder.rglob("*.snapshot"):
        file.write_bytes(b"nonsense" * 10)
    with pytest.raises(AmzrecError, match=r"cannot be read.*Save it again"):
        sources.open_source(engines.connect(tmp_path), str(folder), PrepareConfig(), tmp_path)


@pytest.mark.parametrize("name", ["dataset_spec.pb", "snapshot.metadata", "*/*/00000000.snapshot"])
def test_a_saved_dataset_whose_files_are_cut_anywhere_is_an_error(tmp_path: Path, name: str) -> None:
    (file,) = save(tmp_path / "saved", True).glob(name)
    content = file.read_bytes()
    for size in sorted({0, 1, 2, len(content) - 1, *range(5, len(content), max(len(content) // 8, 1))}):
        file.write_bytes(content[:size])
        with pytest.raises(AmzrecError, match=r"cannot be read.*Save it again"):
            sources.open_source(engines.connect(tmp_path), str(tmp_path / "saved"), PrepareConfig(), tmp_path)


def test_elements_that_are_missing_after_the_first_are_an_error(tmp_path: Path) -> None:
    """TensorFlow itself reads a file that ends between two elements as a shorter dataset."""
    file = next(save(tmp_path / "saved", True).rglob("*.snapshot"))
    content = file.read_bytes()
    end = 0
    for _ in FIELDS:  # of the first element; each has a length of 8 bytes and two sums of 4 around it
        end += 8 + 4 + int.from_bytes(content[end : end + 8], "little") + 4
    file.write_bytes(content[:end])
    with pytest.raises(AmzrecError, match="1 of its 2 elements are there"):
        sources.open_source(engines.connect(tmp_path), str(tmp_path / "saved"), PrepareConfig(), tmp_path)


@pytest.mark.slow
def test_what_crashes_tensorflow_does_not_crash_amzrec(tmp_path: Path) -> None:
    """A snapshot that says it is of version 1, and is not, ends the process that reads it."""
    from tensorflow.core.protobuf.snapshot_pb2 import SnapshotMetadataRecord

    folder = save(tmp_path / "saved", True)
    found = SnapshotMetadataRecord.FromString((folder / "snapshot.metadata").read_bytes())
    for version in (1, 0, 3):
        found.version = version
        (folder / "snapshot.metadata").write_bytes(found.SerializeToString())
        with pytest.raises(AmzrecError, match="cannot be read"):
            sources.open_source(engines.connect(tmp_path), str(folder), PrepareConfig(), tmp_path)


def test_an_unknown_tfds_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(AmzrecError, match="tfds:movielens/100k, 1m"):
        saved.open_tfds(engines.connect(tmp_path), "tfds:mnist", tmp_path)


@pytest.mark.real
@pytest.mark.long
def test_tfds_movielens_100k_builds_with_the_real_builder(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow_datasets as tfds

    (tmp_path / "download").mkdir()
    folder = tmp_path / "download" / "ml-100k"
    shutil.copytree(real_data / "ml-100k", folder)
    (folder / "u.data").chmod(0o644)
    with (real_data / "ml-100k" / "u.data").open() as lines:
        (folder / "u.data").write_text("".join(itertools.islice(lines, 2_000)))  # building all takes a minute
    downloads = tfds.download.DownloadManager
    monkeypatch.setattr(downloads, "download_and_extract", lambda self, url: tmp_path / "download")
    monkeypatch.setattr(saved, "TFDS_FOLDER", str(tmp_path / "tfds"))
    dataset = prepare("tfds:movielens/100k", tmp_path / "out")
    counts = dataset.info.counts
    assert (counts.read, counts.products) == (2_000, 1_682)
    products = {p["product_id"]: p for p in dataset.products.to_pylist()}
    assert products["50"]["title"] == "Star Wars (1977)"
    assert products["50"]["features"] == [
        *(f"genre={g}" for g in ("Action", "Adventure", "Romance", "Sci-Fi", "War")),
        "year=1977",
    ]
    customers = {c["customer_id"]: c for c in dataset.customers.to_pylist()}
    assert customers["196"]["features"] == ["age=49", "gender=M", "occupation=writer"]
    # the same reviews as from the original files, hence the same split
    files = prepare(folder, tmp_path / "files")
    assert counts.train == files.info.counts.train
