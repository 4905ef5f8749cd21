"""Many strings in three flat arrays: read by row and found by value without loading them all."""

from __future__ import annotations

import numpy as np

from amzrec.arrays import Array, Ints, Lists, Rows, offsets_of


class Strings:
    """Hold n strings as UTF-8 bytes, where each begins, and the rows in sorted order; all three may be mapped files."""

    def __init__(self, blob: Array, offsets: Ints, order: Rows) -> None:
        self.blob = blob  # uint8
        self.offsets = offsets  # [n + 1]
        self.order = order  # [n] rows by ascending bytes

    @classmethod
    def of(cls, values: list[str]) -> Strings:
        """Encode the values; the row of a string is its position among them."""
        data = [value.encode() for value in values]
        order = np.array(sorted(range(len(data)), key=data.__getitem__), np.int32)
        return cls(np.frombuffer(b"".join(data), np.uint8), offsets_of(np.array([len(d) for d in data], int)), order)

    def __len__(self) -> int:
        return len(self.order)

    def raw(self, row: int) -> bytes:
        """Return the bytes of the string in this row."""
        return self.blob[self.offsets[row] : self.offsets[row + 1]].tobytes()

    def __getitem__(self, row: int) -> str:
        return self.raw(int(row)).decode()

    def place(self, value: str) -> int:
        """Return where `value` stands, or would stand, in the sorted order; about log2(n) strings are read."""
        key, low, high = value.encode(), 0, len(self.order)
        while low < high:
            middle = (low + high) // 2
            if self.raw(self.order[middle]) < key:
                low = middle + 1
            else:
                high = middle
        return low

    def find(self, value: str) -> int | None:
        """Return the first row that holds exactly this string, or None."""
        place = self.place(value)
        if place == len(self.order) or self.raw(self.order[place]) != value.encode():
            return None
        return int(self.order[place])


def feature_lists(features: list[list[str]]) -> tuple[Strings, Lists] | None:
    """Number the distinct features of the product rows [N + 1], and list those numbers for each; None without any."""
    number: dict[str, int] = {}
    items = [number.setdefault(feature, len(number)) for listed in features for feature in listed]
    if not items:
        return None
    offsets = offsets_of(np.array([len(listed) for listed in features]))
    return Strings.of(list(number)), Lists(offsets, np.array(items, np.int32))
