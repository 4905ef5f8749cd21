"""Every way to ask a run gives one answer: the command line, Python, the service and the exported models."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import parity
from amzrec.answers.recommender import Recommender
from amzrec.commands.export import export
from amzrec.config import ServeConfig
from amzrec.exports import check
from amzrec.exports.check import SAVED_MODEL, SCANN_MODEL
from amzrec.store.dataset import open_dataset
from amzrec.store.memory import Memory
from amzrec.store.run import Run
from amzrec.store.strings import Strings
from conftest import ROOT, add_features, write_checkerboard
from parity import Answer, Entry, Question, Route, difference
from runs import random_vectors, write_run
from services import served

ODD = {3: "Zoë", 4: "a\nb", 5: "a\\nb", 6: " 007"}  # ids of customers, by row
CUSTOMERS = ["u00", "u07", *ODD.values(), "nobody"]
QUESTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "few": {"k": 2},
    "more than there are": {"k": 50},
    "exclusions": {"exclude": ("p00", "p05", "no such product", "p11")},
    "only": {"only": ("colour=red", "size=1", "size=2")},
    "never": {"never": ("colour=red",), "exclude": ("p01",)},
    "at most": {"at_most": ("colour=2", "size=1"), "k": 8},
    "variety": {"diversify": 0.4, "never": ("size=0",)},
    "liked": {"liked": ("p02", "p04"), "only": ("colour=blue",)},
}
FOLDS = [name for name, options in QUESTIONS.items() if "liked" not in options]
ROUTES = {
    "cli": [*QUESTIONS],
    "service": [*QUESTIONS],
    "serving": FOLDS,
    SAVED_MODEL: FOLDS,
    SCANN_MODEL: FOLDS,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Random vectors with a memory, short histories, features of products, and ids of all sorts."""
    folder = tmp_path_factory.mktemp("parity")
    board = write_checkerboard(folder / "board")
    features = [[f"colour={('red', 'blue')[p % 2]}", *[f"size={p % 3}"] * (p < 15)] for p in range(20)]
    add_features(board, [[], *features])
    dataset = open_dataset(board)
    rng = np.random.default_rng(6)
    vectors = random_vectors(dataset, rng)
    pairs = rng.choice(20 * 20, 150, replace=False)
    memory = Memory.of_pairs(1 + pairs // 20, 1 + pairs % 20, np.abs(rng.normal(size=150)), 21)
    kept = rng.random(len(vectors.seen_product)) < 0.5
    offsets = np.concatenate([[0], np.cumsum(kept)])[vectors.seen_offsets].astype(np.int64)
    short = {name: getattr(vectors, name)[kept] for name in ("seen_product", "seen_stars", "seen_part")}
    ids = [ODD.get(row, vectors.customer_ids[row]) for row in range(len(vectors.customer_ids))]
    vectors = dataclasses.replace(
        vectors,
        **short,
        seen_offsets=offsets,
        head=dataclasses.replace(vectors.head, memory_fade=0.7, memory_last=4, memory_per_log=1.5),
        memory_offsets=memory.neighbours.offsets,
        memory_items=memory.neighbours.items,
        memory_weights=9 * memory.weights,
        customer_ids=Strings.of(ids),
    )
    return write_run(folder / "run", dataset, vectors)


@pytest.fixture(scope="module")
def exported(run: Run) -> Path:
    """Its export, compared here and not in a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "check_export", lambda folder, vectors, scann: 0)
        return export(run, run.path.parent / "out")


@pytest.fixture(scope="module")
def post(run: Run) -> Iterator[parity.Post]:
    """The service of the run."""
    with served(run.path, ServeConfig(events="none")) as client:

        def send(route: str, body: Any) -> Any:
            response = client.post(route, json=body)
            assert response.status_code == 200, response.text
            return response.json()

        yield send


@pytest.fixture(scope="module")
def routes(run: Run, exported: Path, post: parity.Post) -> dict[str, Route]:
    """All ways to ask."""
    found = {
        "cli": parity.command_line(run.path),
        "service": parity.service(post),
        "serving": parity.tensorflow_serving(post),
        SAVED_MODEL: parity.saved_model(exported / SAVED_MODEL),
    }
    if (exported / SCANN_MODEL).exists():
        found[SCANN_MODEL] = parity.saved_model(exported / SCANN_MODEL)
    return found


@pytest.fixture(scope="module")
def wanted(run: Run) -> dict[str, list[Answer]]:
    """What Python answers, by question."""
    ask = parity.python(run.path)
    return {name: ask([Question(each, **options) for each in CUSTOMERS]) for name, options in QUESTIONS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
def test_every_route_gives_the_answer_of_python(
    routes: dict[str, Route], wanted: dict[str, list[Answer]], route: str
) -> None:
    if route not in routes:
        pytest.skip("the export holds no ScaNN here")
    for name in ROUTES[route]:
        found = routes[route]([Question(each, **QUESTIONS[name]) for each in CUSTOMERS])
        for customer, mine, exact in zip(CUSTOMERS, found, wanted[name], strict=True):
            fault = difference(mine, exact)
            assert fault is None, f"{name}, {customer!r}: {fault}"


def test_the_questions_ask_for_different_things(wanted: dict[str, list[Answer]]) -> None:
    first = {name: [entry.product for entry in answers[0]] for name, answers in wanted.items()}
    assert len({tuple(ids) for ids in first.values()}) == len(QUESTIONS)
    assert all(first.values())
    assert len({tuple(entry.product for entry in answer) for answer in wanted["plain"]}) == len(CUSTOMERS)


@pytest.mark.slow
def test_a_process_of_its_own_prints_the_same_document(run: Run, wanted: dict[str, list[Answer]]) -> None:
    command = [sys.executable, "-m", "amzrec", "recommend", "a\nb", "--run", str(run.path), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    found = parity.entries(json.loads(done.stdout)["recommendations"])
    assert difference(found, wanted["plain"][CUSTOMERS.index("a\nb")]) is None


def test_the_questions_of_the_script_use_every_flag_and_unknown_customers(run: Run) -> None:
    many = parity.questions(Recommender(run.vectors), 40, np.random.default_rng(0))
    assert sum(each.customer.startswith("nobody") for each in many) == 4
    assert {name for each in many for name, value in each.options.items() if value} == {*many[0].options}


EXACT = [Entry("a", 3.0, 4.5), Entry("b", 2.0, 4.0), Entry("c", 2.0, 1.0), Entry("d", 1.0, 2.0)]
ALTERED: dict[str, tuple[Answer, str | None]] = {
    "the same": (EXACT, None),
    "ties in another order": ([EXACT[0], EXACT[2], EXACT[1], EXACT[3]], None),
    "a tie at the end": ([*EXACT[:3], Entry("e", 1.0, 5.0)], None),
    "rounded": ([Entry("a", 3.00001, 4.50001), *EXACT[1:]], None),
    "short": (EXACT[:3], "3 products and not 4"),
    "repeated": ([*EXACT[:3], EXACT[0]], "twice"),
    "another order": ([EXACT[1], EXACT[0], *EXACT[2:]], "place 1 and not 'a'"),
    "another product": ([Entry("e", 9.0, 4.5), *EXACT[1:]], "place 1 and not 'a'"),
    "another score": ([Entry("a", 3.01, 4.5), *EXACT[1:]], "the score 3.01"),
    "a worse product at the end": ([*EXACT[:3], Entry("e", 0.5, 5.0)], "the score 0.5"),
    "other stars": ([Entry("a", 3.0, 4.6), *EXACT[1:]], "4.6 stars"),
    "no stars": ([Entry("a", 3.0, None), *EXACT[1:]], "one side"),
}


@pytest.mark.parametrize("name", ALTERED)
def test_differences_are_noticed_and_ties_are_none(name: str) -> None:
    found, says = ALTERED[name]
    fault = difference(found, EXACT)
    assert fault is None if says is None else fault is not None and says in fault
