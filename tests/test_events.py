"""What customers do is on the disk before it is answered, changes their next answer, and is a source of reviews."""

from __future__ import annotations

import dataclasses
import http.client
import itertools
import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from starlette.testclient import TestClient

from amzrec.answers.recommender import Recommender
from amzrec.commands.prepare import prepare
from amzrec.commands.recommend import recommend
from amzrec.config import PrepareConfig, ServeConfig
from amzrec.errors import AmzrecError
from amzrec.service.events import Event, EventStore
from amzrec.store.dataset import open_dataset
from amzrec.store.run import Run
from runs import parity_vectors, random_vectors, write_run
from servers import PASSWORD, postgresql
from services import served, started


@pytest.fixture(scope="module")
def parity(checkerboard: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    dataset = open_dataset(checkerboard)
    return write_run(tmp_path_factory.mktemp("parity") / "run", dataset, parity_vectors(dataset))


@pytest.fixture
def client(parity: Run, tmp_path: Path) -> Iterator[TestClient]:
    with served(parity.path, ServeConfig(events=str(tmp_path / "events.db"))) as client:
        yield client


def event(product: str, customer: str = "new", **more: Any) -> dict[str, Any]:
    return {"customer_id": customer, "product_id": product} | more


def best(client: TestClient, customer: str = "new", k: int = 3, **more: Any) -> list[str]:
    response = client.post("/recommend", json={"customer_id": customer, "k": k} | more)
    assert response.status_code == 200, response.text
    return [entry["product_id"] for entry in response.json()["recommendations"]]


def test_the_next_answer_to_a_new_customer_heeds_the_event_and_hides_its_product(client: TestClient) -> None:
    assert best(client) == ["p00", "p01", "p02"]
    assert client.post("/events", json=event("p03", kind="purchase")).json() == {"stored": 1, "known": 0}
    assert best(client) == ["p01", "p05", "p07"]
    assert client.get("/recommend/new").json()["answered_from"] == "events"
    assert "p03" in best(client, k=20, include_seen=True)
    assert client.get("/customers/new").json()["events"][0]["title"] == "Product 3"


def test_events_with_stars_answer_as_liked_products_with_stars_do(checkerboard: Path, tmp_path: Path) -> None:
    dataset = open_dataset(checkerboard)
    run = write_run(tmp_path / "run", dataset, random_vectors(dataset, np.random.default_rng(2)))
    with served(run.path, ServeConfig(events=str(tmp_path / "events.db"))) as client:
        client.post("/events", json=[event("p04", time=20, stars=1), event("p02", time=10, stars=5)])
        liked = [{"product_id": "p02", "stars": 5}, {"product_id": "p04", "stars": 1}]
        wanted = client.post("/recommend", json={"customer_id": "other", "liked": liked}).json()
        assert client.get("/recommend/new").json()["recommendations"] == wanted["recommendations"]
        assert wanted["recommendations"] != recommend("other", run, liked=["p02", "p04"])["recommendations"]


def test_a_known_customer_keeps_the_history_of_the_run(client: TestClient, parity: Run) -> None:
    before = best(client, "u03", k=20)
    client.post("/events", json=event("p00", "u03"))
    assert before == [entry["product_id"] for entry in recommend("u03", parity, k=20)["recommendations"]]
    assert best(client, "u03", k=20) == before[1:]


def test_a_service_that_starts_again_knows_the_events_of_the_one_before(parity: Run, tmp_path: Path) -> None:
    config = ServeConfig(events=str(tmp_path / "events.db"))
    with served(parity.path, config) as client:
        client.post("/events", json=event("p03"))
    with served(parity.path, config) as client:
        assert best(client) == ["p01", "p05", "p07"]


def test_two_services_share_the_events_of_one_file(parity: Run, tmp_path: Path) -> None:
    config = ServeConfig(events=str(tmp_path / "events.db"))
    with served(parity.path, config) as one, served(parity.path, config) as other:
        one.post("/events", json=event("p03"))
        assert best(other) == ["p01", "p05", "p07"]
        other.post("/events", json=event("p05"))
        assert best(one) == ["p01", "p07", "p09"]


def test_an_event_of_a_product_that_no_run_knows_waits_for_one_that_does(client: TestClient) -> None:
    client.post("/events", json=event("ghost"))
    assert best(client) == ["p00", "p01", "p02"]
    assert client.get("/recommend/new").json()["answered_from"] == "popularity"
    assert [entry["product_id"] for entry in client.get("/customers/new").json()["events"]] == ["ghost"]


def test_an_event_counts_what_its_kind_does(checkerboard: Path, tmp_path: Path) -> None:
    # the score of an odd product after one event of weight w on another is 1 · w / √(w + 1), and b
    dataset = open_dataset(checkerboard)
    run = write_run(tmp_path / "run", dataset, parity_vectors(dataset))
    with served(run.path, ServeConfig(events=str(tmp_path / "events.db"), kinds="look=0.5,buy=3,hide=0")) as client:
        for kind, weight in (("look", 0.5), ("buy", 3.0), ("hide", 0.0)):
            client.post("/events", json=event("p03", kind, kind=kind))
            found = client.get(f"/explain/{kind}?product=p01").json()
            assert found["score"] - found["popularity"] == pytest.approx(weight / (weight + 1) ** 0.5)
            assert "p03" not in best(client, kind, k=20)
        refused = client.post("/events", json=event("p03", kind="view"))
        assert refused.status_code == 422
        assert refused.json()["error"] == "the kind of an event is 'view'; allowed: look, buy, hide (--kinds)"


def test_an_event_of_a_key_that_is_stored_is_not_stored_again(client: TestClient) -> None:
    assert client.post("/events", json=event("p03", key="order-1")).json() == {"stored": 1, "known": 0}
    both = [event("p03", key="order-1"), event("p05", key="order-2")]
    assert client.post("/events", json=both).json() == {"stored": 1, "known": 1}
    assert len(client.get("/customers/new").json()["events"]) == 2


@pytest.mark.parametrize(
    "wrong",
    [{"stars": "x"}, {"time": "yesterday"}, {"time": -1}, {"kind": ""}, {"customer_id": "\x00"}, {"stars": 1e300}],
    ids=str,
)
def test_of_a_list_with_a_wrong_event_nothing_is_stored(client: TestClient, wrong: dict[str, Any]) -> None:
    response = client.post("/events", json=[event("p03"), event("p05") | wrong])
    assert response.status_code == 422
    assert response.json()["error"].startswith(f"1.{next(iter(wrong))}")
    assert client.get("/customers/new").status_code == 404


def test_a_run_that_cannot_fold_in_still_hides_what_was_bought(checkerboard: Path, tmp_path: Path) -> None:
    dataset = open_dataset(checkerboard)
    vectors = parity_vectors(dataset)
    plain = dataclasses.replace(vectors, history_bag=np.zeros_like(vectors.history_bag))
    run = write_run(tmp_path / "run", dataset, plain)
    with served(run.path, ServeConfig(events=str(tmp_path / "events.db"))) as client:
        client.post("/events", json=event("p00"))
        assert best(client) == ["p01", "p02", "p03"]


def test_the_events_are_a_source_of_reviews_without_any_flag(client: TestClient, tmp_path: Path) -> None:
    reviews = [event(f"p{p}", f"u{c}", stars=1 + p % 5, time=1000 + p) for c in range(4) for p in range(5)]
    assert client.post("/events", json=[*reviews, event("p0", "u9", kind="view")]).json()["stored"] == 21
    dataset = prepare(str(tmp_path / "events.db"), tmp_path / "dataset", PrepareConfig(test=0.2))
    assert dataset.info.counts.kept == 21
    assert set(dataset.customers["customer_id"].to_pylist()) == {"", "u0", "u1", "u2", "u3", "u9"}
    times = np.concatenate([getattr(dataset, part).timestamp for part in ("train", "valid", "test")])
    assert sorted(times)[:20] == sorted(1000 + p for c in range(4) for p in range(5))


def test_events_that_come_at_once_are_all_stored(tmp_path: Path) -> None:
    store = EventStore.open(str(tmp_path / "events.db"))
    waiting = [store.add([Event("c", f"p{n}", None, n, "view", f"k{n % 500}")]) for n in range(1000)]
    assert sum(stored.result(30) for stored in waiting) == 500
    assert len(store.of("c")) == 500
    store.close()


def test_a_write_that_fails_is_told_and_takes_no_other_with_it(tmp_path: Path) -> None:
    store = EventStore.open(str(tmp_path / "events.db"))
    good = [store.add([Event("other", "p", None, n, "view")]) for n in range(20)]
    bad = store.add([Event("c", "p", None, 2**70, "view")])
    good += [store.add([Event("other", "p", None, n, "view")]) for n in range(20)]
    assert [stored.result(30) for stored in good] == [1] * 40
    with pytest.raises(Exception, match="could not be stored"):
        bad.result(30)
    assert store.add([Event("c", "p", None, 1, "view")]).result(30) == 1
    assert [event.timestamp for event in store.of("c")] == [1]
    store.close()


def test_a_file_that_is_no_store_of_events_is_left_alone(tmp_path: Path) -> None:
    text, other = tmp_path / "reviews.csv", tmp_path / "other.db"
    text.write_text("customer,product\n" * 100)
    with pytest.raises(AmzrecError, match=r"reviews\.csv cannot be used"):
        EventStore.open(str(text))
    assert text.read_text() == "customer,product\n" * 100
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE events (name TEXT)")
    with pytest.raises(AmzrecError, match="a database of something else, with the tables events"):
        EventStore.open(str(other))
    with pytest.raises(AmzrecError, match="cannot be used"):
        EventStore.open(str(tmp_path / "no" / "such" / "folder" / "events.db"))


# --- in PostgreSQL


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture
def database(server: str) -> str:
    """The address of a server without a table of events."""
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(server) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS events")
        connection.commit()
    return server


@pytest.mark.slow
def test_services_share_the_events_of_a_server_and_prepare_reads_them(
    parity: Run, database: str, tmp_path: Path
) -> None:
    config = ServeConfig(events=database)
    with served(parity.path, config) as one, served(parity.path, config) as other:
        assert one.post("/events", json=event("p03", stars=5, time=1000)).json() == {"stored": 1, "known": 0}
        assert best(other) == ["p01", "p05", "p07"]
        both = [event("p05", key="'; drop table events"), event("p07", key="'; drop table events"), event("ghost")]
        assert other.post("/events", json=both).json() == {"stored": 2, "known": 1}
        assert one.post("/events", json=both[:1]).json() == {"stored": 0, "known": 1}
        assert best(one) == ["p01", "p07", "p09"]
        many = [event(f"p{p}", f"u{c}", stars=1 + p % 5) for c in range(4) for p in range(5)]
        assert one.post("/events", json=many).json()["stored"] == 20
    with served(parity.path, config) as again:
        assert best(again) == ["p01", "p07", "p09"]
        found = again.get("/customers/new").json()["events"]
        assert found[0] == {"product_id": "p03", "title": "Product 3", "stars": 5.0, "kind": "review", "time": 1000}
    dataset = prepare(database, tmp_path / "dataset", PrepareConfig(test=0.2))
    assert dataset.info.counts.kept == 23


@pytest.mark.slow
def test_connections_that_break_are_one_refusal_and_no_lost_event(parity: Run, database: str) -> None:
    from adbc_driver_postgresql import dbapi

    with served(parity.path, ServeConfig(events=database)) as client:
        client.post("/events", json=event("p03", key="1"))
        with dbapi.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        refused = client.get("/recommend/new")
        assert refused.status_code == 503
        assert refused.json()["error"].startswith("events cannot be read")
        assert best(client) == ["p01", "p05", "p07"]
        assert client.post("/events", json=event("p05", key="2")).json() == {"stored": 1, "known": 0}


@pytest.mark.slow
def test_a_server_that_refuses_is_one_error_without_the_password(server: str) -> None:
    wrong = server.replace(quote(PASSWORD, safe=""), "wr0ng")
    with pytest.raises(AmzrecError, match=r"cannot be used: .*authentication failed") as caught:
        EventStore.open(wrong)
    assert "wr0ng" not in str(caught.value)


# --- killed while it writes


class Sender:
    """Sends events until it is told to stop, each until it is acknowledged, as a client with keys does."""

    def __init__(self, name: str) -> None:
        self.name, self.address, self.stop = name, "", threading.Event()
        self.acknowledged: list[str] = []
        self.thread = threading.Thread(target=self.send)

    def send(self) -> None:
        for number in itertools.count():
            body = json.dumps(event("p03", self.name, key=f"{self.name}-{number}"))
            while not self.post(body):
                if self.stop.is_set():
                    return
                time.sleep(0.02)
            self.acknowledged.append(f"{self.name}-{number}")

    def post(self, body: str) -> bool:
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=10)
        try:
            connection.request("POST", "/events", body, {"Content-Type": "application/json"})
            return not self.stop.is_set() and connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@pytest.mark.long
def test_no_acknowledged_event_is_lost_or_doubled_when_the_service_is_killed(parity: Run, tmp_path: Path) -> None:
    senders = [Sender(f"c{number}") for number in range(4)]
    for life in range(4):
        process, address = started(parity.path, "--events", str(tmp_path / "events.db"), "--no-access-log")
        before = [len(sender.acknowledged) for sender in senders]
        for sender in senders:
            sender.address = address
            if not life:
                sender.thread.start()
        while any(len(sender.acknowledged) < count + 10 for sender, count in zip(senders, before, strict=True)):
            time.sleep(0.01)
        process.kill()
        process.wait()
    for sender in senders:
        sender.stop.set()
        sender.thread.join()
    with sqlite3.connect(tmp_path / "events.db") as connection:
        stored = Counter(key for (key,) in connection.execute("SELECT key FROM events"))
    assert set(stored.values()) == {1}
    for sender in senders:
        assert len(sender.acknowledged) >= 40
        assert set(sender.acknowledged) <= set(stored)


def test_the_weight_of_a_review_is_one_and_the_weight_of_nothing_is_none(parity: Run) -> None:
    model, liked = Recommender(parity.vectors), np.array([4, 6], np.int32)
    plain = model.fold_in(0, liked)
    same = model.fold_in(0, liked, weights=np.ones(2, np.float32))
    np.testing.assert_array_equal(plain.retrieval, same.retrieval)
    half = model.fold_in(0, np.array([4, 8, 6], np.int32), weights=np.array([1, 0, 1], np.float32))
    np.testing.assert_allclose(half.retrieval, plain.retrieval)


def test_an_empty_file_where_events_were_is_an_error_and_not_a_new_beginning(tmp_path: Path) -> None:
    EventStore.open(str(tmp_path / "events.db")).close()
    assert [path.name for path in tmp_path.iterdir()] == ["events.db"]
    (tmp_path / "events.db").write_bytes(b"")
    with pytest.raises(AmzrecError, match=r"events.db is empty.*remove it"):
        EventStore.open(str(tmp_path / "events.db"))
