"""What reviews need of an object store or a web server: which files there are, and their bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, NamedTuple, Protocol

BLOCK = 8 << 20  # bytes that are read at a time


class Item(NamedTuple):
    """One file."""

    name: str  # where it goes in the folder of the copies, such as rating=5/part-0.parquet
    key: str  # where it lies in the store
    size: int | None
    mark: str | None  # what changes with its content; None: the store does not say
    etag: str | None = None  # of a web server, to go on with a broken download


class Store(Protocol):
    """One address in a store. All methods raise AmzrecError where the store refuses."""

    def items(self) -> list[Item]:
        """List the files that the address stands for; there is at least one."""

    def fetch(self, item: Item, target: BinaryIO, tell: Callable[[int], None]) -> None:
        """Write the bytes of a file to `target`; `tell` hears how many more are there."""
