"""What customers do, kept durably before it is answered: one queue before a ledger, which is a database."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from amzrec.errors import AmzrecError
from amzrec.store.seals import COLUMNS, SEAL

TOGETHER = 10_000  # most events that one commit makes durable
LATEST = 1000  # events of one customer that its answers read
BACKLOG = 1000  # requests that may wait to be stored


@dataclasses.dataclass(frozen=True)
class Event:
    """What a customer did with a product."""

    customer_id: str
    product_id: str
    stars: float | None
    timestamp: int  # unix seconds
    kind: str
    key: str | None = None  # an event of a key that is stored already is not stored again

    def row(self) -> tuple[str, str, float | None, int, str, str | None]:
        """Return what is stored of it, in the order of COLUMNS."""
        return self.customer_id, self.product_id, self.stars, self.timestamp, self.kind, self.key


class Unavailable(Exception):
    """Events cannot be stored, or read, for now."""


class Ledger(Protocol):
    """A database of events, which any number of processes may share, and which `prepare` reads as a source."""

    near: bool  # whether the events of a customer are read in a moment, from a file of this machine

    def append(self, together: Sequence[Sequence[Event]]) -> list[int]:
        """Store the events of several requests in one durable commit, and count the new ones of each.

        Any exception means that none was stored; the next call may work. One thread calls this.
        """
        ...

    def of(self, customer_id: str) -> list[Event]:
        """Return the LATEST events of a customer by time, the latest last; Unavailable where they cannot be read."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...


Waiting = tuple[Sequence[Event], "Future[int]"]


class EventStore:
    """The queue before a ledger.

    One thread writes: all events that wait while a commit is made durable go into the next one, so that many at once
    cost little more than one.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.waiting: queue.Queue[Waiting | None] = queue.Queue(BACKLOG)
        self.thread = threading.Thread(target=self._write, name="events", daemon=True)
        self.thread.start()

    @classmethod
    def open(cls, place: str) -> EventStore:
        """Open an SQLite file, or a database of PostgreSQL; AmzrecError where that cannot be."""
        if place.startswith(("postgresql:", "postgres:")):
            from amzrec.service.postgresql import PostgresLedger

            return cls(PostgresLedger(place))
        from amzrec.service.sqlite import SQLiteLedger

        return cls(SQLiteLedger(place.removeprefix("sqlite:///")))

    def add(self, events: Sequence[Event]) -> Future[int]:
        """Store events; the future has the number of new ones as soon as all are durable. All are stored, or none.

        Raises Unavailable where too many wait already; the future does where they could not be stored.
        """
        stored: Future[int] = Future()
        try:
            self.waiting.put_nowait((events, stored))
        except queue.Full:
            raise Unavailable("too many events wait to be stored: try again") from None
        return stored

    def of(self, customer_id: str) -> list[Event]:
        """See Ledger.of."""
        return self.ledger.of(customer_id)

    def close(self) -> None:
        """Store what waits, and end."""
        self.waiting.put(None)
        self.thread.join()
        self.ledger.close()

    def _write(self) -> None:
        """Store what comes, until the end."""
        more = True
        while more:
            together = [self.waiting.get()]
            with contextlib.suppress(queue.Empty):
                while sum(len(one[0]) for one in together if one) < TOGETHER:
                    together.append(self.waiting.get_nowait())
            more = None not in together
            self._commit([one for one in together if one is not None])

    def _commit(self, together: Sequence[Waiting]) -> None:
        """Store the events of several requests at once, and tell each of them."""
        try:
            counts = self.ledger.append([events for events, _ in together])
        except Exception as error:  # whatever it is, nobody may wait for ever, and the thread must go on
            if len(together) == 1:
                together[0][1].set_exception(Unavailable(f"the events could not be stored: {error}"))
                return
            for one in together:  # it may be the fault of one
                self._commit([one])
            return
        for (_, stored), count in zip(together, counts, strict=True):
            stored.set_result(count)


def check_table(place: str, tables: Sequence[str], columns: Sequence[str]) -> None:
    """Raise AmzrecError where the table of events has other columns than ours, or ours before there were seals.

    `columns` is empty without a table.
    """
    if columns and list(columns[1:]) not in ([*COLUMNS, SEAL], [*COLUMNS]):
        raise AmzrecError(
            f"--events {place} is a database of something else, with the tables {', '.join(tables)}: name another one"
        )
