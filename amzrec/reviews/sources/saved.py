"""Datasets of TensorFlow: folders written by tf.data.Dataset.save, and tfds: names of tensorflow-datasets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews.sources import amazon, movielens, tables
from amzrec.reviews.sources.relation import Facts, Part, Source

BATCH = 4096
TFDS_FOLDER: str | None = None  # where tensorflow-datasets keeps what it built; None: its own default


def tensorflow() -> Any:
    """TensorFlow, imported now and quietly."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    return tf


def open_saved(con: Any, name: str, folder: Path, config: PrepareConfig, scratch: Path) -> Source:
    """A folder written by tf.data.Dataset.save: elements flat or nested dicts of scalars, compressed or not.

    Raises AmzrecError where it is damaged or its columns are not known.
    """
    tf = tensorflow()
    problem: Exception | None = None
    for compression in (None, "GZIP", "SNAPPY"):
        try:
            dataset = tf.data.Dataset.load(str(folder), compression=compression)
            names = leaves(dataset.element_spec)
            next(iter(dataset.take(1)), None)
            break
        except (tf.errors.OpError, ValueError, OSError) as error:
            problem = problem or error
    else:
        raise AmzrecError(
            f"{name} was written by tf.data.Dataset.save, but cannot be read: {str(problem).splitlines()[0]}. "
            "Save it again"
        )
    found = tables.Shape("tensorflow", list(names))
    scale, clicks, layout = None, True, amazon.layout(found.names)
    if config.columns:
        columns = tables.named_columns(config.columns, found, folder)
    elif layout:
        columns, scale, clicks = amazon.columns_of(layout, found.names, folder), amazon.STARS, False
    else:
        columns = tables.guessed_columns(found.names)
    if "customer_id" not in columns or "product_id" not in columns:
        raise AmzrecError(
            f"{name} is a saved dataset with the columns {', '.join(names) or '(none)'}: say which is which, such as "
            f"--columns {tables.example(found)}"
        )
    flat = dataset.map(lambda element: {ours: at(element, names[theirs]) for ours, theirs in columns.items()})
    file = spool(flat.batch(BATCH).prefetch(4).as_numpy_iterator(), scratch / "saved.parquet", list(columns))
    return Source(name, "tensorflow", columns, (Part(file, con.read_parquet(str(file)), lines=False),), scale, clicks)


def leaves(spec: Any, path: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    """The scalars of an element, last name → path of keys, in alphabetical order; the first of equal names counts.

    TensorFlow keeps no order of its own: it loads the same dataset with its keys now in this order, now in that.
    """
    if not isinstance(spec, dict):
        return {path[-1]: path} if path and getattr(spec, "shape", None) is not None and spec.shape.rank == 0 else {}
    found: dict[str, tuple[str, ...]] = {}
    for key in sorted(spec, key=str):
        for name, place in leaves(spec[key], (*path, str(key))).items():
            found.setdefault(name, place)
    return found


def at(element: Any, path: tuple[str, ...]) -> Any:
    """The value at a path of keys."""
    for key in path:
        element = element[key]
    return element


def spool(batches: Iterator[dict[str, Any]], file: Path, names: list[str]) -> Path:
    """Batches of columns (bytes or numbers) as a Parquet file; text that is not UTF-8 gets replacement characters."""
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
    """One batch of a column: numbers as they are, bytes as text."""
    if values.dtype != object:
        return pa.array(values)
    try:
        return pa.array(values, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([value.decode("utf-8", "replace") for value in values])


def open_tfds(con: Any, name: str, scratch: Path) -> Source:
    """`tfds:movielens/100k` and its larger sisters, built or loaded by tensorflow-datasets.

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
        parts=(Part(file, con.read_parquet(str(file)).select(*columns), lines=False),),
        scale=(0.5, 5.0) if half else (1.0, 5.0),
        products=tfds_movies(movies, genre),
        customers=tfds_people(file) if people else {},
    )


def tfds_movies(movies: Any, genre: Any) -> Facts:
    """Titles, genres and years of the movies dataset."""
    facts: Facts = {}
    for element in movies.as_numpy_iterator():
        genres = [genre.int2str(int(g)) for g in element["movie_genres"]] if genre else []
        facts[element["movie_id"].decode()] = movielens.movie(element["movie_title"].decode("utf-8", "replace"), genres)
    return facts


def tfds_people(file: Path) -> Facts:
    """Age, gender (True is male, as tensorflow-datasets has it) and occupation, from the spooled ratings."""
    table = pq.read_table(file, columns=["customer_id", "raw_user_age", "user_gender", "user_occupation_text"])
    first = table.group_by("customer_id").aggregate([(n, "min") for n in table.column_names[1:]])
    facts: Facts = {}
    for row in first.to_pylist():
        gender = "M" if row["user_gender_min"] else "F"
        age = f"{row['raw_user_age_min']:g}"
        facts[row["customer_id"]] = None, movielens.person(age, gender, row["user_occupation_text_min"])
    return facts
