"""A trained run as a SavedModel that stock TensorFlow serves, and as a ScaNN index; both checked before they count."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from amzrec.answers.index import BRUTE_UNTIL, ScannIndex, without_scann
from amzrec.answers.recommender import Recommender
from amzrec.errors import SILENT, AmzrecError, Progress
from amzrec.store.folders import whole_folder
from amzrec.store.run import Run, open_run
from amzrec.store.vectors import Vectors, read_vectors

SAVED_MODEL = "saved_model"
SCANN_MODEL = "scann/saved_model"
SCANN_INDEX = "scann/index"
FACTS = "export.json"
SAMPLE = 64  # customers that are asked in the clean process
DEPTH = 10  # recommendations that each of them gets
NEAR = 1e-4  # relative difference between float32 sums taken in another order
RECALL = 0.8  # least share of the exact answer that an approximate index must find; .95 to .98 is usual

README = """\
# An exported recommender

`saved_model/` needs stock TensorFlow 2 and nothing else:

```python
import tensorflow as tf

model = tf.saved_model.load("saved_model")
answer = model.signatures["recommend"](
    customer_id=tf.constant(["A1", "somebody new"]),  # [B]; unknown customers get what is popular
    k=tf.constant(10),  # at most this many each
    exclude=tf.constant([[""], [""]]),  # [B, any width] product ids to leave out, "" for none
)
for n in range(int(answer["count"][0])):
    product_id, title = (answer[name][0, n].numpy().decode() for name in ("product_id", "title"))
    print(product_id, title, answer["score"][0, n].numpy())
```

`recommend` (also `serving_default`) needs all three inputs. It leaves out what the customer reviewed. Lists with fewer
than k answers are padded with "" and 0; `count` says how many are real. Where the run learned stars, the answer holds
`stars` too, and `model.signatures["rate"](customer_id=..., product_id=...)` predicts those of given pairs.

TensorFlow Serving finds versions as numbered folders, so place the model as version 1:

    mkdir -p models/amzrec && cp -r saved_model models/amzrec/1
    tensorflow_model_server --rest_api_port=8501 --model_name=amzrec --model_base_path="$PWD/models/amzrec"
    curl localhost:8501/v1/models/amzrec:predict -d \\
      '{"signature_name": "recommend", "inputs": {"customer_id": ["A1"], "k": 10, "exclude": [[""]]}}'

`scann/`, where present, is the same with approximate search for large catalogues: `scann/saved_model/` has the same
signatures and needs a server, or a Python process after `import scann`, that carries the ScaNN ops; `scann/index/` is
read by `scann.scann_ops_pybind.load_searcher`, its answers are positions in `rows.npy`, which holds product rows.
"""

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
    if "rate" in model.signatures:
        pairs = model.signatures["rate"](customer_id=customer, product_id=tf.constant(request["products"]))
        answers[name]["rated"] = plain(pairs)["stars"]
if request["index"]:
    index = scann.scann_ops_pybind.load_searcher(f"{folder}/{request['index']}")
    place, score = index.search_batched(tf.constant(request["queries"]).numpy(), request["k"])
    answers["index"] = {"place": place.tolist(), "score": score.tolist()}
assert "amzrec" not in sys.modules
json.dump(answers, open(sys.argv[3], "w"))
"""

Rows = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


def export(
    run: Run | Path | str | None = None,
    out: Path | str = Path("export"),
    *,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Write `out/` with saved_model/, scann/ (where ScaNN can be used) and README.md, from the vectors of a run.

    Ends by loading all of it in a clean process and comparing its answers with the vectors on a sample of customers;
    AmzrecError, and no folder, where they differ or cannot be written. `overwrite` replaces an earlier export only.
    """
    run, out = open_run(run), Path(out)
    vectors = read_vectors(run.path, verify=True)
    if not len(vectors.candidates):
        raise AmzrecError(
            f"run {run.path} has no products to recommend, so there is nothing to export: train on reviews"
        )
    if overwrite and out.exists() and not (out / FACTS).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise AmzrecError(
            f"{out} is not an earlier export (it has no {FACTS}), so it is not replaced: choose another --out"
        )
    with whole_folder(out, overwrite, "export folder") as partial:
        kind = save(vectors, partial, progress)
        progress.step("export", 2, 3, "checking in a clean process")
        checked = compare(partial, vectors, kind is not None)
        facts = {
            "run": run.path.name,
            "products": len(vectors.candidates),
            "customers": len(vectors.customer_ids) - 1,
        }
        (partial / FACTS).write_text(json.dumps(facts | {"scann": kind, "checked_customers": checked}, indent=1))
        (partial / "README.md").write_text(README)
        progress.step("export", 3, 3, "done")
    progress.say(f"exported {facts['products']:,} products; checked on {checked} customers in a clean process: {out}")
    return out


def save(vectors: Vectors, folder: Path, progress: Progress) -> str | None:
    """Write the models and the index; returns how ScaNN searches, "all" or "approximate", or None without it."""
    from amzrec.exports.saved_model import Served, ServedScann, tf

    rated = Recommender(vectors).has_stars
    rows = np.ascontiguousarray(vectors.candidates)
    reason = without_scann()
    kind = None if reason else "all" if len(rows) < BRUTE_UNTIL else "approximate"
    try:
        with tempfile.TemporaryDirectory(dir=folder) as assets:
            progress.step("export", 0, 3, "SavedModel")
            Served(vectors, Path(assets), rated).save(folder / SAVED_MODEL)
            progress.step("export", 1, 3, "ScaNN")
            if kind:
                (folder / SCANN_INDEX).mkdir(parents=True)
                ScannIndex.build(vectors.retrieval_candidate[rows], rows).save(folder / SCANN_INDEX)
                ServedScann(vectors, Path(assets), rated).save(folder / SCANN_MODEL)
    except tf.errors.InvalidArgumentError:
        raise
    except tf.errors.OpError as error:  # a full disk or a forbidden place, as TensorFlow puts it
        raise OSError(str(error.message).strip().splitlines()[0]) from error
    if reason:
        progress.say(f"exported without ScaNN: {reason}; {SAVED_MODEL}/ is whole and searches exactly")
    elif kind == "all":
        progress.say(f"{len(rows):,} products are too few for approximate search: ScaNN compares all of them, exactly")
    return kind


@dataclasses.dataclass(frozen=True)
class Question:
    """What the clean process is asked, and what the vectors say."""

    rows: Rows  # [n] customers
    gone: list[Rows]  # n arrays of product rows that must not be answered
    top: Rows  # [n, DEPTH] the exact answer
    best: Floats  # [n, DEPTH]
    request: dict[str, Any]  # what ASK reads


def question(vectors: Vectors, scann: bool) -> Question:
    """Customers spread over all rows and an unknown one; every second one excludes what would come first."""
    model = Recommender(vectors)
    rows = np.unique(np.linspace(0, len(vectors.customer_ids) - 1, SAMPLE).astype(np.int32))
    gone = [np.asarray(model.seen(int(row))[0]) for row in rows]
    queries = np.ascontiguousarray(vectors.retrieval_query[rows])
    first = model.retrieve(queries, 1, gone)[0][:, 0]
    excluded = [int(row) if number % 2 else 0 for number, row in enumerate(first)]
    gone = [np.append(g, np.int32(row)) for g, row in zip(gone, excluded, strict=True)]
    top, best = model.retrieve(queries, DEPTH, gone)
    request = {
        "models": [SAVED_MODEL, SCANN_MODEL] if scann else [SAVED_MODEL],
        "index": SCANN_INDEX if scann else None,
        "customers": [vectors.customer_ids[row] for row in rows],
        "products": [vectors.product_ids[row] for row in first],
        "exclude": [[vectors.product_ids[row]] for row in excluded],
        "queries": queries.tolist(),
        "k": min(DEPTH, len(model.candidates)),
    }
    return Question(rows, gone, top, best, request)


def compare(folder: Path, vectors: Vectors, scann: bool) -> int:
    """Ask the exported models in a clean process; AmzrecError where an answer differs. Returns customers asked."""
    asked = question(vectors, scann)
    answers = ask(folder, asked.request)
    model = Recommender(vectors)
    for name in asked.request["models"]:
        fault = differs(answers[name], asked, model, exact=name == SAVED_MODEL)
        if fault:
            raise AmzrecError(
                f"the exported {name} does not answer as the vectors of the run: {fault}. Nothing was written"
            )
    if scann:
        scores = np.asarray(asked.request["queries"], np.float32) @ model.candidate_vectors.T  # [n, M]
        place, score = (np.asarray(answers["index"][name]) for name in ("place", "score"))
        if not close(score, np.take_along_axis(scores, place, axis=1)):
            raise AmzrecError(
                f"the exported {SCANN_INDEX} does not give the scores of the vectors. Nothing was written"
            )
    return len(asked.rows)


def ask(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """The answers of the exported folder, loaded by a Python process that has never seen amzrec."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        question_file, answer_file = Path(scratch) / "question.json", Path(scratch) / "answer.json"
        question_file.write_text(json.dumps(request))
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                ASK,
                str(folder.resolve()),
                str(question_file.resolve()),
                str(answer_file.resolve()),
            ],
            env={n: v for n, v in os.environ.items() if n != "TF_USE_LEGACY_KERAS"} | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            cwd=scratch,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1]
            raise AmzrecError(f"the exported model does not load in a clean process: {last}. See: amzrec doctor")
        answers: dict[str, Any] = json.loads(answer_file.read_text())
        return answers


def differs(answer: dict[str, Any], asked: Question, model: Recommender, exact: bool) -> str | None:
    """What is wrong with the answer of one model, or None; products whose scores are equal may change places."""
    vectors, found = model.vectors, 0
    for n, customer in enumerate(asked.rows):
        who, count = f"customer {asked.request['customers'][n]!r}", int(answer["count"][n])
        if count != int((asked.top[n] > 0).sum()):
            return f"{who} gets {count} products and not {int((asked.top[n] > 0).sum())}"
        rows = np.array([vectors.product_ids.find(p) or 0 for p in answer["product_id"][n][:count]], np.int32)
        score = np.asarray(answer["score"][n][:count], np.float32)
        if not rows.all() or len(set(rows)) < count or np.isin(rows, asked.gone[n]).any():
            return f"{who} gets a product that is unknown, repeated, reviewed or excluded"
        if not close(score, vectors.retrieval_candidate[rows] @ vectors.retrieval_query[customer]):
            return f"{who} gets scores that are not those of the products"
        if exact and not close(score, asked.best[n, :count]):
            return f"{who} gets {answer['product_id'][n][0]!r} first, which is not the best or not in order"
        if answer["title"][n][:count] != [vectors.titles[row] for row in rows]:
            return f"{who} gets a title that belongs to another product"
        found += len(set(rows) & set(asked.top[n]))
        if "stars" in answer:
            query = np.repeat(vectors.rating_query[customer][None], count, axis=0)
            if not close(answer["stars"][n][:count], model.rate(query, rows)):
                return f"{who} gets other stars"
    if "rated" in answer:
        rows = np.array([vectors.product_ids.find(p) or 0 for p in asked.request["products"]], np.int32)
        if not close(answer["rated"], model.rate(vectors.rating_query[asked.rows], rows)):
            return "rate predicts other stars"
    total = int((asked.top > 0).sum())
    return f"it finds only {found} of {total} of the exact answers" if found < RECALL * total else None


def close(found: Any, expected: Any) -> bool:
    """Whether two float32 results are equal up to the order of summation."""
    return bool(np.allclose(found, expected, rtol=NEAR, atol=NEAR * (1 + float(np.abs(expected).max(initial=0)))))
