"""What a run keeps to be trained on: each trained table with the slots of its optimizer, each a file of `weights/`."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from amzrec.arrays import Array, Bools, Floats, Ints, Lists, Rows
from amzrec.errors import AmzrecError
from amzrec.store.documents import Document
from amzrec.store.strings import Strings
from amzrec.store.vectors import StoredArray, read_array

WEIGHTS = "weights"
INDEX = "weights.json"
SIDES = ("customers", "products")
TINY = np.finfo(np.float32).tiny

Slots = dict[str, Floats]  # of an optimizer, by name: [rows, width] beside a table of so many rows


@dataclasses.dataclass(frozen=True)
class Table:
    """A trained variable, whose rows mostly stand for customers, products or attributes, and the slots beside it."""

    weight: Floats  # [rows, …] as the last step left it, not averaged
    slots: Slots


@dataclasses.dataclass(frozen=True)
class Trained:
    """What the rows of tables stand for, and what they were trained on."""

    rows: Mapping[str, Rows]  # by side, [V] the run's rows of those with a vector of their own; the first is 0
    attributes: Mapping[str, Strings]  # by side, the names of the attributes by row of their table
    seen: Lists  # [C + 1] product rows of the reviews of each customer that were fitted, ascending


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsIndex(Document):
    """weights.json: what stands in `weights/`."""

    files: dict[str, StoredArray]
    slots: tuple[str, ...]  # names of the slots of the optimizer
    steps: int  # that the optimizer has done
    epochs: int  # that the training from scratch at the beginning of the ancestry took, in both phases


class Weights:
    """The weights of a run, opened: tables are read when they are asked for."""

    def __init__(self, folder: Path, index: WeightsIndex) -> None:
        self.folder, self.index = folder, index

    def array(self, name: str) -> Array:
        """Open one array memory-mapped; raises AmzrecError where it is missing or another than weights.json says."""
        try:
            return read_array(self.folder / f"{name}.npy", self.index.files[name], verify=False)
        except (OSError, ValueError, KeyError) as error:
            raise AmzrecError(
                f"the weights of the run {self.folder.parent} are damaged ({error}): start from another run, or train "
                "from scratch, without --from"
            ) from error

    def strings(self, name: str) -> Strings:
        """Open strings."""
        return Strings(*(self.array(f"{name}_{part}") for part in ("blob", "offsets", "order")))

    def __contains__(self, name: str) -> bool:
        return name in self.index.files

    def table(self, name: str) -> Table:
        """Read a table and its slots."""
        slots = {slot: widened(self.array(f"{name}.{slot}"), self.array(f"{name}.{slot}.scale")) for slot in self.slots}
        return Table(self.array(name), slots)

    @property
    def slots(self) -> tuple[str, ...]:
        """Return the names of the slots of the optimizer."""
        return self.index.slots

    @cached_property
    def trained(self) -> Trained:
        """What the rows of tables stand for."""
        return Trained(
            {side: self.array(f"{side}_rows") for side in SIDES},
            {side: self.strings(f"{side}_attributes") for side in SIDES},
            Lists(self.array("seen_offsets"), self.array("seen_product")),
        )

    def saw(self, customer: Ints, product: Ints) -> Bools:
        """Tell which reviews [n], given by rows of the run, were fitted; −1 is nobody's row and nothing's."""
        seen = self.trained.seen
        size = int(max(product.max(initial=0), seen.items.max(initial=0))) + 1
        keys = seen.owners * size + seen.items  # ascending
        wanted = np.where((customer > 0) & (product > 0), customer * size + product, -1)
        place = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        found: Bools = keys[place] == wanted if len(keys) else np.zeros(len(wanted), np.bool_)
        return found


def write_weights(run: Path, tables: Iterable[tuple[str, Table]], trained: Trained, steps: int, epochs: int) -> None:
    """Write `weights/` into a run folder under construction.

    Weights stay as they are, in single precision. A row of a slot is kept in half precision, divided by its largest
    number, which is kept beside it.
    """
    folder, files, slots = run / WEIGHTS, dict[str, StoredArray](), tuple[str, ...]()
    folder.mkdir()

    def keep(name: str, array: Array) -> None:
        array = np.asarray(array, order="C")
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
        files[name] = StoredArray(array.shape, str(array.dtype), zlib.crc32(array.data))

    for name, table in tables:
        keep(name, table.weight)
        slots = tuple(table.slots)
        for slot in slots:
            half, scale = narrowed(table.slots[slot])
            keep(f"{name}.{slot}", half)
            keep(f"{name}.{slot}.scale", scale)
    for side in SIDES:
        keep(f"{side}_rows", trained.rows[side])
        for part in ("blob", "offsets", "order"):
            keep(f"{side}_attributes_{part}", getattr(trained.attributes[side], part))
    keep("seen_offsets", trained.seen.offsets)
    keep("seen_product", trained.seen.items)
    WeightsIndex(files=files, slots=slots, steps=steps, epochs=epochs).write(folder / INDEX)


def open_weights(run: Path) -> Weights:
    """Open the weights of a run; raises AmzrecError, with what to type, where it keeps none."""
    folder = run / WEIGHTS
    if not (folder / INDEX).is_file():
        raise AmzrecError(
            f"run {run} keeps no weights to train on (there is no {folder / INDEX}): it is of an amzrec that kept "
            f"none, or they were removed. Train it anew once: amzrec train SOURCE --recipe {run} --run NEW"
        )
    return Weights(folder, WeightsIndex.read(folder / INDEX, "train from scratch, without --from"))


def narrowed(table: Floats) -> tuple[Array, Floats]:
    """Return rows [n, width] in half precision, each divided by its largest number, and these numbers [n]."""
    scale = np.abs(table).max(axis=1, initial=0).astype(np.float32)
    return (table / np.maximum(scale, TINY)[:, None]).astype(np.float16), scale


def widened(half: Array, scale: Floats) -> Floats:
    """Return the rows that `narrowed` was given, to 11 bits."""
    table: Floats = half.astype(np.float32) * scale[:, None]
    return table
