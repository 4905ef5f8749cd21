"""The page in a real Chromium: found, asked, clicked and typed as people do, also without a mouse, and hostile data."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

import amzrec
from amzrec.answers.names import beginning_with, ids_beginning_with
from amzrec.answers.recommender import Recommender
from amzrec.commands.evaluate import evaluate
from amzrec.commands.recommend import recommend
from amzrec.commands.similar import similar
from amzrec.config import ServeConfig
from amzrec.page.files import PARTS
from amzrec.page.summary import computed
from amzrec.store.dataset import open_dataset
from amzrec.store.run import Run, open_run
from amzrec.store.strings import Strings
from runs import random_vectors, write_run
from services import served, started
from test_plots import HISTORY

IDS = [
    "a/b",
    "..",
    ".",
    " ",
    "line\nbreak",
    "\u202eabc",
    "100 %",
    "<b>bold</b>",
    "?q=1#x",
    "ünï",
    "a",
    "ab",
    "%2F",
    "'\"`",
]
TITLES = [
    "<script>window.owned = 1</script>",
    "<img src=x onerror='window.owned = 1'>",
    "\" onmouseover='window.owned = 1",
    "${window.owned = 1}",
    "\u202ebackwards",
    "</title><svg onload=window.owned=1>",
    "",
    "  ",
    "long" * 200,
]


@pytest.fixture(scope="module")
def run(checkerboard: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The checkerboard with random vectors, evaluated, and with a history of its training."""
    dataset = open_dataset(checkerboard)
    made = write_run(
        tmp_path_factory.mktemp("page") / "board",
        dataset,
        random_vectors(dataset, np.random.default_rng(3)),
        best_epochs={"rating": 2, "retrieval": 2},
        recipe={"dim": 6, "preset": "full"},
    )
    (made.path / "history.csv").write_text(HISTORY)
    evaluate(made)
    return open_run(made.path)


@pytest.fixture(scope="module")
def hostile(checkerboard: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same with ids and titles that try to be markup, paths or nothing at all; it was not evaluated."""
    dataset = open_dataset(checkerboard)
    vectors = dataclasses.replace(
        random_vectors(dataset, np.random.default_rng(3)),
        customer_ids=Strings.of(["", *(IDS + [f"c{n:02}" for n in range(20)])[:20]]),
        product_ids=Strings.of(["", *(IDS + [f"p{n:02}" for n in range(20)])[:20]]),
        titles=Strings.of(["", *(TITLES + [f"Plain {n}" for n in range(20)])[:20]]),
    )
    return write_run(tmp_path_factory.mktemp("hostile") / "<i>run", dataset, vectors)


# --- what the page asks


def test_customers_are_found_by_the_beginning_of_their_id(hostile: Run) -> None:
    ids = [hostile.vectors.customer_ids[row] for row in range(1, 21)]
    with served(hostile.path, ServeConfig(events="none")) as client:
        for q in ["", "a", "c", "c0", "c01", "%", "..", " ", "line\n", "ü", "nobody", "\u202e"]:
            wanted = sorted((name for name in ids if name.startswith(q)), key=str.encode)[:5]
            found = client.get("/customers", params={"q": q, "k": 5}).json()["customers"]
            assert [entry["customer_id"] for entry in found] == wanted, q
        for name in ids:
            (entry,) = [e for e in client.get("/customers", params={"q": name}).json()["customers"][:1]]
            known = client.post("/customers", json={"customer_id": name}).json()
            assert known["customer_id"] == name
            assert client.post("/customers", json=[{"customer_id": name}]).json() == [known]
            assert entry["reviews"] == len(known["history"]) == 12
    assert ids_beginning_with("", Strings.of(["", "b", "a"]), 1) == [2]  # row 0 takes no place


def test_products_are_found_by_words_inside_their_title_after_those_that_begin_so() -> None:
    board = ["", "Red tent", "Blue Tent", "tent", "Tenth red", "x", "é Tent"]
    vectors: Any = type("Vectors", (), {"titles": Strings.of(board), "product_ids": Strings.of(list("0123456"))})
    found = beginning_with("tent", vectors, 10)
    assert found == [3, 4, 1, 2, 6]
    assert beginning_with("red", vectors, 10) == [1, 4]
    assert beginning_with("tent", vectors, 3) == [3, 4, 1]
    assert beginning_with("ttent", vectors, 3) == []  # "… tent" + "tent": over the end of a title
    untitled: Any = type("Vectors", (), {"titles": Strings.of([""] * 3), "product_ids": Strings.of(["", "ab", "abc"])})
    assert beginning_with("a", untitled, 5) == [1, 2]


def test_the_files_of_the_page_are_open_and_may_load_themselves_alone(run: Run) -> None:
    with served(run.path, ServeConfig(events="none", token="s3cret")) as client:
        for path in ("/", *(f"/page/{name}" for name in PARTS)):
            answer = client.get(path, headers={"Authorization": ""})
            assert answer.status_code == 200
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
        assert client.get("/").headers["Content-Type"].startswith("text/html")
        for path in ("/model", "/customers", "/run", "/page/other.js", "/page/"):
            assert client.get(path, headers={"Authorization": ""}).status_code == 401
        assert client.get("/page/..%2f..%2fconfig.py").status_code == 404


def test_figures_that_come_while_a_run_is_served_are_shown_and_those_of_another_run_are_not(
    checkerboard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, counted = open_dataset(checkerboard), list[object]()
    made = write_run(tmp_path / "run", dataset, random_vectors(dataset, np.random.default_rng(3)))

    def counting(model: Recommender) -> dict[str, Any]:
        counted.append(model)
        return computed(model)

    monkeypatch.setattr("amzrec.service.runs.computed", counting)
    with served(made.path, ServeConfig(events="none")) as client:
        assert "amzrec evaluate" in client.get("/model").json()["missing"]
        evaluate(made)
        found = client.get("/model").json()
        assert found["figures"]["systems"][0]["name"] == "model"
        assert found["shares"]["products"] == 20
        assert len(counted) == 1
        assert "served: run" in client.get("/model", params={"run": "other"}).json()["error"]
        document = json.loads((made.path / "run.json").read_text())
        (made.path / "run.json").write_text(json.dumps(document | {"finished": 2.0}))
        found = client.get("/model").json()
        assert (found["figures"], found["finished"]) == (None, 1.0)
        assert "reload" in found["missing"]


# --- the page itself


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright; skips, saying why, where one is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright comes with amzrec[dev]")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def serving(run: Run, *words: str, events: str = "none") -> Iterator[str]:
    """A process that serves a run, by its address."""
    process, address = started(run.path, "--events", events, "--no-access-log", *words)
    try:
        yield address
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def address(run: Run) -> Iterator[str]:
    with serving(run) as address:
        yield address


@pytest.fixture(scope="module")
def hostile_address(hostile: Run) -> Iterator[str]:
    with serving(hostile) as address:
        yield address


@contextlib.contextmanager
def opened(browser: Any, **options: Any) -> Iterator[Any]:
    """A page of its own; at the end nothing may have gone wrong in it, nor anything been asked of another host."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    page, wrong, hosts = context.new_page(), list[str](), set[str]()
    page.set_default_timeout(60_000)  # a busy machine is slow
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if line.type in ("error", "warning") else None)
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.on("request", lambda request: hosts.add(request.url.partition("//")[2].partition("/")[0]))
    try:
        yield page
        assert page.evaluate("window.owned") is None
        assert not re.search(r"\b(null|undefined|NaN|Infinity)\b|\[object", page.inner_text("body"))
        assert [line for line in wrong if "Failed to load resource" not in line] == []
        assert all(host.startswith("127.0.0.1:") or not host for host in hosts), hosts
    finally:
        context.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    with opened(browser) as page:
        yield page


def texts(page: Any, selector: str) -> list[str]:
    return [text.strip() for text in page.locator(selector).all_inner_texts()]


def names(page: Any) -> list[str]:
    """The titles in the list of recommendations, when it is there."""
    page.wait_for_selector(".products")
    return texts(page, ".products .name")


LISTED = "[...document.querySelectorAll('.products .name')].map((name) => name.innerText).join()"


def until(page: Any, expression: str) -> None:
    """Wait until JavaScript is true; Playwright's own way needs a policy that allows eval."""
    deadline = time.monotonic() + 60
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def until_listed(page: Any, titles: list[str]) -> None:
    """Wait until these are recommended, in this order."""
    until(page, f"{LISTED} === {json.dumps(titles)}.join()")


@pytest.mark.slow
def test_a_customer_is_found_by_typing_and_gets_history_recommendations_and_similar_products(
    page: Any, address: str, run: Run
) -> None:
    page.goto(address)
    page.get_by_role("combobox", name="Find a customer").fill("u0")
    page.wait_for_selector("[role=option]")
    assert page.locator("[role=option]").count() == 8
    page.get_by_role("option", name="u03").click()
    wanted = recommend("u03", run, k=10)["recommendations"]
    assert names(page) == [entry["title"] for entry in wanted]
    assert page.get_by_role("heading", level=1).inner_text() == "Customer u03"
    assert page.title() == "Customer u03 · amzrec"
    stars = page.locator(".products > li").first.locator(".visually-hidden", has_text="stars")
    assert stars.text_content() == f"{wanted[0]['stars']:.1f} of 5 stars"
    until(page, "[...document.querySelectorAll('.why')].every((why) => why.textContent)")
    history = texts(page, ".past li bdi")
    assert len(history) == 12
    assert {"Product 4", "Product 6", "Product 3"} <= set(history)
    button = page.get_by_role("button", name=f"Similar to {wanted[0]['title']}")
    assert button.get_attribute("aria-expanded") == "false"
    button.click()
    page.wait_for_selector(".similar li")
    assert button.get_attribute("aria-expanded") == "true"
    near = similar(wanted[0]["product_id"], run, k=5)["similar"]
    assert texts(page, ".similar li") == [entry["title"] for entry in near]
    button.click()
    assert page.locator(".similar li").first.is_hidden()
    page.get_by_label("Order by").select_option("stars")
    by_stars = [entry["title"] for entry in recommend("u03", run, k=10, sort="stars")["recommendations"]]
    until_listed(page, by_stars)


@pytest.mark.slow
def test_all_can_be_done_with_the_keyboard(page: Any, address: str) -> None:
    def focused() -> str:
        return str(page.evaluate("document.activeElement.id || document.activeElement.textContent"))

    page.goto(address)
    page.wait_for_selector(".chips")
    page.keyboard.press("Tab")
    assert focused() == "Skip to the content"
    assert page.locator(".skip").bounding_box()["y"] >= 0
    page.keyboard.press("Enter")
    assert focused() == "main"
    page.keyboard.press("Tab")
    assert focused() == "customer"
    page.keyboard.type("u1")
    page.wait_for_selector("#customer-1")
    until(page, "document.querySelectorAll('[role=option]').length === 8")
    field = page.locator("#customer")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert field.get_attribute("aria-activedescendant") == "customer-1"
    assert page.locator("#customer-1").get_attribute("aria-selected") == "true"
    page.keyboard.press("Escape")
    assert field.get_attribute("aria-expanded") == "false"
    page.keyboard.press("ArrowUp")
    page.wait_for_selector("[role=option]")
    page.keyboard.press("ArrowUp")  # the last one
    page.keyboard.press("Enter")
    page.wait_for_selector(".products")
    assert focused() == "Customer u17"
    page.locator("#customer").fill("u05")
    page.keyboard.press("Enter")  # as it is typed
    until(page, "document.activeElement.textContent === 'Customer u05'")
    page.go_back()
    until(page, "document.activeElement.textContent === 'Customer u17'")


@pytest.mark.slow
def test_a_new_customer_gets_answers_at_once_and_without_a_reload(page: Any, address: str, run: Run) -> None:
    page.goto(f"{address}/#/new")
    page.evaluate("window.same = true")
    page.get_by_role("button", name="Product 2", exact=True).click()
    assert names(page) == [e["title"] for e in recommend("new", run, k=10, liked=["p02"])["recommendations"]]
    field = page.get_by_role("combobox", name="Add a product")
    field.fill("product 5")
    page.get_by_role("option", name="Product 5").click()

    def wait_for(liked: list[str]) -> None:
        wanted = [entry["title"] for entry in recommend("new", run, k=10, liked=liked)["recommendations"]]
        until_listed(page, wanted)

    wait_for(["p02", "p05"])
    until(page, "document.querySelector('.why').textContent")
    before = names(page)
    page.get_by_label("Stars for Product 5").select_option("1")
    until(page, LISTED + f" !== {json.dumps(before)}.join()")
    page.get_by_role("button", name="Remove Product 2").click()
    page.get_by_role("button", name="Remove Product 5").click()
    page.wait_for_selector("text=Pick what the customer likes")
    field.fill("p07")
    page.wait_for_selector("[role=option]")
    page.keyboard.press("Enter")
    wait_for(["p07"])
    field.fill("no such product")
    page.keyboard.press("Enter")
    page.wait_for_selector(".hint.bad")
    assert "there is no product 'no such product'" in page.inner_text(".hint.bad")
    assert field.input_value() == "no such product"
    field.fill("")
    assert page.locator(".hint.bad").count() == 0
    assert page.evaluate("window.same")


@pytest.mark.slow
def test_the_model_is_shown_with_the_figures_that_were_measured(page: Any, address: str, run: Run) -> None:
    measured = json.loads((run.path / "metrics.json").read_text())
    page.goto(f"{address}/#/model")
    page.wait_for_selector(".tiles")
    assert texts(page, "h2") == [
        "Against the baselines",
        "What is recommended, what is bought",
        "By kind of customer and product",
        "Training",
        "Settings",
    ]
    shows_figures(page, measured)
    assert "Epoch 2 was kept: 0.9400." in page.inner_text("main")


def shows_figures(page: Any, measured: dict[str, Any]) -> None:
    """What was measured stands in tiles, charts and tables."""
    tiles = texts(page, ".tiles .value")
    model, baselines = measured["model"], measured["baselines"]
    assert tiles[0] == f"{model['rating']['rmse']:.3f}"
    assert tiles[1].startswith(f"{100 * model['retrieval']['top_10']:.1f}")
    assert tiles[3].startswith(f"{100 * model['ranking']['coverage@10']:.1f}")
    charts = [chart.get_attribute("aria-label") for chart in page.locator("svg[role=img]").all()]
    assert len(charts) == 7  # three of systems, one of shares, three of training
    assert f"Popularity {100 * baselines['popularity']['retrieval']['top_10']:.1f}" in charts[1]
    for fold in page.locator("details").all():
        fold.evaluate("(fold) => { fold.open = true; }")
    row = page.locator("table tr", has=page.get_by_role("rowheader", name="Product bias", exact=True)).first
    assert f"{baselines['product_bias']['rating']['rmse']:.4f}" in row.inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", IDS)
def test_any_id_has_an_address_and_is_shown_as_text(page: Any, hostile_address: str, hostile: Run, name: str) -> None:
    page.goto(f"{hostile_address}/#/customer/{quote(name, safe='')}")
    page.wait_for_selector(".past")
    assert page.locator(".past li").count() == 12
    assert page.locator(".badge").inner_text() == "answered from the model"
    heading = page.locator("h1").inner_text()
    assert heading not in ("Customer", "Customer ")
    if name.isprintable() and name.strip():
        assert heading == f"Customer {name}"
    wanted = recommend(name, hostile, k=10)["recommendations"]
    assert page.locator(".products > li").count() == len(wanted) > 0


@pytest.mark.slow
def test_titles_are_texts_wherever_they_stand(page: Any, hostile_address: str, hostile: Run, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 375, "height": 800})
    page.goto(f"{hostile_address}/#/customer/a")
    names(page)
    until(page, "[...document.querySelectorAll('.why')].every((why) => why.textContent)")
    for button in page.locator(".products > li > button").all():
        button.click()
    until(page, "document.querySelectorAll('.similar li').length >= 40")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    shown = page.inner_text("main")
    assert "<script>window.owned = 1</script>" in shown
    page.goto(f"{hostile_address}/#/new")
    page.locator("#product").fill("<")
    page.get_by_role("option", name="<script>").click()
    names(page)
    for product in IDS[1:4]:
        page.locator("#product").fill(product)
        page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('.picks li').length === 4")
    page.goto(f"{hostile_address}/#/model")
    page.wait_for_selector(".most")
    assert "amzrec evaluate" in page.inner_text(".empty")
    assert "null" not in page.inner_text("main")
    page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true;")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.locator("main script, main img, main svg[onload]").count() == 0
    report = amzrec.report(hostile, tmp_path / "report.html")
    page.goto(report.as_uri())
    page.wait_for_selector(".most")
    assert page.locator("h1").inner_text() == "Model <i>run"


@pytest.mark.slow
def test_each_of_two_runs_is_shown_and_one_of_clicks_has_no_stars(
    page: Any, run: Run, checkerboard: Path, tmp_path: Path
) -> None:
    dataset = open_dataset(checkerboard)
    vectors = random_vectors(dataset, np.random.default_rng(4))
    nan = np.full(len(vectors.seen_stars), np.nan, np.float32)
    clicks = dataclasses.replace(vectors, head=dataclasses.replace(vectors.head, mean=None), seen_stars=nan)
    made = write_run(tmp_path / "clicks", dataset, clicks)
    with serving(made, "--also", str(run.path), "--share", "0") as address:
        page.goto(f"{address}/#/customer/u03")
        assert names(page) == [entry["title"] for entry in recommend("u03", made, k=10)["recommendations"]]
        page.wait_for_selector(".past li")
        assert page.locator(".stars").count() == 0
        page.goto(f"{address}/#/new")
        page.get_by_role("button", name="Product 2", exact=True).click()
        names(page)
        assert page.locator(".picks select").count() == 0
        page.goto(f"{address}/#/model")
        page.wait_for_selector(".most")
        assert page.locator(".tiles").count() == 0
        page.get_by_label("Run").select_option("board")
        page.wait_for_selector(".tiles")
        assert page.locator("h1").inner_text() == "Model board"


@pytest.mark.slow
def test_events_are_shown_and_stars_of_other_scales_are_written(page: Any, checkerboard: Path, tmp_path: Path) -> None:
    dataset = open_dataset(checkerboard)
    vectors = random_vectors(dataset, np.random.default_rng(4))
    tens = dataclasses.replace(vectors, head=dataclasses.replace(vectors.head, low=0.5, high=10.0))
    made = write_run(tmp_path / "tens", dataset, tens)
    with serving(made, events=str(tmp_path / "events.db")) as address:
        event = {"customer_id": "fresh", "product_id": "p03", "kind": "purchase"}
        ask = urllib.request.Request(
            f"{address}/events", json.dumps(event).encode(), {"Content-Type": "application/json"}
        )
        assert json.load(urllib.request.urlopen(ask))["stored"] == 1
        page.goto(f"{address}/#/customer/fresh")
        page.wait_for_selector(".past li")
        assert texts(page, ".past li") == ["Product 3\npurchase"]
        assert page.locator(".badge").inner_text() == "answered from events"
        names(page)
        assert all(text.endswith("of 10") for text in texts(page, ".products .stars [aria-hidden]:not(.star)"))
        page.goto(f"{address}/#/new")
        page.get_by_role("button", name="Product 2", exact=True).click()
        page.wait_for_selector(".picks select")
        assert texts(page, ".picks option")[1:] == [f"★ {n}" for n in range(10, 0, -1)]


@pytest.mark.slow
def test_unknown_customers_are_told_and_get_what_is_popular(page: Any, address: str) -> None:
    page.goto(f"{address}/#/customer/nobody")
    names(page)
    page.wait_for_selector(".badge")
    assert page.locator(".badge").inner_text() == "not known"
    until(page, "document.querySelector('.why').textContent")
    assert set(texts(page, ".why")) == {"Popular with everyone"}


@pytest.mark.slow
def test_a_token_is_asked_for_and_kept_for_the_tab_alone(page: Any, run: Run) -> None:
    with serving(run, "--token", "s3cret") as address:
        page.goto(f"{address}/#/customer/u03")
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=That was not the token")
        page.get_by_label("Token").fill("s3cret")
        page.keyboard.press("Enter")
        names(page)
        assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
        page.reload()
        names(page)


@pytest.mark.slow
def test_a_service_that_does_not_answer_is_told_and_asked_again(page: Any, address: str) -> None:
    page.goto(f"{address}/#/customer/u03")
    names(page)
    page.route("**/recommend", lambda route: route.abort())
    page.get_by_label("Order by").select_option("blend")
    page.wait_for_selector("[role=alert]")
    assert "does not answer" in page.inner_text("[role=alert]")
    page.unroute("**/recommend")
    page.get_by_role("button", name="Try again").click()
    names(page)


@pytest.mark.slow
def test_a_report_shows_the_same_without_a_server_and_without_a_network(browser: Any, run: Run, tmp_path: Path) -> None:
    report = amzrec.report(run, tmp_path / "report.html")
    measured = json.loads((run.path / "metrics.json").read_text())
    with opened(browser, offline=True) as page:
        page.goto(report.as_uri())
        page.wait_for_selector(".tiles")
        shows_figures(page, measured)
        assert page.title() == "board · amzrec report"


# --- who cannot see or point, and where there is little room


def views(page: Any, address: str, report: Path) -> Iterator[str]:
    """Open each view in turn, with all that can be opened."""
    page.goto(address)
    page.wait_for_selector(".chips")
    yield "start"
    page.locator("#customer").fill("u")
    page.wait_for_selector("[role=option]")
    page.keyboard.press("ArrowDown")
    yield "suggestions"
    page.goto(f"{address}/#/customer/u03")
    names(page)
    page.locator(".products > li > button").first.click()
    page.wait_for_selector(".similar li")
    yield "customer"
    page.goto(f"{address}/#/new")
    page.wait_for_selector(".chips")
    yield "new customer"
    page.get_by_role("button", name="Product 2", exact=True).click()
    names(page)
    yield "new customer with a product"
    page.route("**/recommend", lambda route: route.abort())
    page.goto(f"{address}/#/customer/u05")
    page.wait_for_selector("[role=alert]")
    page.unroute("**/recommend")
    yield "problem"
    page.route("**/recommend", lambda route: route.fulfill(status=401, json={}))
    page.goto(f"{address}/#/customer/u04")
    page.wait_for_selector("#token")
    page.unroute("**/recommend")
    yield "token"
    for place in (f"{address}/#/model", report.as_uri()):
        page.goto(place)
        page.wait_for_selector(".tiles")
        page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true;")
        yield "model"


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_window(
    browser: Any, address: str, run: Run, tmp_path: Path, scheme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe comes with amzrec[dev]").Axe()
    report = amzrec.report(run, tmp_path / "report.html")
    with opened(
        browser, color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce"
    ) as page:
        for view in views(page, address, report):
            found = axe.run(page)
            assert found.violations_count == 0, f"{view}: {found.generate_report()}"
            assert len(found.response["passes"]) > 15, view
            assert page.evaluate("document.documentElement.scrollWidth") <= width, view
        page.evaluate("document.querySelector('main').append(document.createElement('input'))")
        assert axe.run(page).violations_count == 1  # it does look


def test_the_page_needs_nothing_from_elsewhere(run: Run) -> None:
    with served(run.path, ServeConfig(events="none")) as client:
        for path in ("/", *(f"/page/{name}" for name in PARTS)):
            text = client.get(path).text.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
            assert "http" not in text
            assert not re.search(r"""(src|href)=["']/""", text)  # not even the root: a proxy may give it a folder
