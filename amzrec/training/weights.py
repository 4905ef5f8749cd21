"""The tables of a model in training, by name: taken at the best epoch of each task, put together, and written."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amzrec.arrays import Array, Floats, Lists, Rows, offsets_of
from amzrec.config import Recipe
from amzrec.features.attributes import attribute_names
from amzrec.features.fitted import vector_rows
from amzrec.model.encoders import OrderEncoder
from amzrec.model.multitask import MultitaskModel
from amzrec.model.towers import HistoryTower
from amzrec.store.dataset import Dataset, Reviews
from amzrec.store.strings import Strings
from amzrec.store.weights import SIDES, Table, Trained
from amzrec.training.learner import Learner

RATING, RETRIEVAL, BOTH = "rating", "retrieval", "both"
STEPS = "steps"
OWN, ALL, ATTRIBUTES = "own", "all", "attributes"  # what the rows of a table stand for


class Part(NamedTuple):
    """A trained variable of a model."""

    name: str
    variable: Any
    task: str  # which task it belongs to; of BOTH, columns do
    rows: str = ""  # those of a side with a vector of their OWN, ALL of a side, its ATTRIBUTES; empty: they never grow
    side: str = ""  # customers or products


def parts_of(model: MultitaskModel) -> list[Part]:
    """List the trained variables of a model, each once; a variable has the same name in every training."""
    encoder, found = model.encoder, list[Part]()
    for side, tower in zip(SIDES, (encoder.query_tower, encoder.candidate_tower), strict=True):
        found.append(Part(f"{side}_embedding", tower.embedding, BOTH, OWN, side))
        if isinstance(tower, HistoryTower):
            found += [Part(f"{side}_{name}", getattr(tower, name), BOTH, OWN, side) for name in ("bag", "residual")]
            found.append(Part(f"{side}_offset", tower.offset, RATING, OWN, side))
            found.append(Part(f"{side}_attribute", tower.attribute, BOTH, ATTRIBUTES, side))
            found.append(Part(f"{side}_attribute_offset", tower.attribute_offset, RATING, ATTRIBUTES, side))
    found.append(Part("popularity", model.retrieval.popularity, RETRIEVAL, ALL, "products"))
    found.append(Part("log_temperature", model.retrieval.log_temperature, RETRIEVAL))
    if isinstance(encoder, OrderEncoder):
        order = encoder.order
        found += [Part(name, getattr(order, name), RETRIEVAL, ALL, "products") for name in ("read", "asked")]
        found.append(Part("log_weight", order.log_weight, RETRIEVAL))
    found += [Part(f"head_{n}", v, RATING) for n, v in enumerate(model.rating_head.trainable_variables)]
    trained = {id(variable) for variable in model.trainable_variables}
    return [part for part in found if id(part.variable) in trained]


def save_tables(learner: Learner, file: Path) -> None:
    """Write all tables and slots, one after the other, and the number of steps of the optimizer, for `merged`."""
    with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        for name, array in arrays_of(learner):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)


def arrays_of(learner: Learner) -> Iterator[tuple[str, Array]]:
    """Yield the arrays of `save_tables`."""
    yield STEPS, learner.optimizer.iterations.numpy()
    for part in parts_of(learner.model):
        yield part.name, part.variable.numpy()
        for slot, values in learner.optimizer.slots(part.variable):
            yield f"{part.name}.{slot}", values


def merged(files: Mapping[str, Path], best: Mapping[str, int], recipe: Recipe) -> Iterator[tuple[str, Table]]:
    """Put the tables of the best epochs of both tasks together, each from the file that `save_tables` wrote of a task.

    A task has its own tables, and its own columns of those that both read; the columns that both read are those of the
    epoch that came first, since whoever goes on from here trains them further.
    """
    first, *later = sorted(files, key=lambda task: best.get(task, 0))
    with np.load(files[first], allow_pickle=False) as early:
        if not later or best.get(later[0]) == best.get(first):
            yield from ((name, tables_in(early, name)) for name in names_in(early))
            return
        with np.load(files[later[0]], allow_pickle=False) as late:
            for name in names_in(early):
                table, task = tables_in(early, name), task_of(name)
                if task == later[0]:
                    table = tables_in(late, name)
                elif task == BOTH:
                    own = slice(recipe.rating_start) if later[0] == RETRIEVAL else slice(recipe.retrieval_dims, None)
                    other = tables_in(late, name)
                    table.weight[:, own] = other.weight[:, own]
                    for slot, values in table.slots.items():
                        values[:, own] = other.slots[slot][:, own]
                yield name, table


def names_in(arrays: Any) -> list[str]:
    """Return the names of the tables in a file of `save_tables`."""
    return [name for name in arrays.files if "." not in name and name != STEPS]


def tables_in(arrays: Any, name: str) -> Table:
    """Read a table of a file of `save_tables`."""
    slots = {key.partition(".")[2]: arrays[key] for key in arrays.files if key.startswith(f"{name}.")}
    return Table(arrays[name], slots)


def task_of(name: str) -> str:
    """Tell by its name which task a table belongs to, as `parts_of` says."""
    if name.endswith(("_embedding", "_bag", "_residual", "_attribute")):
        return BOTH
    return RATING if name.endswith("_offset") or name.startswith("head_") else RETRIEVAL


def steps_in(file: Path) -> int:
    """Return the number of steps that the optimizer had done when a file of `save_tables` was written."""
    with np.load(file, allow_pickle=False) as arrays:
        return int(arrays[STEPS])


def trained_on(dataset: Dataset, fitted: Reviews, recipe: Recipe) -> Trained:
    """Return what the rows of tables stand for, after a training on these reviews of a dataset."""
    tables, rows = (dataset.customers, dataset.products), (fitted.customer, fitted.product)
    counts = [np.bincount(of, minlength=table.num_rows) for of, table in zip(rows, tables, strict=True)]
    return Trained(
        {side: owners(vector_rows(count, recipe.own_vector)) for side, count in zip(SIDES, counts, strict=True)},
        {side: Strings.of(attribute_names(table)) for side, table in zip(SIDES, tables, strict=True)},
        Lists(offsets_of(counts[0]), fitted.product[np.lexsort((fitted.product, fitted.customer))].astype(np.int32)),
    )


def owners(vector_row: Rows) -> Rows:
    """Return whose the rows of the trained tables are, [V]: first 0, the unknown one, then those with a row [R + 1]."""
    return np.concatenate([np.zeros(1, np.int32), np.flatnonzero(vector_row).astype(np.int32)])


def flat(table: Floats) -> Floats:
    """Return a table of any shape as rows [n, width]; a vector has rows of one number."""
    return table.reshape(len(table), -1) if table.ndim else table.reshape(1, 1)
