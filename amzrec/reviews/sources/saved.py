"""Datasets of TensorFlow: folders written by tf.data.Dataset.save, and tfds: names of tensorflow-datasets."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews.engines.protocol import Engine
from amzrec.reviews.relation import Facts, Part, Source
from amzrec.reviews.sources import movielens
from amzrec.reviews.sources.shape import Shape
from amzrec.reviews.sources.tables import open_columns

BATCH = 4096
METADATA = "snapshot.metadata"
VERSIONS = (1, 2)  # of what TensorFlow writes; with sums of each element from 2 on, so that damage is found
TFDS_FOLDER: str | None = None  # where tensorflow-datasets keeps what it built; None: its own default


def tensorflow() -> Any:
    """Import TensorFlow, late and quietly."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    return tf


def open_saved(engine: Engine, name: str, folder: Path, config: PrepareConfig, scratch: Path) -> Source:
    """Open a folder written by tf.data.Dataset.save: elements flat or nested dicts of scalars, compressed or not.

    Raises AmzrecError where it is damaged or its columns are not known.
    """
    elements = elements_of(name, folder)
    dataset = loaded(name, folder)
    paths = leaves(dataset.element_spec)
    opened = open_columns(name, config, Shape("tensorflow", list(paths)), folder)
    columns = opened.columns
    flat = dataset.map(lambda element: {ours: at(element, paths[theirs]) for ours, theirs in columns.items()})
    batches = flat.batch(BATCH).prefetch(4).as_numpy_iterator()
    try:
        file = spool(batches, scratch / "saved.parquet", list(columns))
    except tensorflow().errors.OpError as error:
        raise damaged(name, error) from error
    if elements and (read := pq.read_metadata(file).num_rows) != elements:
        raise damaged(name, f"{read:,} of its {elements:,} elements are there")
    part = Part(file, engine.read_parquet(file), lines=False)
    return dataclasses.replace(opened, format="tensorflow", parts=(part,))


def damaged(name: str, problem: object) -> AmzrecError:
    """Make the error for a saved dataset that cannot be read."""
    first = re.sub(r"^\{\{.*?\}\} | \[Op:.*", "", (str(problem).splitlines() or [""])[0])[:300]
    return AmzrecError(f"{name} was written by tf.data.Dataset.save, but cannot be read: {first}. Save it again")


def elements_of(name: str, folder: Path) -> int:
    """Return how many elements a folder says that it has, 0 where it does not; AmzrecError where it is damaged.

    TensorFlow believes what snapshot.metadata says: a wrong version there crashes the process, and a wrong name of the
    folder of the elements makes the dataset empty.
    """
    tensorflow()
    from tensorflow.core.protobuf.snapshot_pb2 import SnapshotMetadataRecord

    file = folder / METADATA
    try:
        found = SnapshotMetadataRecord.FromString(file.read_bytes())
    except Exception as error:  # what protobuf raises has no class of its own that may be imported
        raise damaged(name, f"{METADATA} is no such file ({error})") from error
    if not found.finalized or found.version not in VERSIONS or found.run_id not in os.listdir(folder):
        raise damaged(name, f"{METADATA} is cut short or damaged, or saving it was stopped")
    if found.version != VERSIONS[-1]:
        check_apart(name, folder)
    return int(found.num_elements)


def check_apart(name: str, folder: Path) -> None:
    """Read an old saved dataset in a process of its own, which TensorFlow may crash; AmzrecError where it does."""
    read = "import sys, tensorflow as tf\nfor _ in tf.data.Dataset.load(sys.argv[1]): pass"
    done = subprocess.run([sys.executable, "-P", "-c", read, str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise damaged(name, (done.stderr.strip().splitlines() or ["TensorFlow crashed"])[-1])


def loaded(name: str, folder: Path) -> Any:
    """Return the tf.data.Dataset of a folder, whatever it was compressed with; AmzrecError where it is damaged."""
    tf = tensorflow()
    problem: Exception | None = None
    for compression in (None, "GZIP", "SNAPPY"):
        try:
            dataset = tf.data.Dataset.load(str(folder), compression=compression)
            next(iter(dataset.take(1)), None)
            return dataset
        except Exception as error:  # also what protobuf raises for a damaged dataset_spec.pb
            problem = problem or error
    raise damaged(name, problem)


def leaves(spec: Any, path: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    """Return the scalars of an element, last name → path of keys, in alphabetical order.

    Of equal names the first counts. TensorFlow keeps no order of its own: it loads a dataset with its keys now in this
    order, now in that.
    """
    if not isinstance(spec, dict):
        return {path[-1]: path} if path and getattr(spec, "shape", None) is not None and spec.shape.rank == 0 else {}
    scalars: dict[str, tuple[str, ...]] = {}
    for key in sorted(spec, key=str):
        for name, keys in leaves(spec[key], (*path, str(key))).items():
            scalars.setdefault(name, keys)
    return scalars


def at(element: Any, path: tuple[str, ...]) -> Any:
    """Return the value at a path of keys."""
    for key in path:
        element = element[key]
    return element


def spool(batches: Iterator[dict[str, Any]], file: Path, names: list[str]) -> Path:
    """Write batches of columns (bytes or numbers) as Parquet; what is not UTF-8 becomes replacement characters."""
    writer: pq.ParquetWriter | None = None
    for batch in batches:
        table = pa.table({name: column(batch[name]) for name in names})
        writer = writer or pq.ParquetWriter(file, table.schema)
        writer.write_table(table)
    if writer is None:
        pq.write_table(pa.table({name: pa.array([], pa.string()) for name in names}), file)
    else:
        writer.close()
    return file


def column(values: np.ndarray[Any, Any]) -> pa.Array:
    """Return one batch of a column as an Arrow array: numbers as they are, bytes as text."""
    if values.dtype != object:
        return pa.array(values)
    try:
        return pa.array(values, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([value.decode("utf-8", "replace") for value in values])


def open_tfds(engine: Engine, name: str, scratch: Path) -> Source:
    """Open `tfds:movielens/100k` and its larger sisters, built or loaded by tensorflow-datasets.

    Raises AmzrecError for other names, and where the data cannot be fetched.
    """
    size = name.removeprefix("tfds:").removeprefix("movielens/").removesuffix("-ratings")
    if not name.startswith("tfds:movielens/") or "/" in size:
        raise AmzrecError(f"{name} is not known: tfds:movielens/100k, 1m, 20m, 25m, latest-small and latest are read")
    tensorflow()
    import tensorflow_datasets as tfds

    try:
        ratings, info = tfds.load(f"movielens/{size}-ratings", split="train", data_dir=TFDS_FOLDER, with_info=True)
        movies = tfds.load(f"movielens/{size}-movies", split="train", data_dir=TFDS_FOLDER)
    except Exception as error:  # tensorflow-datasets raises whatever its downloads and builders raise
        raise AmzrecError(
            f"{name} could not be loaded by tensorflow-datasets ({type(error).__name__}: "
            f"{(str(error).splitlines() or [''])[0][:200]}). "
            "Check the name and the network, or download the MovieLens zip and name it as SOURCE"
        ) from error
    columns = {"customer_id": "user_id", "product_id": "movie_id", "stars": "user_rating", "timestamp": "timestamp"}
    people = [n for n in ("raw_user_age", "user_gender", "user_occupation_text") if n in info.features]
    flat = ratings.map(lambda e: {**{ours: e[theirs] for ours, theirs in columns.items()}, **{n: e[n] for n in people}})
    file = spool(flat.batch(BATCH).prefetch(4).as_numpy_iterator(), scratch / "tfds.parquet", [*columns, *people])
    genre = info.features["movie_genres"].feature if "movie_genres" in info.features else None
    half = size not in ("100k", "1m")
    return Source(
        name=name,
        format="tfds",
        columns=columns,
        parts=(Part(file, engine.read_parquet(file).select(*columns), lines=False),),
        scale=(0.5, 5.0) if half else (1.0, 5.0),
        products=tfds_movies(movies, genre),
        customers=tfds_people(file) if people else {},
    )


def tfds_movies(movies: Any, genre: Any) -> Facts:
    """Return titles, genres and years of the movies dataset."""
    facts: Facts = {}
    for element in movies.as_numpy_iterator():
        genres = [genre.int2str(int(g)) for g in element["movie_genres"]] if genre else []
        facts[element["movie_id"].decode()] = movielens.movie(element["movie_title"].decode("utf-8", "replace"), genres)
    return facts


def tfds_people(file: Path) -> Facts:
    """Return age, gender (True is male, as tensorflow-datasets has it) and occupation, from the spooled ratings."""
    table = pq.read_table(file, columns=["customer_id", "raw_user_age", "user_gender", "user_occupation_text"])
    first = table.group_by("customer_id").aggregate([(n, "min") for n in table.column_names[1:]])
    facts: Facts = {}
    for row in first.to_pylist():
        gender = "M" if row["user_gender_min"] else "F"
        age = f"{row['raw_user_age_min']:g}"
        facts[row["customer_id"]] = None, movielens.person(age, gender, row["user_occupation_text_min"])
    return facts
