"""What `train --from` and `update` cost and keep, against training from scratch.

    PYTHONPATH=. nice -n 5 python scripts/bench/warm.py DATA [amazon|movielens|daily]... [--share 6] [--epochs 6]

`scratch` is a training on all reviews, `from` one that goes on from a training on the early ones; both are measured on
the same test reviews, which neither saw. Seconds are those of one training in a process that has imported TensorFlow,
on the wall and of the CPU; a machine that is shared makes the first long, and the ratio of the second is the one to
trust.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import amzrec
from amzrec.model.keras2 import import_tfrs
from amzrec.store.dataset import Dataset
from amzrec.store.run import Run
from tables import described_by, markdown, section
from trained import short

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "warm.md"
TSV, EARLY = (
    "amazon_us_reviews/amazon_reviews_us_MCM2020.tsv",
    0.9,
)  # of what is fitted from scratch, by date or customers
FIGURES = ("rmse", "top_100", "recall@10", "ndcg@10")


def timed(folder: Path, dataset: Dataset, start: Run | None = None) -> tuple[Run, dict[str, Any]]:
    """Train, and return the run with its figures and seconds."""
    wall, busy = time.monotonic(), time.process_time()
    run = amzrec.train(dataset, folder, start=start)
    took = {"wall": time.monotonic() - wall, "cpu": time.process_time() - busy, "epochs": run.info.best_epochs}
    return run, took | (short(amzrec.evaluate(run)["model"]) if not run.info.untested else {})


def compared(early: Dataset, whole: Dataset, folder: Path, what: str) -> None:
    """Train on early reviews, go on from there with all, train on all from scratch, and write how they compare."""
    import_tfrs()
    parent, old = timed(folder / "early", early)
    warm, found = timed(folder / "warm", whole, parent)
    _, scratch = timed(folder / "scratch", whole)
    rows = []
    for name, each in (("scratch", scratch), ("from", found)):
        figures = [f"{each[key]:.4f}" for key in FIGURES]
        rows.append([name, *figures, f"{each['wall']:.1f}", f"{each['cpu']:.1f}", str(sum(passes(each["epochs"])))])
    worse = [100 * (found[key] / scratch[key] - 1) * (1 if key == "rmse" else -1) for key in FIGURES]
    ratios = [f"{found[key] / scratch[key]:.3f}" for key in ("wall", "cpu")]
    rows.append(["worse by, %; ratio of seconds", *(f"{value:+.2f}" for value in worse), *ratios, ""])
    sizes = {part: sum(file.stat().st_size for file in (warm.path / part).iterdir()) for part in ("vectors", "weights")}
    fitted, known = len(whole.train) + len(whole.valid), len(early.train) + len(early.valid)
    text = (
        f"{known:,} early reviews, {fitted:,} in all, {len(whole.test):,} to test on, seed 42, default flags. "
        f"The early one took {old['cpu']:.1f} s of the CPU.\n\n"
        + markdown(["", *FIGURES, "seconds", "CPU seconds", "best epochs, both tasks"], rows)
        + f"\n\nThe run has {sizes['vectors'] / 1e6:.1f} MB of vectors, {sizes['weights'] / 1e6:.1f} MB of weights."
    )
    section(FILE, what, text, "Going on from a run")


def passes(best: dict[str, int]) -> list[int]:
    """Return the best epochs of the tasks."""
    return list(best.values())


def amazon(data: Path, folder: Path, options: argparse.Namespace) -> None:
    """The Amazon TSV, cut by date: what is fitted from scratch has a tenth more reviews, all later."""
    header, *lines = (data / TSV).read_text(encoding="utf-8").rstrip("\n").split("\n")
    date = header.split("\t").index("review_date")
    lines.sort(key=lambda line: line.split("\t")[date])
    whole = amzrec.prepare(data / TSV, folder / "whole", amzrec.PrepareConfig(split="temporal"))
    kept = int(EARLY * (len(whole.train) + len(whole.valid)))
    (folder / "early.tsv").write_text("\n".join([header, *lines[:kept]]) + "\n", encoding="utf-8")
    early = amzrec.prepare(
        folder / "early.tsv", folder / "early.data", amzrec.PrepareConfig(split="temporal", test=0.0)
    )
    compared(early, whole, folder, "Amazon TSV, cut by date")


def movielens(data: Path, folder: Path, options: argparse.Namespace) -> None:
    """ML-1M, or one in `--share` of its customers, cut by customers: a tenth of them is new."""
    header, *lines = (data / "ml-1m" / "ratings.csv").read_text().rstrip("\n").split("\n")
    customers = sorted({line.split(",")[0] for line in lines}, key=int)[:: options.share]
    late = set(np.random.default_rng(0).permutation(customers)[int(EARLY * len(customers)) :].tolist())
    chosen = set(customers)
    lines = [line for line in lines if line.split(",")[0] in chosen]
    columns, datasets = "customer=user_id,product=movie_id,stars=rating", []
    for name, left_out in (("early", late), ("whole", set[str]())):
        rows = [line for line in lines if line.split(",")[0] not in left_out]
        (folder / f"{name}.csv").write_text("\n".join([header, *rows]) + "\n")
        datasets.append(
            amzrec.prepare(folder / f"{name}.csv", folder / f"{name}.data", amzrec.PrepareConfig(columns=columns))
        )
    part = "" if options.share == 1 else f", every {options.share}th customer"
    compared(*datasets, folder, f"ML-1M{part}, cut by customers")


def daily(data: Path, folder: Path, options: argparse.Namespace) -> None:
    """Ten days in a row: updated, gone on from, trained from scratch, each measured on the next day."""
    config = amzrec.TrainConfig(epochs=options.epochs)
    found = amzrec.backtest(
        data / "ml-100k", config, every="1d", last=10, retrain=True, warm=True, out=folder / "days.png"
    )
    shutil.copyfile(folder / "days.png", FILE.with_name("warm.png"))
    names = [
        name
        for name in (
            "trained_once",
            "updated",
            "warm_started",
            "trained_again",
            "recent_popularity",
            "customer_product_bias",
        )
        if name in found["overall"]
    ]
    parts = []
    for key in FIGURES:
        rows = [
            [window["from"], f"{window['reviews']:,}", *(figure(window["systems"][name], key) for name in names)]
            for window in found["windows"]
        ]
        rows.append(
            [
                "all",
                f"{sum(w['reviews'] for w in found['windows']):,}",
                *(figure(found["overall"][name], key) for name in names),
            ]
        )
        parts.append(f"{key}\n\n" + markdown(["day", "reviews", *(name.replace("_", " ") for name in names)], rows))
    last = found["windows"][1:]
    flags = f"`--epochs {options.epochs}`" if options.epochs else "default flags"
    seconds = {name: sum(w["seconds"][name] for w in last) / len(last) for name in names if name in last[0]["seconds"]}
    text = (
        f"ML-100K, its last ten days, {flags}, each met by what knew all before it. Seconds a day: "
        + ", ".join(
            f"{name.replace('_', ' ')} {value:.1f}" for name, value in seconds.items() if name != "trained_once"
        )
        + ".\n\n![By day](warm.png)\n\n"
        + "\n\n".join(parts)
    )
    section(FILE, "Ten days in a row", text, "Going on from a run")


def figure(figures: dict[str, float], key: str) -> str:
    """Write a figure, where there is one."""
    return f"{figures[key]:.4f}" if key in figures else ""


CASES = {"amazon": amazon, "movielens": movielens, "daily": daily}


def main() -> None:
    """Measure the cases that were named, or all."""
    parser = argparse.ArgumentParser(description=described_by(__doc__))
    parser.add_argument("data", type=Path)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], default=[])
    parser.add_argument("--share", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=None)
    options = parser.parse_args()
    for case in options.cases or CASES:
        with tempfile.TemporaryDirectory() as folder:
            CASES[case](options.data, Path(folder), options)


if __name__ == "__main__":
    main()
