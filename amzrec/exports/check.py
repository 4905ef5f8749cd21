"""The check of an export: a clean process loads it, and must answer a sample of customers as the vectors do."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.answers.recommender import Recommender
from amzrec.answers.scann import ScannIndex
from amzrec.arrays import Floats, Rows
from amzrec.errors import AmzrecError
from amzrec.exports.questions import questions
from amzrec.store.vectors import Vectors

SAVED_MODEL = "saved_model"
SCANN_MODEL = "scann/saved_model"
SCANN_INDEX = "scann/index"
SAMPLE = 64  # customers that are asked in the clean process
DEPTH = 10  # recommendations that each of them gets
NEAR = 1e-4  # relative difference between float32 sums taken in another order
RECALL = 0.8  # least share of the exact answer that an approximate index must find; .95 to .98 is usual

# Runs in a process of its own, which imports TensorFlow and scann only.
ASK = """\
import json, sys
import tensorflow as tf

folder, request = sys.argv[1], json.load(open(sys.argv[2]))

def plain(found):
    texts = lambda value: [texts(v) if isinstance(v, list) else v.decode() for v in value]
    return {n: texts(v.numpy().tolist()) if v.dtype == tf.string else v.numpy().tolist() for n, v in found.items()}

answers = {}
for name in request["models"]:
    if name.startswith("scann"):
        import scann
    model = tf.saved_model.load(f"{folder}/{name}")
    customer = tf.constant(request["customers"])
    answers[name] = plain(model.signatures["recommend"](
        customer_id=customer, k=tf.constant(request["k"]), exclude=tf.constant(request["exclude"])))
    answers[name]["by_rules"] = [plain(model.signatures["recommend_by_rules"](
        customer_id=customer, k=tf.constant(request["k"]), exclude=tf.constant(request["exclude"]),
        **{n: tf.constant(value) for n, value in rules.items()})) for rules in request["rules"]]
    if "rate" in model.signatures:
        pairs = model.signatures["rate"](customer_id=customer, product_id=tf.constant(request["products"]))
        answers[name]["rated"] = plain(pairs)["stars"]
if request["index"]:
    index = scann.scann_ops_pybind.load_searcher(f"{folder}/{request['index']}")
    columns, scores = index.search_batched(tf.constant(request["queries"]).numpy(), request["k"])
    answers["index"] = {"columns": columns.tolist(), "scores": scores.tolist()}
assert "amzrec" not in sys.modules
json.dump(answers, open(sys.argv[3], "w"))
"""

Answer = dict[str, Any]  # what ASK writes for one model: the outputs of `recommend` as lists, `by_rules` and `rated`


@dataclasses.dataclass(frozen=True)
class Sample:
    """What the clean process is asked, and what the vectors answer."""

    customers: Rows  # [n]
    hidden: list[Rows]  # n arrays of product rows that must not be answered
    top: Rows  # [n, DEPTH] the exact answer
    top_scores: Floats  # [n, DEPTH]
    request: dict[str, Any]  # what ASK reads
    by_rules: list[tuple[Rows, Rows]]  # for each question: the candidates that it leaves out, and the answer [n, k]

    def names(self) -> list[str]:
        """The ids of the customers, in quotes."""
        return [f"customer {name!r}" for name in self.request["customers"]]


def check_export(folder: Path, vectors: Vectors, scann: bool) -> int:
    """Ask the exported models in a clean process, and return how many customers were asked.

    `scann` says whether there are a SavedModel and an index with ScaNN. Raises AmzrecError where an answer differs.
    """
    model = Recommender(vectors)
    sample = draw_sample(model, scann)
    answers = ask(folder, sample.request)
    for name in sample.request["models"]:
        all_faults = [*faults(answers[name], sample, model, exact=name == SAVED_MODEL)]
        all_faults += rule_faults(answers[name], sample, model)
        if all_faults:
            raise refused(f"does not answer as the vectors of the run: {all_faults[0]}", name)
    if scann:
        check_index(folder / SCANN_INDEX, answers["index"], sample, model)
    return len(sample.customers)


def refused(fault: str, name: str) -> AmzrecError:
    """Make the error for a part of an export that differs from the vectors."""
    return AmzrecError(f"the exported {name} {fault}. Nothing was written")


def draw_sample(model: Recommender, scann: bool) -> Sample:
    """Choose customers spread over all rows, the unknown one too; every second one excludes what would come first."""
    vectors = model.vectors
    customers = np.unique(np.linspace(0, len(vectors.customer_ids) - 1, SAMPLE).astype(np.int32))
    seen = [np.asarray(model.seen(int(row))[0]) for row in customers]
    queries = np.ascontiguousarray(vectors.retrieval_query[customers])
    histories = [model.history(int(row)) for row in customers]
    first = model.retrieve(queries, 1, seen, histories)[0][:, 0]
    excluded = [int(row) if number % 2 else 0 for number, row in enumerate(first)]
    hidden = [np.append(rows, np.int32(row)) for rows, row in zip(seen, excluded, strict=True)]
    top, top_scores = model.retrieve(queries, DEPTH, hidden, histories)
    asked, k = questions(model), min(DEPTH, len(model.candidates))
    by_rules = [(each.left_out(model), each.answer(model, queries, k, hidden, histories)) for each in asked]
    request = {
        "models": [SAVED_MODEL, SCANN_MODEL] if scann else [SAVED_MODEL],
        "index": SCANN_INDEX if scann else None,
        "customers": [vectors.customer_ids[row] for row in customers],
        "products": [vectors.product_ids[row] for row in first],
        "exclude": [[vectors.product_ids[row]] for row in excluded],
        "queries": queries.tolist(),
        "k": k,
        "rules": [question.inputs() for question in asked],
    }
    return Sample(customers, hidden, top, top_scores, request, by_rules)


def ask(folder: Path, request: dict[str, Any]) -> dict[str, Answer]:
    """Return the answers of the exported folder, loaded by a Python process that has never seen amzrec."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        request_file, answer_file = Path(scratch) / "request.json", Path(scratch) / "answer.json"
        request_file.write_text(json.dumps(request))
        places = [str(path.resolve()) for path in (folder, request_file, answer_file)]
        done = subprocess.run(
            [sys.executable, "-P", "-c", ASK, *places],
            env={n: v for n, v in os.environ.items() if n != "TF_USE_LEGACY_KERAS"} | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            cwd=scratch,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1]
            raise AmzrecError(f"the exported model does not load in a clean process: {last}. See: amzrec doctor")
        answers: dict[str, Answer] = json.loads(answer_file.read_text())
        return answers


def faults(answer: Answer, sample: Sample, model: Recommender, exact: bool) -> Iterator[str]:
    """Say what is wrong with the answer of one model; products whose scores are equal may change places.

    An answer that is not `exact` may miss some of the best products, but at most 1 - RECALL of them.
    """
    hits = 0
    for n, name in enumerate(sample.names()):
        count, wanted = int(answer["count"][n]), int((sample.top[n] > 0).sum())
        rows = rows_of(model, answer["product_id"][n][:count])
        if count != wanted:
            yield f"{name} gets {count} products and not {wanted}"
        elif not rows.all() or len(set(rows)) < count or np.isin(rows, sample.hidden[n]).any():
            yield f"{name} gets a product that is unknown, repeated, reviewed or excluded"
        else:
            yield from (f"{name} gets {fault}" for fault in customer_faults(answer, sample, model, n, exact))
        hits += len(set(rows) & set(sample.top[n]))
    if "rated" in answer:
        rows = rows_of(model, sample.request["products"])
        if not close(answer["rated"], model.rate(model.vectors.rating_query[sample.customers], rows)):
            yield "rate predicts other stars"
    total = int((sample.top > 0).sum())
    if hits < RECALL * total:
        yield f"it finds only {hits} of {total} of the exact answers"


def rule_faults(answer: Answer, sample: Sample, model: Recommender) -> Iterator[str]:
    """Say what is wrong with the answers by rules, in which one near tie may change all that comes after it."""
    for found, rules, (left_out, top) in zip(answer["by_rules"], sample.request["rules"], sample.by_rules, strict=True):
        for fault in faults(found, dataclasses.replace(sample, top=top), model, exact=False):
            yield f"{fault} (by the rules {rules})"
        rows = rows_of(model, [product for line in found["product_id"] for product in line])
        if np.isin(rows, left_out).any():
            yield f"a product that the rules {rules} leave out"


def customer_faults(answer: Answer, sample: Sample, model: Recommender, n: int, exact: bool) -> Iterator[str]:
    """Say what is wrong with the scores, titles and stars that customer n of the sample gets."""
    vectors, customer = model.vectors, sample.customers[n]
    count = int(answer["count"][n])
    rows = rows_of(model, answer["product_id"][n][:count])
    scores = np.asarray(answer["score"][n][:count], np.float32)
    if not close(scores, model.scores(int(customer), rows)):
        yield "scores that are not those of the products"
    if exact and not close(scores, sample.top_scores[n, :count]):
        yield f"{answer['product_id'][n][0]!r} first, which is not the best or not in order"
    if answer["title"][n][:count] != [vectors.titles[row] for row in rows]:
        yield "a title that belongs to another product"
    if "stars" in answer:
        query = np.repeat(vectors.rating_query[customer][None], count, axis=0)
        if not close(answer["stars"][n][:count], model.rate(query, rows)):
            yield "other stars"


def rows_of(model: Recommender, products: list[str]) -> Rows:
    """Find the rows of product ids, 0 for an unknown one."""
    return np.array([model.vectors.product_ids.find(product) or 0 for product in products], np.int32)


def check_index(folder: Path, answer: Answer, sample: Sample, model: Recommender) -> None:
    """Raise AmzrecError where the ScaNN index gives other scores, or too few of the best, or is not read by amzrec."""
    queries = np.asarray(sample.request["queries"], np.float32)
    scores = queries @ model.candidate_vectors.T  # [n, M]
    columns = np.asarray(answer["columns"])
    if not close(answer["scores"], np.take_along_axis(scores, columns, axis=1)):
        raise refused("does not give the scores of the vectors", SCANN_INDEX)
    votes = model.votes([model.history(int(row)) for row in sample.customers])
    top, _ = ScannIndex.load(folder).search(queries, DEPTH, sample.hidden, votes)
    hits = sum(len(set(mine[mine > 0]) & set(exact)) for mine, exact in zip(top, sample.top, strict=True))
    total = int((sample.top > 0).sum())
    if hits < RECALL * total:
        raise refused(f"finds only {hits} of {total} of the exact answers", SCANN_INDEX)


def close(answered: Any, expected: Any) -> bool:
    """Tell whether two float32 results are equal up to the order of summation."""
    bound = NEAR * (1 + float(np.abs(expected).max(initial=0)))
    return bool(np.allclose(answered, expected, rtol=NEAR, atol=bound))
