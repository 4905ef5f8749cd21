"""Does tuning pay? The recipe of `amzrec tune` against the defaults on test, three random splits each.

    pip install 'amzrec[tune]'
    python scripts/bench/tune.py DATA --out benchmarks/tune.md

DATA holds amazon_us_reviews/ and ml-100k/. For each split: a study with a fixed number of trials, whose choices are
made on valid alone; then two trainings, one with the defaults and one with the recipe, and both are measured on the
test reviews, once. The ranges, the rule by which trials are stopped and that by which the recipe is chosen are those
of amzrec/tuning, fixed before the first test figure was seen; whatever comes out is in the table. A difference is
that of the recipe less the defaults on the same test reviews, with its paired bootstrap 95 % interval. Every split is
kept as JSON in --keep and not repeated, and a study that was ended goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

import amzrec
from amzrec.answers.recommender import Recommender
from amzrec.evaluation import intervals
from amzrec.evaluation.judge import judge
from amzrec.evaluation.systems import RunSystem
from amzrec.evaluation.testset import line_up_run
from amzrec.store.dataset import open_dataset
from amzrec.store.run import open_run
from tables import described_by, markdown
from trained import short

SEEDS = (1, 2, 3)
TRIALS = 8  # as many as an hour of a shared machine allows
SOURCES: dict[str, tuple[str, dict[str, Any]]] = {
    "amazon": ("amazon_us_reviews/amazon_reviews_us_MCM2020.tsv", {"product_key": "title"}),
    "ml-100k": ("ml-100k", {}),
}
SHOWN = {"rmse": "rating", "top_100": "retrieval", "recall@10": "ranking", "ndcg@10": "ranking"}


def split(data: Path, name: str, seed: int, folder: Path) -> dict[str, Any]:
    """One split: the study, both trainings, and their figures on test."""
    file, settings = SOURCES[name]
    prepared = folder / "dataset"
    config = amzrec.PrepareConfig(**settings, seed=seed)
    dataset = open_dataset(prepared) if prepared.exists() else amzrec.prepare(data / file, prepared, config)
    start = time.monotonic()
    study = amzrec.tune(dataset, trials=TRIALS, out=folder / "tune")
    seconds = time.monotonic() - start
    recipe = json.loads((folder / "tune" / "recipe.json").read_text())
    judged = {}
    for kind, config_of in (("defaults", amzrec.TrainConfig()), ("tuned", amzrec.TrainConfig.of(**recipe))):
        place = folder / kind
        run = open_run(place) if place.exists() else amzrec.train(dataset, place, config_of)
        testset = line_up_run(run, dataset)
        judged[kind] = judge(testset, RunSystem(Recommender(run.vectors)))
    rng = np.random.default_rng(0)
    gaps = intervals.gaps(testset, judged["tuned"], {"defaults": judged["defaults"]}, rng)["defaults"]
    usual = next(trial for trial in study["trials"] if trial["usual"])
    return {
        "test": {kind: short(each.to_json()) for kind, each in judged.items()},
        "gaps": {metric: gaps[group][metric] for metric, group in SHOWN.items() if metric in gaps.get(group, {})},
        "valid": {"defaults": usual["figures"], "tuned": study["trials"][study["chosen"]]["figures"]},
        "states": [trial["state"] for trial in study["trials"]],
        "recipe": recipe,
        "seconds": round(seconds),
        "load": [round(average, 1) for average in os.getloadavg()],
        "day": time.strftime("%Y-%m-%d"),
    }


def report(keep: Path) -> str:
    """All splits that are there, and what they say together."""
    text = [f"# Tuning\n\nMade by `scripts/bench/tune.py`. {described_by(__doc__)}\n"]
    for name in SOURCES:
        found = {s: json.loads(f.read_text()) for s in SEEDS if (f := keep / name / f"{s}.json").exists()}
        text.append(f"## {name}: {len(found)} of {len(SEEDS)} splits, {TRIALS} trials each\n")
        if not found:
            text.append("Not measured yet.\n")
            continue
        metrics = [metric for metric in SHOWN if all(metric in each["gaps"] for each in found.values())]
        rows = []
        for seed, each in found.items():
            for kind in ("defaults", "tuned"):
                rows.append([f"split {seed}, {kind}", *(f"{each['test'][kind][metric]:.4f}" for metric in metrics)])
            rows.append([f"split {seed}, tuned less defaults", *(interval(each["gaps"][m]) for m in metrics)])
        means = [np.mean([each["gaps"][m]["difference"] for each in found.values()]) for m in metrics]
        rows.append(["mean difference", *(f"{value:+.4f}" for value in means)])
        text += [markdown(["on test", *metrics], rows), "", *(told(seed, each) for seed, each in found.items()), ""]
        text.append(f"{verdict(found, metrics)}\n")
    return "\n".join(text)


def interval(gap: dict[str, float]) -> str:
    """Write a difference and its ends."""
    return f"{gap['difference']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})"


def told(seed: int, each: dict[str, Any]) -> str:
    """Say what one study did."""
    states = ", ".join(f"{each['states'].count(state)} {state}" for state in dict.fromkeys(each["states"]))
    valid = "; ".join(
        f"{name} {each['valid']['defaults'][name]:.4f} to {value:.4f}" for name, value in each["valid"]["tuned"].items()
    )
    settings = (
        " ".join(f"{name.replace('_', '-')} {value:g}" for name, value in each["recipe"].items()) or "the defaults"
    )
    load = " / ".join(map(str, each["load"]))
    return (
        f"- split {seed}: {states}; on valid {valid}; recipe: {settings}; {each['seconds']:,} s of tuning, "
        f"{each['day']}, load average {load} at the end."
    )


def verdict(found: dict[int, dict[str, Any]], metrics: list[str]) -> str:
    """Say on how many splits the recipe is better on test, and on how many beyond chance."""
    parts = []
    for metric in metrics:
        sign = -1 if metric == "rmse" else 1
        gaps = [each["gaps"][metric] for each in found.values()]
        better = sum(sign * gap["difference"] > 0 for gap in gaps)
        sure = sum(min(sign * gap["low"], sign * gap["high"]) > 0 for gap in gaps)
        worse = sum(max(sign * gap["low"], sign * gap["high"]) < 0 for gap in gaps)
        parts.append(f"{metric} on {better} ({sure} beyond chance; worse beyond chance on {worse})")
    return f"Of {len(found)} splits, the recipe is better in {', '.join(parts)}."


def main() -> None:
    """Measure what is missing, one split after the other, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default=",".join(SOURCES))
    parser.add_argument("--keep", type=Path, default=Path("build/tune"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    for name in options.only.split(","):
        for seed in SEEDS:
            file = options.keep / name / f"{seed}.json"
            if not file.exists():
                found = split(options.data, name, seed, options.keep / name / f"split-{seed}")
                file.write_text(json.dumps(found, indent=1))
            if options.out:
                options.out.write_text(report(options.keep))
    print(report(options.keep))


if __name__ == "__main__":
    main()
