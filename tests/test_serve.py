"""The service answers over HTTP what amzrec answers from Python, and refuses in one sentence what it cannot answer."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient
from threadpoolctl import threadpool_info

from amzrec.arrays import Lists
from amzrec.commands.rate import rate
from amzrec.commands.recommend import recommend
from amzrec.commands.serve import listening, serve
from amzrec.commands.similar import similar
from amzrec.config import ServeConfig
from amzrec.errors import AmzrecError
from amzrec.service.desk import Desk
from amzrec.service.guard import Guard
from amzrec.service.telemetry import Telemetry
from amzrec.store.dataset import open_dataset
from amzrec.store.run import Run
from conftest import ROOT, add_features, write_checkerboard
from runs import parity_vectors, random_vectors, write_run
from services import served, started

HOSTILE = ["<script>alert(1)</script>", "../../etc/passwd", "a/b", "100 %", "a" * 999, "’; drop table events", "\u202e"]


@pytest.fixture(scope="module")
def random(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The checkerboard with random vectors, whose products 0 to 9 are red."""
    folder = tmp_path_factory.mktemp("random")
    write_checkerboard(folder / "dataset")
    add_features(folder / "dataset", [[], *[["colour=red"] * (p < 10) for p in range(20)]])
    dataset = open_dataset(folder / "dataset")
    return write_run(folder / "run", dataset, random_vectors(dataset, np.random.default_rng(2)))


@pytest.fixture(scope="module")
def client(random: Run) -> Iterator[TestClient]:
    with served(random.path, ServeConfig(events="none", most_k=100, most_bytes=20_000)) as client:
        yield client


def answer(response: Any) -> Any:
    """What a request was answered, without the name of the run."""
    assert response.status_code == 200, response.text
    document = response.json()
    for each in document if isinstance(document, list) else [document]:
        assert each.pop("run") == "run"
    return document


def refusal(response: Any, status: int) -> str:
    """The one sentence with which a request was refused."""
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    return str(response.json()["error"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 3, "exclude": ["p01", "no such product"]},
        {"only": ["colour=red"], "include_seen": True, "sort": "stars"},
        {"never": ["colour=red"], "diversify": 0.5, "include_seen": True},
        {"at_most": ["colour=1"], "include_seen": True, "sort": "blend"},
        {"liked": ["p04", "Product 6"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("customer", ["u03", "nobody"])
def test_recommendations_are_those_of_python(
    client: TestClient, random: Run, customer: str, options: dict[str, Any]
) -> None:
    wanted = recommend(customer, random, **options)
    assert answer(client.post("/recommend", json={"customer_id": customer, **options})) == wanted
    assert answer(client.get(f"/recommend/{customer}", params=options)) == wanted


@pytest.mark.parametrize("customer", ["u03", "nobody"])
def test_only_allowed_products_are_listed_as_they_stand_in_the_list_of_all(client: TestClient, customer: str) -> None:
    everything = client.get(f"/recommend/{customer}?k=20").json()["recommendations"]
    allowed = [entry["product_id"] for entry in everything[1::2]]
    body = {"customer_id": customer, "k": 20, "allow": [*reversed(allowed), "no such product", "Product 3"]}
    found = client.post("/recommend", json=body).json()
    kept = [entry for entry in everything if entry["product_id"] in {*allowed, "p03"}]
    assert found["recommendations"] == [entry | {"rank": n} for n, entry in enumerate(kept, 1)]
    assert found["unknown_allowed"] == ["no such product"]
    assert client.get(f"/recommend/{customer}", params=body | {"customer_id": None}).status_code == 422
    del body["customer_id"]
    assert client.get(f"/recommend/{customer}", params=body).json() == found
    red = client.post("/recommend", json={"customer_id": customer, **body, "only": ["colour=red"]}).json()
    assert [entry["product_id"] for entry in red["recommendations"]] == [
        entry["product_id"] for entry in kept if entry["product_id"] < "p10"
    ]


def test_where_nothing_is_allowed_nothing_is_listed(client: TestClient) -> None:
    for allow in ([], ["no such product"]):
        found = client.post("/recommend", json={"customer_id": "u03", "allow": allow}).json()
        assert found["recommendations"] == []


def test_a_question_as_of_a_date_is_answered_with_what_was_popular_and_liked_then(
    checkerboard: Path, tmp_path: Path
) -> None:
    dataset = open_dataset(checkerboard)
    vectors = random_vectors(dataset, np.random.default_rng(2))
    context = np.zeros((3, len(vectors.product_ids)), np.float32)
    context[0, 5], context[1, 7] = 100, 100  # product 5 before day 100, product 7 until day 250
    dated = dataclasses.replace(
        vectors,
        context=context,
        context_edges=np.array([100, 250]) * 86_400,
        rating_context=np.array([-0.5, 0.25, 0], np.float32),
    )
    run = write_run(tmp_path / "run", dataset, dated)
    with served(run.path, ServeConfig(events="none")) as client:
        options = {"k": 20, "include_seen": True}
        now = client.post("/recommend", json={"customer_id": "u03", **options}).json()["recommendations"]
        raw = {entry["product_id"]: entry for entry in now}
        row_of = {vectors.product_ids[row]: row for row in (5, 7)}
        times = ((0, 0, 5), ("1970-01-02T00:00:00Z", 0, 5), (200 * 86_400, 1, 7), (300 * 86_400, 2, 0))
        for at, period, row in times:
            body = {"customer_id": "u03", "at": at, **options}
            found = client.post("/recommend", json=body).json()["recommendations"]
            expected = sorted(
                raw.values(),
                key=lambda entry: -entry["score"] - (100 if row_of.get(entry["product_id"]) == row else 0),
            )
            assert [entry["product_id"] for entry in found] == [entry["product_id"] for entry in expected]
            assert found == client.get("/recommend/u03", params={"at": at, **options}).json()["recommendations"]
            inside = [entry for entry in found if 1 < entry["stars"] < 5 and 1 < raw[entry["product_id"]]["stars"] < 5]
            assert inside
            for entry in inside:
                moved = (-0.5, 0.25, 0)[period]
                assert entry["stars"] == pytest.approx(raw[entry["product_id"]]["stars"] + moved, abs=1e-5)
            one = {"customer_id": "u03", "products": [found[0]["product_id"]], "at": at}
            stars = client.post("/rate", json=one).json()["ratings"][0]["stars"]
            assert stars == pytest.approx(found[0]["stars"], abs=1e-5)


def test_a_run_without_dates_does_not_answer_as_of_a_date(client: TestClient) -> None:
    assert "no dates" in refusal(client.get("/recommend/u03?at=1700000000"), 400)
    assert "no dates" in refusal(client.get("/rate/u03?product=p01&at=1700000000"), 400)


@pytest.mark.parametrize(("written", "customer"), [("u03%0A", "u03\n"), ("%0A", "\n"), ("a/b%2Fc", "a/b/c")])
def test_an_address_holds_any_id_whole(client: TestClient, written: str, customer: str) -> None:
    found = client.get(f"/recommend/{written}").json()
    assert found["customer_id"] == customer
    assert found["answered_from"] == client.get("/recommend/nobody").json()["answered_from"], "u03 is another one"


def test_stars_and_similar_products_are_those_of_python(client: TestClient, random: Run) -> None:
    wanted = rate("u03", ["p01", "p02"], random)
    assert answer(client.post("/rate", json={"customer_id": "u03", "products": ["p01", "p02"]})) == wanted
    assert answer(client.get("/rate/u03?product=p01&product=p02")) == wanted
    assert answer(client.get("/similar/p01?k=4")) == similar("p01", random, k=4)
    assert answer(client.post("/similar", json={"product": "Product 1"})) == similar("p01", random)


def test_a_list_of_questions_is_a_list_of_answers(client: TestClient, random: Run) -> None:
    asked = [{"customer_id": "u03", "k": 2}, {"customer_id": "nobody", "k": 1}]
    assert answer(client.post("/recommend", json=asked)) == [
        recommend("u03", random, k=2),
        recommend("nobody", random, k=1),
    ]
    products = [{"product": "p01"}, {"product": "no such"}]
    assert refusal(client.post("/similar", json=products), 404).startswith("request 1: there is no product 'no such'")


def test_what_is_liked_comes_in_the_order_of_time_with_its_stars(client: TestClient, random: Run) -> None:
    liked = [{"product_id": "p02", "stars": 5, "time": "2020-01-02T00:00:00Z"}, {"product_id": "p04", "time": 1e9}]
    found = answer(client.post("/recommend", json={"customer_id": "new", "k": 3, "liked": liked}))
    assert found["answered_from"] == "liked"
    clicks = answer(client.post("/recommend", json={"customer_id": "new", "k": 3, "liked": ["p04", "p02"]}))
    assert [entry["score"] for entry in found["recommendations"]] != [
        entry["score"] for entry in clicks["recommendations"]
    ]
    assert clicks == recommend("new", random, k=3, liked=["p04", "p02"])


def test_the_terms_of_an_explanation_add_up_to_the_score_of_the_list(client: TestClient) -> None:
    for customer in ("u03", "nobody"):
        best = answer(client.get(f"/recommend/{customer}?k=1"))["recommendations"][0]
        found = answer(client.get(f"/explain/{customer}", params={"product": best["product_id"], "k": 3}))
        terms = [found["popularity"], found["customer"], found["others"], *(t["term"] for t in found["history"])]
        assert sum(terms) == pytest.approx(found["score"], abs=1e-9)
        assert found["score"] == pytest.approx(best["score"], abs=1e-4)
        every = [answer(client.get(f"/explain/{customer}", params={"product": f"p{n:02}"})) for n in range(20)]
        assert found["average_popularity"] == pytest.approx(np.mean([each["popularity"] for each in every]), abs=1e-6)
        assert found["in_order"] is False


def test_what_each_product_of_a_history_says_is_what_is_lost_without_it(client: TestClient) -> None:
    # for a new customer who likes two products, whose vector is (bag 1 + bag 2) / √3
    both = {"customer_id": "new", "product": "p07", "liked": ["p01", "p02"]}
    found = answer(client.post("/explain", json=both))
    alone = answer(client.post("/explain", json=both | {"liked": ["p01"]}))
    terms = {term["product_id"]: term for term in found["history"]}
    assert terms["p01"]["vector"] * 3**0.5 == pytest.approx(alone["history"][0]["vector"] * 2**0.5)
    assert found["customer"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("per_log", [0.0, 2.0])
def test_the_votes_of_an_explanation_are_those_of_the_memory(
    checkerboard: Path, tmp_path: Path, per_log: float
) -> None:
    # p01 (row 2) votes 3 and p02 (row 3) votes 1 for p07 (row 8); what came before the last product fades to a half
    dataset = open_dataset(checkerboard)
    lists = Lists.of(np.array([2, 3]), np.array([8, 8], np.int32), 21)
    vectors = parity_vectors(dataset)
    remembering = dataclasses.replace(
        vectors,
        head=dataclasses.replace(vectors.head, memory_fade=0.5, memory_per_log=per_log),
        memory_offsets=lists.offsets,
        memory_items=lists.items,
        memory_weights=np.array([3, 1], np.float32),
    )
    run = write_run(tmp_path / "run", dataset, remembering)
    with served(run.path, ServeConfig(events="none")) as client:
        asked = {"customer_id": "new", "product": "p07", "liked": ["p01", "p02"]}
        found = answer(client.post("/explain", json=asked))
        best = answer(client.post("/recommend", json={"customer_id": "new", "liked": ["p01", "p02"]}))
    total = per_log * np.log(1 + 2.5) if per_log else 2.5
    votes = {term["product_id"]: term["vote"] for term in found["history"]}
    assert votes == pytest.approx({"p01": total * 1.5 / 2.5, "p02": total * 1 / 2.5})
    assert found["in_order"] is True
    assert best["recommendations"][0]["product_id"] == "p07"
    assert best["recommendations"][0]["score"] == pytest.approx(found["score"], abs=1e-5)


def test_products_are_found_by_the_beginning_of_their_title_or_by_their_id(client: TestClient) -> None:
    def found(q: str) -> list[str]:
        return [entry["product_id"] for entry in answer(client.get("/products", params={"q": q}))["products"]]

    assert found("product 1") == ["p01", *(f"p{p}" for p in range(10, 19))]
    assert found("p07") == ["p07"]
    assert found("Products") == []
    assert found("") == [f"p{p:02}" for p in range(10)]


def test_a_customer_is_told_with_all_reviews(client: TestClient) -> None:
    found = answer(client.get("/customers/u03"))
    stars = {entry["product_id"]: entry["stars"] for entry in found["history"]}
    assert stars == {f"p{p:02}": 5.0 for p in range(1, 20, 2)} | {"p04": 1.0, "p06": 1.0}
    assert "nobody" in refusal(client.get("/customers/nobody"), 404)


def test_a_client_of_tensorflow_serving_gets_columns_for_inputs_and_rows_for_instances(
    client: TestClient, random: Run
) -> None:
    path = "/v1/models/amzrec:predict"
    inputs = {"customer_id": ["u03", "nobody"], "k": 12, "exclude": [["p00"], [""]]}
    outputs = client.post(path, json={"inputs": inputs}).json()["outputs"]
    wanted = [recommend("u03", random, k=12, exclude=["p00"]), recommend("nobody", random, k=12)]
    for row, document in enumerate(wanted):
        ids = [entry["product_id"] for entry in document["recommendations"]]
        assert outputs["product_id"][row] == ids + [""] * (12 - len(ids))
        assert outputs["count"][row] == len(ids)
    found = [
        client.post(path, json={"inputs": inputs | {"exclude": exclude}}).json()["outputs"]["product_id"]
        for exclude in ([["p00"]], [["p00"], ["p00"]], [[""]], [], [[""], [""]])
    ]
    assert found[0] == found[1] != found[2] == found[3] == found[4]
    typed_by_curl = {"Content-Type": "application/x-www-form-urlencoded"}
    same = client.post(path, content=json.dumps({"inputs": inputs}), headers=typed_by_curl)
    assert same.json()["outputs"] == outputs
    rows = client.post(path, json={"instances": [{"customer_id": "u03", "k": 2}, {"customer_id": "u04", "k": 2}]})
    assert [len(row["product_id"]) for row in rows.json()["predictions"]] == [2, 2]
    pairs = {"signature_name": "rate", "instances": [{"customer_id": "u03", "product_id": "p01"}]}
    assert client.post(path, json=pairs).json() == {
        "predictions": [rate("u03", ["p01"], random)["ratings"][0]["stars"]]
    }
    assert "either" in refusal(client.post(path, json={}), 400)
    assert "one per row" in refusal(client.post(path, json={"inputs": inputs | {"exclude": [[]] * 3}}), 400)
    uneven = {"customer_id": ["u03"], "at_most": ["colour"], "at_most_count": [1, 2]}
    by_rules = {"signature_name": "recommend_by_rules", "inputs": uneven}
    assert "as long" in refusal(client.post(path, json=by_rules), 400)
    assert "customer_id" in refusal(client.post(path, json={"inputs": {"customer_id": ["\x00"]}}), 400)
    assert "'who'" in refusal(client.post(path, json={"inputs": {"who": ["u03"]}}), 400)


@pytest.mark.parametrize(
    ("inputs", "options"),
    [
        ({"only": ["colour=red"], "never": ["no=such"], "diversify": 0.5}, {"only": ["colour=red"], "diversify": 0.5}),
        ({"at_most": ["colour", "no"], "at_most_count": [2, 1]}, {"at_most": ["colour=2"]}),
        ({"only": ["colour=red", "colour=blue"], "never": [""]}, {"only": ["colour=red"]}),
        ({"only": ["size=small"]}, None),
    ],
    ids=str,
)
def test_a_client_of_tensorflow_serving_may_give_rules(
    client: TestClient, random: Run, inputs: dict[str, Any], options: dict[str, Any] | None
) -> None:
    body = {"signature_name": "recommend_by_rules", "inputs": {"customer_id": ["u03"], "k": 5, **inputs}}
    outputs = client.post("/v1/models/amzrec:predict", json=body).json()["outputs"]
    wanted = [] if options is None else recommend("u03", random, k=5, **options)["recommendations"]
    assert outputs["product_id"] == [[entry["product_id"] for entry in wanted] + [""] * (5 - len(wanted))]


@pytest.mark.parametrize(
    ("status", "method", "path", "body", "says"),
    [
        (404, "GET", "/similar/no-such", None, "there is no product 'no-such'"),
        (422, "GET", "/similar/p01?K=3", None, "K: Extra inputs"),
        (422, "GET", "/rate/u03", None, "product: Field required"),
        (404, "GET", "/no/such/route", None, "no such route"),
        (405, "DELETE", "/recommend", None, "does not take DELETE"),
        (422, "GET", "/recommend/u03?k=0", None, "k: Input should be greater than or equal to 1"),
        (422, "GET", "/recommend/u03?k=101", None, "k is 101; allowed: 1 to 100"),
        (422, "POST", "/recommend", {"customer": "u03"}, "customer_id: Field required"),
        (422, "POST", "/recommend", [{"customer_id": "u03"}, {"customer_id": ""}], "1.customer_id"),
        (422, "POST", "/recommend", {"customer_id": "u03", "typo": 1}, "typo"),
        (422, "POST", "/recommend", {"customer_id": "\x00"}, "NUL"),
        (422, "POST", "/recommend", {"customer_id": "a" * 10_000}, "at most 1000"),
        (404, "POST", "/recommend", {"customer_id": "u03", "only": ["colour=blue"]}, "colour=blue"),
        (404, "POST", "/recommend", {"customer_id": "u03", "at_most": ["size=2"]}, "size"),
        (422, "POST", "/recommend", {"customer_id": "u03", "at_most": ["colour=²"]}, "at_most.0"),
        (422, "POST", "/recommend", {"customer_id": "u03", "k": "5"}, "k: Input should be a valid integer"),
        (422, "POST", "/recommend", {"customer_id": "u03", "diversify": True}, "diversify"),
        (404, "POST", "/recommend", {"customer_id": "u03", "liked": ["no such"]}, "no such"),
        (413, "POST", "/recommend", {"customer_id": "a" * 30_000}, "larger than 20000 bytes"),
        (503, "POST", "/events", {"customer_id": "u03", "product_id": "p01"}, "--events"),
        (403, "POST", "/admin/reload", None, "token"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(
    client: TestClient, status: int, method: str, path: str, body: Any, says: str
) -> None:
    assert says in refusal(client.request(method, path, json=body), status)


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"customer_id": "\\ud800"}', b"[" * 15_000, b"", b"null", b"NaN"])
def test_a_body_that_is_no_question_is_refused(client: TestClient, body: bytes) -> None:
    response = client.post("/recommend", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    assert list(response.json()) == ["error"]


def test_a_body_that_is_cut_short_is_no_json(client: TestClient) -> None:
    body = b'{"customer_id":"n1"'
    response = client.post("/recommend", content=body, headers={"Content-Type": "application/json"})
    assert refusal(response, 422).startswith("the body is no JSON: ")
    assert refusal(response, 422).endswith("at character 19")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_strange_id_is_answered_as_that_of_an_unknown_customer(client: TestClient, random: Run, name: str) -> None:
    assert answer(client.post("/recommend", json={"customer_id": name}))["answered_from"] == "popularity"
    assert repr(name)[1:20] in refusal(client.get("/customers/" + "".join(f"%{b:02X}" for b in name.encode())), 404)


def test_a_whole_number_is_an_id_however_it_is_written(client: TestClient) -> None:
    for number in (17, 17.0, "17"):
        assert answer(client.post("/recommend", json={"customer_id": number}))["customer_id"] == "17"
    assert "customer_id" in refusal(client.post("/recommend", json={"customer_id": 17.5}), 422)
    assert "customer_id" in refusal(client.post("/recommend", json={"customer_id": True}), 422)


def test_every_answer_has_the_headers_that_keep_browsers_safe(client: TestClient) -> None:
    for response in (client.get("/recommend/u03"), client.get("/no/such/route"), client.get("/recommend/u03?k=0")):
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_a_request_without_the_token_is_refused_except_for_probes(random: Run) -> None:
    with served(random.path, ServeConfig(events="none", token="s3cret")) as client:
        assert client.get("/recommend/u03").status_code == 200
        for given in ("", "Bearer", "Bearer s3cre", "Bearer s3crets", "Basic s3cret"):
            refused = client.get("/recommend/u03", headers={"Authorization": given})
            assert "Bearer" in refusal(refused, 401)
            assert refused.headers["WWW-Authenticate"] == "Bearer"
            assert client.get("/metrics", headers={"Authorization": given}).status_code == 401
            assert client.get("/healthz", headers={"Authorization": given}).json() == {"status": "ok"}
            assert client.get("/readyz", headers={"Authorization": given}).json() == {"status": "ready"}


def test_figures_count_requests_by_route_and_answers_by_run(client: TestClient) -> None:
    client.get("/recommend/u03")
    client.get("/no/such/route")
    text = client.get("/metrics").text
    assert 'amzrec_requests_total{method="GET",route="/recommend/{customer_id:id}",status="200"}' in text
    assert 'amzrec_requests_total{method="GET",route="none",status="404"}' in text
    assert 'amzrec_answers_total{answered_from="model",run="run"}' in text
    assert "u03" not in text


def test_the_access_log_is_one_object_of_json_per_request(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "amzrec.access"):
        client.get("/recommend/%09%1b[2J")
    (record,) = [record for record in caplog.records if record.name == "amzrec.access"]
    entry = json.loads(record.message)
    assert record.message.isprintable()
    assert (entry["method"], entry["path"], entry["status"]) == ("GET", "/recommend/\t\x1b[2J", 200)


def test_openapi_describes_every_route_with_an_example_of_each_question(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert {"/recommend", "/recommend/{customer_id}", "/explain", "/events", "/metrics"} <= set(document["paths"])
    schemas = document["components"]["schemas"]
    assert all(schemas[name]["examples"] for name in ("Recommend", "Rate", "Similar", "Explain", "Event", "Predict"))


def test_the_service_never_imports_tensorflow(random: Run) -> None:
    code = f"""
import sys
from pathlib import Path
sys.path[:0] = {[str(ROOT), str(ROOT / "tests")]!r}
from services import served
from amzrec.config import ServeConfig
with served(Path({str(random.path)!r}), ServeConfig(events="none")) as client:
    assert client.get("/recommend/u03").status_code == 200
import amzrec.commands.serve, amzrec.cli.app
heavy = ("tensorflow", "keras", "tf_keras", "scann", "pandas", "duckdb")
print("LOADED", *[name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["LOADED"]


def test_answers_on_several_threads_do_not_each_start_threads_of_their_own(
    random: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = list[int]()

    async def answer(*_: object) -> None:
        found.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")

    monkeypatch.setattr("amzrec.commands.serve.answer", answer)
    monkeypatch.setattr("amzrec.commands.serve.speak", lambda: None)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    try:
        serve(random.path, ServeConfig(events="none", port=0))
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGHUP), before, strict=True):
            signal.signal(number, handler)
    assert set(found) == {1}


def test_an_answer_does_not_wait_for_the_client_to_acknowledge_its_headers() -> None:
    with contextlib.closing(listening(ServeConfig(port=0))) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    ("config", "host", "status"),
    [
        (ServeConfig(), "127.0.0.1:8501", 200),
        (ServeConfig(), "LOCALHOST", 200),
        (ServeConfig(), "[::1]:8501", 200),
        (ServeConfig(), "evil.example", 400),
        (ServeConfig(), "evil.example:8501", 400),
        (ServeConfig(), "127.0.0.1.evil.example", 400),
        (ServeConfig(), "localhost:8501@evil.example", 400),
        (ServeConfig(), "", 400),
        (ServeConfig(host="::1"), "evil.example", 400),
        (ServeConfig(host="127.0.0.2"), "127.0.0.2:80", 200),
        (ServeConfig(allow_host="shop.local, other"), "shop.local:80", 200),
        (ServeConfig(allow_host="shop.local, other"), "evil.example", 400),
        (ServeConfig(host="0.0.0.0"), "anything.example", 200),
        (ServeConfig(host="0.0.0.0", allow_host="shop.local"), "evil.example", 400),
    ],
)
def test_a_service_of_this_machine_alone_answers_its_own_names_only(
    random: Run, config: ServeConfig, host: str, status: int
) -> None:
    with served(random.path, config.replace(events="none")) as client:
        response = client.get("/recommend/u03", headers={"Host": host})
        assert response.status_code == status
        assert status == 200 or "--allow-host" in refusal(response, 400)
        assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_requests_beyond_those_that_may_wait_are_refused_at_once(random: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go, real = threading.Event(), threading.Event(), Desk.recommend

    def slow(*words: Any) -> Any:
        begun.set()
        assert go.wait(60)
        return real(*words)

    monkeypatch.setattr(Desk, "recommend", slow)
    with served(random.path, ServeConfig(events="none", most_waiting=2)) as client, ThreadPoolExecutor(1) as pool:
        list_of_two = [{"customer_id": "u01"}, {"customer_id": "u02"}]
        first = pool.submit(client.post, "/recommend", json=list_of_two)
        assert begun.wait(60)
        try:
            refused = client.get("/recommend/u03")
            assert "--most-waiting" in refusal(refused, 503)
            assert refused.headers["retry-after"] == "1"
            assert client.get("/healthz").status_code == 200
        finally:
            go.set()
        assert len(first.result().json()) == 2
        assert client.get("/recommend/u03").status_code == 200
        assert "amzrec_waiting 0.0" in client.get("/metrics").text


def test_a_page_of_another_site_cannot_send_events_as_browsers_let_it(random: Run, tmp_path: Path) -> None:
    # what a browser sends across sites without asking first is text/plain or a form
    with served(random.path, ServeConfig(events=str(tmp_path / "events.db"))) as client:
        body = json.dumps({"customer_id": "u03", "product_id": "p01"})
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            refusal(client.post("/events", content=body, headers={"Content-Type": kind}), 422)
        assert client.get("/customers/u03").json()["events"] == []


def test_an_answer_that_takes_too_long_is_refused(random: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(Desk, "similar", lambda *_: released.wait(30))
    with served(random.path, ServeConfig(events="none", timeout=0.01)) as client:
        assert "within 0.01 s" in refusal(client.get("/similar/p01"), 504)
        released.set()


def test_what_nobody_foresaw_is_told_to_the_log_and_not_to_the_client(
    random: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(Desk, "similar", fail)
    with served(random.path, ServeConfig(events="none")) as client:
        assert "secret" not in refusal(client.get("/similar/p01"), 500)
        assert client.get("/similar/p01").headers["X-Content-Type-Options"] == "nosniff"
    assert "ZeroDivisionError: a secret" in caplog.text


async def ask(messages: list[Any], config: ServeConfig) -> list[Any]:
    """What a guard answers to a POST whose body comes as these messages, and then stays away."""
    sent = list[Any]()

    async def receive() -> Any:
        return messages.pop(0) if messages else await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(*_: Any) -> None:
        raise AssertionError("the request was let through")

    scope = {"type": "http", "method": "POST", "path": "/recommend", "headers": []}
    await Guard(app, config, Telemetry())(scope, receive, send)
    return sent


@pytest.mark.slow
@pytest.mark.parametrize(
    "blank",
    [b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"GET /?", b"GET / HTTP/1.1\r\n"],
    ids=["value", "address", "count"],
)
def test_a_head_without_end_is_refused_before_it_fills_the_memory(random: Run, blank: bytes) -> None:
    process, address = started(random.path, "--events", "none", "--most-bytes", "1000")
    try:
        host, port = urlsplit(address).netloc.split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            answered, line = b"", b"X: " + b"y" * 997 + b"\r\n" if blank.endswith(b"\r\n") else b"y" * 1000
            with contextlib.suppress(ConnectionError):
                connection.sendall(blank)
                for _ in range(1000):  # a thousand thousand bytes, of which 65,536 are allowed
                    connection.sendall(line)
            with contextlib.suppress(ConnectionError):
                while part := connection.recv(10_000):
                    answered += part
        assert answered[:12] in (b"HTTP/1.1 400", b""), "refused, or closed before that was read"
        assert b"200" not in answered
        with httpx.Client(base_url=address) as client:
            assert client.get("/healthz?" + "y" * 60_000).status_code == 200
            assert client.get("/healthz", headers={"x": "y" * 60_000}).status_code == 200
    finally:
        process.terminate()
        process.communicate()


def test_a_body_of_unknown_length_is_refused_as_soon_as_it_is_too_large() -> None:
    part = {"type": "http.request", "body": b"a" * 60, "more_body": True}
    sent = asyncio.run(ask([part, part], ServeConfig(most_bytes=100)))
    assert sent[0]["status"] == 413


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    part = {"type": "http.request", "body": b"{", "more_body": True}
    assert asyncio.run(ask([part], ServeConfig(timeout=0.01)))[0]["status"] == 408
    assert asyncio.run(ask([{"type": "http.disconnect"}], ServeConfig())) == []


def test_without_its_packages_serve_says_what_to_install(random: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(AmzrecError, match=r"pip install 'amzrec\[serve\]'"):
        serve(random)


@pytest.mark.parametrize("settings", [{"kinds": "view"}, {"kinds": "view=-1"}, {"share": 1.5}, {"token": " "}], ids=str)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(AmzrecError, match=f"--{next(iter(settings))} is"):
        ServeConfig(**settings)


def test_a_run_of_which_a_byte_has_changed_is_not_served(checkerboard: Path, tmp_path: Path) -> None:
    dataset = open_dataset(checkerboard)
    run = write_run(tmp_path / "run", dataset, parity_vectors(dataset))
    file = run.path / "vectors" / "retrieval_candidate.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(AmzrecError, match=r"retrieval_candidate\.npy"), served(run.path, ServeConfig(events="none")):
        pass
