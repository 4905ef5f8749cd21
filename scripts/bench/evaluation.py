"""How fast an evaluation is, against FactorizedTopK as the reference notebook and as an expert would use it.

    python scripts/bench/evaluation.py --out benchmarks/speed.md

Shape of the Amazon notebook: 115,120 reviews, 80/20, 46,438 titles with power-law counts, vectors 32 wide, a random one
for each customer of train. With 1.05 reviews per customer most of test have none there: as in every run they share the
unknown customer's vector, so that amzrec ranks these once. "all known" is the worst case, a vector of its own for each.
  amzrec            `amzrec evaluate`: stars, top-k, the ranking metrics, slices, baselines, intervals, JSON, no picture
  amzrec, all known `amzrec evaluate` where every customer has a vector of its own
  amzrec, ranks     what of that the peers do: ranks of the test products, and with the seen products left out too
  amzrec, dates     `amzrec evaluate`, all known, 200 periods in the model, popularity as of each day as a baseline
  expert            FactorizedTopK over unique candidates in one BruteForce index, batches of 1,024 test rows, by ids
  expert, streaming FactorizedTopK over a dataset of unique candidates in batches of 4,096
  notebook          FactorizedTopK over the train reviews' titles in batches of 128, duplicates and all
Peers compute top 1, 5, 10, 50, 100 and nothing else; the slow ones over the first rows only, scaled to all. In turn,
medians; wall and CPU seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import amzrec.commands.evaluate
from amzrec.answers.recommender import Recommender
from amzrec.commands.evaluate import evaluate
from amzrec.evaluation.systems import RunSystem, rank_system
from amzrec.evaluation.testset import line_up_run
from amzrec.model.keras2 import import_tensorflow, import_tfrs
from amzrec.store.dataset import Dataset, Reviews
from amzrec.store.run import Run
from synthetic import DAY, DAYS, ROWS, dataset_of, reviews, run_of
from tables import described_by, markdown, section
from timing import alternating

tf: Any = import_tensorflow()
tfrs: Any = import_tfrs()

KS = (1, 5, 10, 50, 100)


def factorized(run: Run, test: Reviews, candidates: Any, batch: int) -> Callable[[], list[float]]:
    """FactorizedTopK by ids over `candidates`, a TopK layer or dataset of (ids, vectors)."""
    layer = (
        candidates if isinstance(candidates, tf.keras.layers.Layer) else tfrs.layers.factorized_top_k.Streaming(k=100)
    )
    if layer is not candidates:
        layer.index_from_dataset(candidates)
    queries, products = run.vectors.retrieval_query, run.vectors.retrieval_candidate
    metric = tfrs.metrics.FactorizedTopK(candidates=layer, ks=KS)

    @tf.function  # type: ignore[untyped-decorator]
    def update(query: Any, product: Any, ids: Any) -> None:
        metric.update_state(query, product, true_candidate_ids=ids)

    def peer() -> list[float]:
        metric.reset_states()
        for start in range(0, len(test), batch):
            part = slice(start, start + batch)
            update(queries[test.customer[part]], products[test.product[part]], tf.constant(test.product[part]))
        return [float(value.numpy()) for value in metric.result()]

    return peer


def ranks_alone(run: Run, dataset: Dataset) -> Callable[[], list[float]]:
    """What of the evaluation the peers do too."""
    testset = line_up_run(run, dataset)

    def ranks() -> list[float]:
        found = rank_system(testset, RunSystem(Recommender(run.vectors)))
        assert found is not None
        return [float((found.above < k).mean()) for k in KS]

    return ranks


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streaming-rows", type=int, default=2048, help="test rows of the streaming expert")
    parser.add_argument("--notebook-rows", type=int, default=256, help="test rows of the notebook")
    parser.add_argument("--out", type=Path, help="Markdown file whose section is replaced; default: print")
    a = parser.parse_args()
    amzrec.commands.evaluate.draw = lambda *_: None
    some = reviews()
    time = np.random.default_rng(4).integers(0, DAYS * DAY, ROWS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = dataset_of(folder / "plain", some)
        with_dates = dataset_of(folder / "dated", dataclasses.replace(some, timestamp=time))
        run, known = run_of(folder / "run", dataset, False), run_of(folder / "known", dataset, False, True)
        dated = run_of(folder / "dates", with_dates, True, True)
        rows, vectors, test = known.vectors.candidates, known.vectors.retrieval_candidate, dataset.test
        unique = tf.data.Dataset.from_tensor_slices((rows, vectors[rows])).batch(4096).cache()
        titles = Reviews.concat([dataset.train, dataset.valid]).product
        repeated = tf.data.Dataset.from_tensor_slices((titles, vectors[titles])).batch(128)
        index = tfrs.layers.factorized_top_k.BruteForce(k=100)
        index.index(tf.constant(vectors[rows]), tf.constant(rows))
        few, fewer = (test.take(np.arange(n)) for n in (a.streaming_rows, a.notebook_rows))
        steps: dict[str, Callable[[], object]] = {
            "amzrec": lambda: evaluate(run, dataset),
            "amzrec, all known": lambda: evaluate(known, dataset),
            "amzrec, ranks": ranks_alone(known, dataset),
            "amzrec, dates": lambda: evaluate(dated, with_dates),
            "expert": factorized(known, test, index, 1024),
            "expert, streaming": factorized(known, few, unique, 1024),
            "notebook": factorized(known, fewer, repeated, 256),
        }
        peak = {}
        for each, step in steps.items():
            found = step()
            peak[each] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            if each in ("amzrec, ranks", "expert"):
                print(each, found)
        seconds = alternating(steps, a.rounds)
    scale = {"expert, streaming": len(test) / len(few), "notebook": len(test) / len(fewer)}
    base, table = seconds["amzrec"], []
    for each, times in seconds.items():
        wall, cpu = (value * scale.get(each, 1) for value in times)
        name = f"{each} ({len(test) / scale[each]:,.0f} rows, scaled)" if each in scale else each
        table.append(
            [name, f"{wall:.2f}", f"{cpu:.2f}", f"{wall / base[0]:.2f}", f"{cpu / base[1]:.2f}", f"{peak[each]:.2f}"]
        )
    head = [
        f"{len(test):,} test rows × {len(rows):,} products",
        "wall s",
        "CPU s",
        "wall ratio",
        "CPU ratio",
        "peak GB so far",
    ]
    section(a.out, "Evaluation", f"{described_by(__doc__)}\n\n{markdown(head, table)}")


if __name__ == "__main__":
    main()
