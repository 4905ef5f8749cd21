"""Reproduce a reference system with `--preset ids`, and print its row beside the published one.

    python scripts/reproduce.py basic-retrieval ml-100k
    python scripts/reproduce.py amazon saved_ratings

The systems are the four MovieLens examples of Keras Recommenders and the Amazon notebook of TensorFlow Recommenders:
id embeddings 32 wide, Adagrad(0.1), a random 80/20 split. Their batches, epochs and heads are below; the split itself
is amzrec's (a hash of the pair and the seed), so figures differ from the published ones by the draw of the split.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import amzrec
from amzrec.cli.tables import table
from amzrec.store.run import Run

SPLIT = {"split": "random", "test": 0.2, "valid": 0.0, "seed": 42}
# the references add up the retrieval loss of a batch, ours is a mean: their weight 1 is the size of the batch here
BOTH = ((1, 0, "rating only"), (0, 1, "retrieval only"), (1, 1, "joint"))


def train(source: str, split: dict[str, Any], folder: str, **settings: Any) -> Run:
    """One training with the reference's towers."""
    config = amzrec.TrainConfig.of(preset="ids", **settings)
    return amzrec.train(source, Path(folder) / "run", config, prepare=amzrec.PrepareConfig(**split))


def measure(source: str, split: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Train and evaluate; the document of metrics.json."""
    with tempfile.TemporaryDirectory() as folder:
        return amzrec.evaluate(train(source, split, folder, **settings))


def basic_retrieval(source: str) -> list[list[str]]:
    """Squared error of the dot product against the stars as 0..1; ten titles for user 42."""
    with tempfile.TemporaryDirectory() as folder:
        run = train(source, SPLIT, folder, rating_weight=0, retrieval_loss="dot", batch_size=1000, epochs=50)
        answer = amzrec.recommend("42", run, k=10, include_seen=True)
    titles = {row["title"] for row in answer["recommendations"]}
    return [["top 10 of user 42", "10 titles", f"{len(titles)} titles"], *([title, "", ""] for title in titles)]


def basic_ranking(source: str) -> list[list[str]]:
    """Embeddings concatenated into a head of 256 and 64, squared error, 5 epochs."""
    figures = measure(source, SPLIT, retrieval_weight=0, head=(256, 64), batch_size=1000, epochs=5)
    return [["test RMSE, stars", "1.025", f"{figures['model']['rating']['rmse']:.3f}"], biases(figures)]


def listwise(source: str) -> list[list[str]]:
    """Lists of 5 of one customer: squared error against pairwise hinge, nDCG@5; 70/15/15."""
    rows, split = [], SPLIT | {"test": 0.15, "valid": 0.15 / 0.85}
    for loss, published in (("squared", "0.911"), ("pairwise-hinge", "0.935")):
        # the reference draws 50 lists per customer and epoch: 3.4 times each review; 5 of its epochs are 17 of ours
        figures = measure(
            source, split, retrieval_weight=0, rating_loss=loss, head=(256, 64), batch_size=5120, epochs=17, patience=17
        )
        rows.append([f"nDCG@5, {loss}", published, f"{figures['model']['rating']['ndcg@5']:.3f}"])
    bias = figures["baselines"]["product_bias"]["rating"]["ndcg@5"]
    return [*rows, ["nDCG@5 of the product means, same lists", "", f"{bias:.3f}"]]


def multi_task(source: str) -> list[list[str]]:
    """Shared towers, three weightings; top-10 accuracy on the reviews with 5 stars."""
    published = {
        "rating only": ("1.04", "0.005"),
        "retrieval only": ("2.6 to 3.1", "0.020"),
        "joint": ("1.000", "0.022"),
    }
    rows = []
    for rating, retrieval, name in BOTH:
        figures = measure(
            source,
            SPLIT,
            rating_weight=rating,
            retrieval_weight=retrieval * 1000,
            head=(256, 128),
            batch_size=1000,
            epochs=5,
        )
        rows += task_rows(
            name, published[name], figures, figures["model"]["slices"]["top_rated"]["retrieval"], "top_10"
        )
    popular = figures["baselines"]["popularity"]["slices"]["top_rated"]["retrieval"]["top_10"]
    return [*rows, biases(figures), ["popularity: top_10, 5 stars", "", f"{popular:.4f}"]]


def amazon(source: str) -> list[list[str]]:
    """The notebook: three weightings, batch 8192, 3 epochs, titles as products; published on another category."""
    published = {"rating only": ("1.221", "0.001"), "retrieval only": ("", ""), "joint": ("1.222", "0.001")}
    rows = []
    for rating, retrieval, name in BOTH:
        settings = {"rating_weight": rating, "retrieval_weight": retrieval * 8192, "head": (256, 128)}
        figures = measure(source, SPLIT | {"product_key": "title"}, batch_size=8192, epochs=3, **settings)
        rows += task_rows(name, published[name], figures, figures["model"]["retrieval"], "top_100")
    popular = figures["baselines"]["popularity"]["retrieval"]["top_100"]
    return [*rows, biases(figures), ["popularity: top_100", "", f"{popular:.4f}"]]


def task_rows(name: str, published: tuple[str, str], figures: Any, retrieval: Any, top: str) -> list[list[str]]:
    """RMSE and top-k of one weighting."""
    rmse = figures["model"]["rating"]["rmse"]
    return [[f"{name}: RMSE", published[0], f"{rmse:.3f}"], [f"{name}: {top}", published[1], f"{retrieval[top]:.4f}"]]


def biases(figures: Any) -> list[str]:
    """The row of the product means, which the systems should beat."""
    return ["product bias: RMSE", "", f"{figures['baselines']['product_bias']['rating']['rmse']:.3f}"]


SYSTEMS = {
    "basic-retrieval": basic_retrieval,
    "basic-ranking": basic_ranking,
    "listwise": listwise,
    "multi-task": multi_task,
    "amazon": amazon,
}


def main() -> None:
    """Parse, reproduce, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("source", help="the MovieLens 100K folder; for amazon the saved dataset or the TSV")
    arguments = parser.parse_args()
    rows = SYSTEMS[arguments.system](arguments.source)
    print(table(["figure", "published", "amzrec"], rows))


if __name__ == "__main__":
    main()
