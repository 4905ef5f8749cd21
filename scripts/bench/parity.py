"""Whether all ways to ask a run give one answer: the command line, Python, the service, the SavedModel, ScaNN.

    python scripts/bench/parity.py RUN --customers 1000

The same questions, of customers known and unknown, with exclusions, what is liked, `only`, `never`, `at_most` and
variety, go every way that can ask them. Python's answers are what the others are compared with; an answer is the same
where scores and stars are equal up to the order of summation, and so are the products, but for ties. ScaNN is asked
plain questions, and counted by how many of the exact answers it finds.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

import amzrec
from amzrec.answers.recommender import Recommender
from amzrec.cli.app import app
from amzrec.exports.check import SAVED_MODEL, SCANN_MODEL
from tables import markdown

NEAR = 1e-4  # relative difference between float32 sums taken in another order
MANY = 250  # questions in one request, or one batch of a model


@dataclasses.dataclass(frozen=True)
class Question:
    """Flags of `amzrec recommend`."""

    customer: str
    k: int = 10
    liked: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    at_most: tuple[str, ...] = ()
    diversify: float = 0.0

    @property
    def options(self) -> dict[str, Any]:
        """What is asked beside the customer and k, as keywords of `amzrec.recommend`."""
        lists = {name: list(getattr(self, name)) for name in ("liked", "exclude", "only", "never", "at_most")}
        return lists | {"diversify": self.diversify}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One product of an answer."""

    product: str
    score: float
    stars: float | None


Answer = list[Entry]
Route = Callable[[Sequence[Question]], list[Answer]]
Post = Callable[[str, Any], Any]  # a route of the service and a body → the answer


def entries(listed: Sequence[dict[str, Any]]) -> Answer:
    """Take an answer from the list of a document."""
    return [Entry(each["product_id"], each["score"], each.get("stars")) for each in listed]


def python(run: Path) -> Route:
    """Ask `amzrec.load(run)`."""
    model = amzrec.load(run)
    return lambda asked: [
        entries(model.recommend(each.customer, each.k, **each.options).to_dict("records")) for each in asked
    ]


def command_line(run: Path) -> Route:
    """Ask `amzrec recommend --json`, in this process: starting one takes longer than answering."""

    def ask(question: Question) -> Answer:
        words = [
            "recommend",
            "--run",
            str(run),
            "--json",
            "-k",
            str(question.k),
            "--diversify",
            str(question.diversify),
        ]
        for name in ("liked", "exclude", "only", "never", "at_most"):
            for value in getattr(question, name):
                words += ["--" + name.replace("_", "-"), value]
        done = CliRunner().invoke(app, [*words, "--", question.customer])
        if done.exit_code:
            raise RuntimeError(done.output)
        return entries(json.loads(done.stdout)["recommendations"])

    return lambda asked: [ask(each) for each in asked]


def service(post: Post) -> Route:
    """Ask POST /recommend, many at a time."""

    def ask(asked: Sequence[Question]) -> list[Answer]:
        bodies = [{"customer_id": each.customer, "k": each.k, **each.options} for each in asked]
        found: list[Answer] = []
        for start in range(0, len(bodies), MANY):
            found += [entries(each["recommendations"]) for each in post("/recommend", bodies[start : start + MANY])]
        return found

    return ask


def columns(call: Callable[[dict[str, Any]], dict[str, Any]]) -> Route:
    """Ask `recommend_by_rules` by columns; questions that differ in customers and exclusions alone are one batch."""

    def ask(asked: Sequence[Question]) -> list[Answer]:
        found: list[Answer] = [[] for _ in asked]
        batches: dict[Question, list[int]] = {}
        for place, each in enumerate(asked):
            batches.setdefault(dataclasses.replace(each, customer="", exclude=()), []).append(place)
        for rules, places in batches.items():
            for start in range(0, len(places), MANY):
                batch = places[start : start + MANY]
                wide = max(1, *(len(asked[place].exclude) for place in batch))
                limits = [each.partition("=") for each in rules.at_most]
                out = call(
                    {
                        "customer_id": [asked[place].customer for place in batch],
                        "k": rules.k,
                        "exclude": [[*asked[p].exclude, *[""] * (wide - len(asked[p].exclude))] for p in batch],
                        "diversify": rules.diversify,
                        "at_most": [name for name, _, _ in limits] or [""],
                        "at_most_count": [int(most) for _, _, most in limits] or [1],
                        "only": list(rules.only) or [""],
                        "never": list(rules.never) or [""],
                    }
                )
                stars = out.get("stars", [[None] * rules.k] * len(batch))
                for row, place in enumerate(batch):
                    line = zip(out["product_id"][row], out["score"][row], stars[row], strict=True)
                    found[place] = [Entry(*each) for each in list(line)[: out["count"][row]]]
        return found

    return ask


def saved_model(folder: Path, signature: str = "recommend_by_rules") -> Route:
    """Ask a SavedModel; by the signature `recommend`, rules are left out."""
    import tensorflow as tf

    if "scann" in folder.parts:
        import scann  # noqa: F401
    model = tf.saved_model.load(str(folder)).signatures[signature]
    names = model.structured_input_signature[1]

    def call(inputs: dict[str, Any]) -> dict[str, Any]:
        given = {name: tf.constant(value) for name, value in inputs.items() if name in names}
        out = {name: value.numpy() for name, value in model(**given).items()}
        texts = {name: [[text.decode() for text in line] for line in out[name]] for name in ("product_id", "title")}
        return {name: value.tolist() for name, value in out.items() if name not in texts} | texts

    return columns(call)


def tensorflow_serving(post: Post) -> Route:
    """Ask the address of TensorFlow Serving, which the service has as well."""
    path = "/v1/models/amzrec:predict"
    return columns(lambda inputs: post(path, {"signature_name": "recommend_by_rules", "inputs": inputs})["outputs"])


def difference(found: Answer, wanted: Answer) -> str | None:
    """Say in what an answer differs; products whose scores are equal up to rounding may change places."""
    if len(found) != len(wanted):
        return f"{len(found)} products and not {len(wanted)}"
    if len({each.product for each in found}) < len(found):
        return "a product twice"
    bound = NEAR * (1 + max((abs(each.score) for each in wanted), default=0))
    known = {each.product: each for each in wanted}
    for place, (mine, other) in enumerate(zip(found, wanted, strict=True), start=1):
        same = known.get(mine.product)
        if mine.product != other.product and abs((same or wanted[-1]).score - other.score) > bound:
            return f"{mine.product!r} at place {place} and not {other.product!r}"
        if abs(mine.score - (same or other).score) > bound:
            return f"the score {mine.score} of {mine.product!r} and not {(same or other).score}"
        if same and (mine.stars is None) != (same.stars is None):
            return "stars on one side only"
        if same and mine.stars is not None and same.stars is not None and abs(mine.stars - same.stars) > bound:
            return f"{mine.stars} stars of {mine.product!r} and not {same.stars}"
    return None


def questions(model: Recommender, customers: int, rng: np.random.Generator) -> list[Question]:
    """Make questions for this many customers, every tenth of them unknown: plain ones, and all flags in turn."""
    vectors, products = model.vectors, np.asarray(model.candidates)
    rows = rng.choice(
        np.arange(1, len(vectors.customer_ids)), customers, replace=customers >= len(vectors.customer_ids)
    )
    names = [f"nobody {n}" if n % 10 == 9 else vectors.customer_ids[int(row)] for n, row in enumerate(rows)]
    ids = [vectors.product_ids[int(row)] for row in rng.choice(products, min(50, len(products)), replace=False)]
    turns: list[dict[str, Any]] = [{}, {"k": 3}, {"liked": tuple(ids[:2])}, {"diversify": 0.3}]
    if vectors.features:
        counts = np.bincount(model.vectors.features_of_products.items, minlength=len(vectors.features))
        usual = [vectors.features[int(row)] for row in np.argsort(-counts, kind="stable")[:2]]
        turns += [{"only": (usual[0],)}, {"never": (usual[0],)}, {"at_most": (f"{usual[0].partition('=')[0]}=2",)}]
        turns += [{"only": (usual[0],), "never": (usual[1],), "diversify": 0.5}]
    best = [line[0].product if line else ids[0] for line in python_of(model)([Question(name, 1) for name in names])]
    asked = []
    for n, name in enumerate(names):
        exclude = () if n % 2 else (best[n], *ids[2 : 2 + n % 7])  # what would come first, and others
        asked.append(Question(name, exclude=exclude, **turns[(n // 2) % len(turns)]))
    return asked


def python_of(model: Recommender) -> Route:
    """Ask vectors that are open already."""
    from amzrec.answers.lists import Wanted, best_products

    def ask(question: Question) -> Answer:
        return entries(best_products(model, question.customer, Wanted(k=question.k))["recommendations"])

    return lambda asked: [ask(each) for each in asked]


@contextlib.contextmanager
def serving(run: Path) -> Iterator[Post]:
    """Start `amzrec serve`, without events, and give what posts to it."""
    command = [sys.executable, "-m", "amzrec", "serve", str(run), "--port", "0", "--events", "none", "--no-access-log"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        address = next(found[1] for line in process.stderr if (found := re.search(r" at (http://\S+)", line)))

        def post(route: str, body: Any) -> Any:
            text = json.dumps(body).encode()
            request = urllib.request.Request(address + route, text, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)

        yield post
    finally:
        process.terminate()
        process.wait(timeout=60)


def compared(run: Path, export: Path, post: Post, asked: Sequence[Question]) -> list[list[Any]]:
    """Ask all routes, and tell of each how many answers are those of Python, its seconds, and what differs first."""
    wanted = python(run)(asked)
    folds = [place for place, each in enumerate(asked) if not each.liked]
    every = range(len(asked))
    routes: dict[str, tuple[Sequence[int], Callable[[], Route]]] = {
        "amzrec recommend --json": (every, lambda: command_line(run)),
        "amzrec serve, /recommend": (every, lambda: service(post)),
        "amzrec serve, /v1/models/amzrec:predict": (folds, lambda: tensorflow_serving(post)),
        SAVED_MODEL: (folds, lambda: saved_model(export / SAVED_MODEL)),
    }
    if (export / SCANN_MODEL).exists():
        routes[f"{SCANN_MODEL}, by rules"] = (folds, lambda: saved_model(export / SCANN_MODEL))
    rows = []
    for name, (places, route) in routes.items():
        answer = route()
        start = time.perf_counter()
        found = answer([asked[place] for place in places])
        seconds = time.perf_counter() - start
        faults = [
            (asked[place], fault)
            for mine, place in zip(found, places, strict=True)
            if (fault := difference(mine, wanted[place]))
        ]
        rows.append([name, f"{len(places) - len(faults):,} of {len(places):,}", f"{seconds:.1f}", *faults[:1]])
    return rows


def recall(run: Path, export: Path, asked: Sequence[Question]) -> float:
    """Share of the exact answers to plain questions that the SavedModel with ScaNN finds."""
    plain = [dataclasses.replace(Question(each.customer, each.k), exclude=each.exclude) for each in asked]
    wanted, found = python(run)(plain), saved_model(export / SCANN_MODEL, "recommend")(plain)
    hits = sum(
        len({each.product for each in mine} & {each.product for each in exact})
        for mine, exact in zip(found, wanted, strict=True)
    )
    return hits / sum(map(len, wanted))


def main() -> None:
    """Compare, print, and end with 1 where an answer differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--customers", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    model = amzrec.load(chosen.run).recommender
    asked = questions(model, chosen.customers, np.random.default_rng(chosen.seed))
    with tempfile.TemporaryDirectory() as folder, serving(chosen.run) as post:
        export = amzrec.export(chosen.run, Path(folder) / "export")
        rows = compared(chosen.run, export, post, asked)
        found = recall(chosen.run, export, asked) if (export / SCANN_MODEL).exists() else None
    print(markdown(["asked by", "as from Python", "seconds"], [row[:3] for row in rows]))
    if found is not None:
        print(f"\nScaNN, {len(model.candidates):,} products: recall {found:.4f} of plain questions")
    faults = [f"{row[0]}: {fault} ({question})" for row in rows for question, fault in row[3:]]
    print("\n".join(faults), file=sys.stderr)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
