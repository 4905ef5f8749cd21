"""One part of the recommendations for everyone, as a task of a cluster writes it, on any machine of the cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import socket
import zlib
from pathlib import Path
from typing import Any

from amzrec.answers.everyone import Everyone
from amzrec.answers.files import writer
from amzrec.answers.lists import Wanted
from amzrec.answers.recommender import Recommender
from amzrec.errors import AmzrecError
from amzrec.store.vectors import INDEX, VECTORS, Vectors, read_vectors


@dataclasses.dataclass(frozen=True)
class Work:
    """What every task needs to know."""

    run: Path  # the run folder as all machines see it; only its name where the vectors were sent
    sent: str | None  # the name under which Spark has unpacked them on each machine
    checksum: int  # of vectors.json, so that nobody answers from another run
    out: Path  # the folder to write into, as all machines see it
    wanted: Wanted

    def vectors(self) -> Vectors:
        """Open the vectors, memory-mapped, on the machine of a task."""
        folder = unpacked(self.sent) if self.sent else self.run
        try:
            same = checksum_of(folder) == self.checksum
        except OSError as error:
            raise AmzrecError(
                f"{socket.gethostname()} cannot read {folder / VECTORS} ({error.strerror or error}): put the run where "
                "every machine sees it under the same path, or add --vectors sent"
            ) from error
        if not same:
            raise AmzrecError(
                f"{socket.gethostname()} sees another run at {folder} than the machine that started the work: put the "
                "run where every machine sees it under the same path, or add --vectors sent"
            )
        return read_vectors(folder)


def unpacked(name: str) -> Path:
    """Return the folder in which Spark has unpacked an archive on the machine of a task."""
    from pyspark import SparkFiles

    return Path(SparkFiles.get(name))


@dataclasses.dataclass(frozen=True)
class Part:
    """The customers of one task, and the name of its file."""

    name: str
    starts: range  # the customer rows at which its blocks begin


def write_part(work: Work, done: Any, part: Part) -> int:
    """Write the file of a part, on the machine of a task, and count its rows; `done` adds up customers."""
    everyone, rows = Everyone(Recommender(work.vectors()), work.wanted, part.starts.step), 0
    own = work.out / f".{secrets.token_hex(4)}.{part.name}"  # Spark may start a task twice
    try:
        with writer(own, everyone.model) as write:
            for start in part.starts:
                block = everyone.block(start)
                write(block)
                rows += len(block.rank)
                done.add(everyone.end(start) - start)
        own.replace(work.out / part.name)
    except OSError as error:
        raise AmzrecError(
            f"{socket.gethostname()} cannot write {work.out.parent} ({error.strerror or error}): --out must stand "
            "where every machine sees it under the same path, and may write"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            own.unlink()
    return rows


def checksum_of(run: Path) -> int:
    """Compute the CRC-32 of a run's vectors.json, which has those of all its arrays."""
    return zlib.crc32((run / VECTORS / INDEX).read_bytes())
