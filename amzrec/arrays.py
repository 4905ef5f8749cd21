"""Short names for the types of numpy arrays, and lists of unequal length stored in two flat arrays."""

from __future__ import annotations

import dataclasses
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int32]  # integer positions of customers or products

FEW_PAIRS = 4096  # that are compared one by one, which a search is faster than from some 10,000 on


@dataclasses.dataclass(frozen=True)
class Lists:
    """One list for each of G owners, all in one flat array: owner g has items[offsets[g] : offsets[g + 1]].

    This layout is also known as compressed sparse rows (CSR).
    """

    offsets: Ints  # [G + 1] where each list begins in `items`, ascending from 0; the last one is S
    items: Array  # [S] the lists one after the other

    @classmethod
    def of(cls, owner: Array, items: Array, owners: int) -> Lists:
        """Build from aligned pairs (owner [S], item [S]) in any order; within a list the order of the pairs is kept.

        `owners` is G, the number of lists.
        """
        order = np.argsort(owner, kind="stable")
        return cls(offsets_of(np.bincount(owner, minlength=owners)), items[order])

    @classmethod
    def join(cls, lists: Sequence[Array]) -> Lists:
        """Build from one array per owner."""
        items = np.concatenate([*lists, np.zeros(0, np.int32)])
        return cls(offsets_of(np.array([len(one) for one in lists], np.int64)), items.astype(np.int32))

    @classmethod
    def empty(cls, owners: int) -> Lists:
        """Build G empty lists, one for each of so many `owners`."""
        return cls(np.zeros(owners + 1, np.int64), np.zeros(0, np.int32))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, owner: int) -> Array:
        return self.items[self.offsets[owner] : self.offsets[owner + 1]]

    @property
    def lengths(self) -> Ints:
        """Return how many items each list has, [G]."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> Ints:
        """Return the list that each item belongs to, [S]."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def span(self, owner: int) -> slice:
        """Return the slice of `items` that is the list of an owner; it also cuts arrays that are aligned to `items`."""
        return slice(int(self.offsets[owner]), int(self.offsets[owner + 1]))

    def slots(self, owners: Array) -> Ints:
        """Where the lists of these owners [n] stand in `items`, one list after the other."""
        return ranges(self.offsets[owners], self.offsets[owners + 1])

    def take(self, owners: Array) -> Lists:
        """Return the lists of these owners [n], in that order; an owner may be named twice."""
        lengths = self.offsets[owners + 1] - self.offsets[owners]
        return Lists(offsets_of(lengths), self.items[self.slots(owners)])

    def pairs(self) -> tuple[Ints, Array]:
        """Return all items as aligned pairs: owner [S] and item [S]."""
        return self.owners, self.items


def offsets_of(lengths: Array) -> Ints:
    """Return where lists of these lengths [G] begin and end in one flat array: [G + 1], ascending from 0."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def ranges(begin: Ints, end: Ints) -> Ints:
    """Return the positions of all ranges from begin[i] until before end[i]: ranges([2, 7], [4, 8]) is [2, 3, 7]."""
    length = end - begin
    start = np.cumsum(length) - length
    return np.repeat(begin - start, length) + np.arange(length.sum())


def give_back(part: Array) -> None:
    """Let go of the memory of an array that is mapped from a file, or a part of one; it is read again when needed."""
    mapped = getattr(part, "_mmap", None)
    if mapped is None or not hasattr(mmap, "MADV_DONTNEED") or not part.flags.c_contiguous:
        return
    first = part.__array_interface__["data"][0] - np.frombuffer(mapped, np.uint8).__array_interface__["data"][0]
    begin, end = first + -first % mmap.PAGESIZE, (first + part.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > begin:
        mapped.madvise(mmap.MADV_DONTNEED, begin, end - begin)


def compact(values: Array) -> Array:
    """Return values [n] that are all equal as one number that is read n times, and others as they are."""
    if not len(values) or (values != values[0]).any():
        return values
    return np.broadcast_to(values[:1].copy(), values.shape)


def positions(number: int) -> type[np.integer[Any]]:
    """Return the smallest type of integers that tells so many places apart, and −1 from all of them."""
    return np.int32 if number <= np.iinfo(np.int32).max else np.int64


def among(values: Array, wanted: Array) -> Bools:
    """Tell which values [n] are among the wanted ones [m]; np.isin takes 40 µs for one of each, a 50th of an answer."""
    if len(values) * len(wanted) > FEW_PAIRS:
        return np.isin(values, wanted)
    found: Bools = (wanted[:, None] == values).any(axis=0)  # [m, n]
    return found
