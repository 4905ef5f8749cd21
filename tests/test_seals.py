"""Damage to stored events never changes an answer in silence: rows have checksums, customers a tally of theirs."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amzrec.commands.doctor import doctor
from amzrec.commands.prepare import prepare
from amzrec.config import PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.reviews.sources.databases import check_events, connected
from amzrec.service.events import LATEST, Event, EventStore, Unavailable
from amzrec.service.sqlite import SQLiteLedger
from amzrec.store.seals import COLUMNS, SEAL, seal
from servers import postgresql

EVENTS = [
    Event(f"c{n % 5}", f"p{n % 7}", None if n % 3 else 1 + n % 5 / 2, 1_700_000_000 + n // 2, "view", f"k{n}")
    for n in range(60)
]
BEFORE = """
CREATE TABLE events (event INTEGER PRIMARY KEY, customer_id TEXT NOT NULL, product_id TEXT NOT NULL, stars REAL,
    timestamp INTEGER NOT NULL, kind TEXT NOT NULL, key TEXT UNIQUE);
CREATE INDEX events_of_customer ON events (customer_id, timestamp, event);
"""


def stored(file: Path, events: list[Event] = EVENTS) -> Path:
    """Store events as the service does."""
    ledger = SQLiteLedger(file)
    assert ledger.append([events]) == [len(events)]
    ledger.close()
    return file


def stored_before(file: Path) -> Path:
    """Store EVENTS as an amzrec of before there were seals did."""
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.executescript(BEFORE)
        database.executemany(
            f"INSERT INTO events ({', '.join(COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?)", map(Event.row, EVENTS)
        )
    return file


def change(file: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        for statement in statements:
            database.execute(statement)


def answers(file: Path) -> dict[str, list[Event]]:
    """All that the service reads."""
    ledger = SQLiteLedger(file)
    try:
        return {f"c{n}": ledger.of(f"c{n}") for n in range(5)}
    finally:
        ledger.close()


def rows(file: Path) -> list[Any]:
    """All that `prepare` reads."""
    database, where = connected(str(file))
    with contextlib.closing(database):
        check_events(database, where)
        query = f"SELECT {', '.join(COLUMNS)} FROM events"
        return [batch.to_pylist() for batch in database.records(query, database.columns(query))]


def test_a_flipped_bit_anywhere_in_the_file_is_told_or_changes_nothing(tmp_path: Path) -> None:
    file = stored(tmp_path / "events.db")
    content, rng = file.read_bytes(), random.Random(3)
    whole, told = {ask: ask(file) for ask in (answers, rows)}, list[str]()
    places = [place for place, byte in enumerate(content) if byte]  # most of a page is empty
    for place in rng.sample(places, 400):
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.randrange(8)
        for ask, right in whole.items():
            for beside in tmp_path.glob("events.db-*"):
                beside.unlink()
            file.write_bytes(damaged)
            try:
                assert ask(file) == right, place
            except (AmzrecError, Unavailable) as error:
                told.append(str(error))
    assert len(told) > 400
    assert not [text for text in told if "\n" in text]


@pytest.mark.parametrize("column", [*COLUMNS, SEAL])
def test_a_changed_value_is_told_with_what_to_do_wherever_it_is_read(tmp_path: Path, column: str) -> None:
    file, value = stored(tmp_path / "events.db"), {"stars": 4.25, "timestamp": 1, SEAL: 7}.get(column, "'c0'")
    change(file, f"UPDATE events SET {column} = {value} WHERE event = 18")
    with pytest.raises(Unavailable, match=r"events.db is damaged: .*Put back a copy of it; amzrec doctor .*events.db"):
        answers(file)
    with pytest.raises(AmzrecError, match=r"1 of its 60 events are not what was stored \(event 18\)\. Put back a copy"):
        rows(file)
    with pytest.raises(AmzrecError, match="event 18"):
        prepare(f"{file}#select customer_id, product_id from events where event < 9", tmp_path / "d")
    (checked,) = [check for check in doctor(file) if not check.ok]
    assert (checked.name, checked.found) == ("events", "1 of its 60 events are not what was stored (event 18)")
    remedy = checked.remedy.partition('"')[2].partition('"')[0]
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.executescript(remedy)  # as doctor says
    assert sum(map(len, answers(file).values())) == 59
    assert all(check.ok for check in doctor(file))


@pytest.mark.parametrize(
    ("found", "statement"),
    [
        ("59 of 60", "INSERT INTO events_tally VALUES ('gone', 1, 9)"),
        ("60 events", "UPDATE events_tally SET total = total + 1 WHERE customer_id = 'c1'"),
    ],
)
def test_an_event_that_is_no_longer_found_is_missed(tmp_path: Path, found: str, statement: str) -> None:
    file = stored(tmp_path / "events.db")
    change(file, *(["DELETE FROM events WHERE event = 60"] if found == "59 of 60" else []), statement)
    with pytest.raises(AmzrecError, match=f"it has {found}"):
        rows(file)
    if found == "60 events":
        with pytest.raises(Unavailable, match="12 events of a customer are found, and others are tallied"):
            answers(file)


def test_events_that_are_deleted_are_tallied_no_more(tmp_path: Path) -> None:
    file = stored(tmp_path / "events.db")
    change(file, "DELETE FROM events WHERE customer_id = 'c1' OR event IN (1, 8)")
    found = answers(file)
    assert not found["c1"]
    assert {event.key for events in found.values() for event in events} == {
        f"k{n}" for n in range(60) if n % 5 != 1 and n not in (0, 7)
    }
    assert len([row for batch in rows(file) for row in batch]) == 46
    with contextlib.closing(sqlite3.connect(file)) as database:
        assert ("c1",) not in database.execute("SELECT customer_id FROM events_tally").fetchall()


def test_of_a_customer_with_many_events_the_latest_are_read(tmp_path: Path) -> None:
    many = [Event("c1", "p1", -0.0 if n % 2 else 4.1, n, "view") for n in range(LATEST + 5)]
    file = stored(tmp_path / "events.db", many)
    assert answers(file)["c1"] == many[5:]
    change(file, f"UPDATE events SET product_id = 'p2' WHERE timestamp = {LATEST}")
    with pytest.raises(Unavailable, match=f"event {LATEST + 1} is not what was stored"):
        answers(file)


def test_a_store_of_before_there_were_checksums_gets_them_and_keeps_its_events(tmp_path: Path) -> None:
    file, fresh = stored_before(tmp_path / "events.db"), stored(tmp_path / "fresh.db")
    assert [check.found for check in doctor(file)][1:] == [
        "are of before there were checksums: amzrec serve gives them theirs"
    ]
    assert len(rows(file)[0]) == 60
    store = EventStore.open(str(file))
    assert store.add([EVENTS[3], Event("c9", "p9", None, 1, "view", "new")]).result(30) == 1
    store.close()
    change(file, "DELETE FROM events WHERE key = 'new'")
    assert answers(file) == answers(fresh)
    with contextlib.closing(sqlite3.connect(file)) as one, contextlib.closing(sqlite3.connect(fresh)) as other:
        for query in (
            "SELECT * FROM events ORDER BY event",
            "SELECT * FROM events_tally ORDER BY 1",
            "SELECT name FROM sqlite_master ORDER BY 1",
            "PRAGMA user_version",
        ):
            assert one.execute(query).fetchall() == other.execute(query).fetchall()
    assert all(check.ok for check in doctor(file))
    with pytest.raises(sqlite3.IntegrityError):  # an amzrec of before, which still runs, cannot store what has no seal
        change(file, "INSERT INTO events (customer_id, product_id, timestamp, kind) VALUES ('c', 'p', 1, 'view')")


def test_a_store_that_cannot_get_checksums_stays_as_it_was(tmp_path: Path) -> None:
    file = stored_before(tmp_path / "events.db")
    change(file, "UPDATE events SET timestamp = 'yesterday' WHERE event = 9")
    with pytest.raises(AmzrecError, match=r"events.db cannot be used: .*amzrec doctor"):
        EventStore.open(str(file))
    with contextlib.closing(sqlite3.connect(file)) as database:
        assert [row[1] for row in database.execute("PRAGMA table_info(events)")][1:] == list(COLUMNS)
        assert database.execute("SELECT count(*) FROM events").fetchone() == (60,)


def test_a_damaged_store_of_before_is_refused(tmp_path: Path) -> None:
    file = stored_before(tmp_path / "events.db")
    content = bytearray(file.read_bytes())
    place = content.index(b"c3", len(content) - 4096)  # of the index
    content[place : place + 2] = b"c4"
    file.write_bytes(content)
    with pytest.raises(AmzrecError, match=r"events.db is damaged: .*index events_of_customer.*Put back a copy"):
        EventStore.open(str(file))


def test_doctor_says_of_a_store_that_cannot_be_read_what_to_type(tmp_path: Path) -> None:
    file = stored(tmp_path / "events.db")
    content = file.read_bytes()
    file.write_bytes(content.replace(b"CREATE TABLE events (", b"CREATE TABLE events {"))
    with pytest.raises(AmzrecError, match=r"events.db cannot be read: .*sqlite3 .*events.db .recover"):
        doctor(file)
    file.unlink()
    index = stored_before(file)  # the last page of which is the index
    content = index.read_bytes()
    place = content.index(b"c3", len(content) - 4096)
    index.write_bytes(content[:place] + b"c4" + content[place + 2 :])
    first = doctor(index)[0]
    assert (first.name, first.ok) == ("file", False)
    assert "put back a copy of it, or: sqlite3" in first.remedy
    with pytest.raises(AmzrecError, match="is no SQLite file of events: name that, or the folder"):
        doctor(Path(__file__))


def test_a_store_of_a_later_amzrec_is_refused(tmp_path: Path) -> None:
    file = stored(tmp_path / "events.db")
    change(file, "PRAGMA user_version = 3")
    with pytest.raises(
        AmzrecError, match=r"has format 3, this amzrec knows those up to 2: pip install --upgrade amzrec"
    ):
        EventStore.open(str(file))


@pytest.mark.parametrize(
    ("same", "other"),
    [
        (("c", "p", 3, 5.0, "view", None), ("c", "p", 3, 5, "view", "None")),
        (("c", "p", -0.0, 5, "view", "k"), ("c", "p", None, 5, "view", "k")),
        (("ä\U0001fae8", "p", 0.1 + 0.2, 5, "view", "k"), ("a\u0308\U0001fae8", "p", 0.1 + 0.2, 5, "view", "k")),
    ],
)
def test_a_seal_depends_on_values_alone(same: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    stars = None if same[2] is None else float(same[2]) + 0.0
    assert seal(same) == seal((*same[:2], stars, int(same[3]), *same[4:])) != seal(other)


def test_the_seal_of_a_row_is_the_one_that_is_stored_in_files() -> None:
    # crc32(b"('c1', 'p2', 4.5, 1700000000, 'view', 'k\\xe4')"): files of before are read by it
    assert seal(("c1", "p2", 4.5, 1_700_000_000, "view", "k\xe4")) == 3217215622


# --- in PostgreSQL


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.mark.slow
def test_a_table_of_postgresql_gets_checksums_and_is_checked_where_it_is_read(server: str, tmp_path: Path) -> None:
    from adbc_driver_postgresql import dbapi

    def told(*statements: str) -> None:
        with dbapi.connect(server) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            connection.commit()

    values = ", ".join(
        f"('c{n % 5}', 'p{n % 7}', {n / 7 if n % 3 == 0 else 'NULL'}, {n}, 'view', 'k{n}')" for n in range(60)
    )
    told(
        "DROP TABLE IF EXISTS events",
        "CREATE TABLE events (event bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer_id text NOT NULL, "
        "product_id text NOT NULL, stars double precision, timestamp bigint NOT NULL, kind text NOT NULL, "
        "key text UNIQUE)",
        f"INSERT INTO events (customer_id, product_id, stars, timestamp, kind, key) VALUES {values}",
    )

    def ask() -> int:
        return prepare(server, tmp_path / "d", PrepareConfig(test=0.2), overwrite=True).info.counts.read

    assert ask() == 60
    store = EventStore.open(server)
    assert (
        store.add([Event("c0", "p9", 1 / 3, 99, "view", "new"), Event("c0", "p9", 1, 9, "view", "k0")]).result(30) == 1
    )
    assert [event.stars for event in store.of("c0")][-2:] == [None, 1 / 3]
    assert ask() == 61
    told("UPDATE events SET stars = 2 WHERE key = 'k15'")
    with pytest.raises(Unavailable, match=r"event 16 is not what was stored.*DELETE FROM events WHERE event = 16"):
        store.of("c0")
    with pytest.raises(AmzrecError, match=r"1 of its 61 events are not what was stored \(event 16\)"):
        ask()
    told("DELETE FROM events WHERE event = 16")
    assert len(store.of("c0")) == 12
    store.close()
