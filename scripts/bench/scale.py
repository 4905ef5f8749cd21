"""What each stage costs as the data grow: seconds and memory per million reviews, slopes, and on paper from there.

    python scripts/bench/scale.py --reviews 1000000,10000000 --out benchmarks/scale.md
    python scripts/bench/scale.py --reviews 100000000 --stages generate,prepare,train      # 10 million customers; hours
    python scripts/bench/scale.py --reviews 10000000 --steps 25 --skip recommend            # a part of an epoch, a look

Generated reviews, seeded: 10 per customer and 50 per product in the mean, both by power laws (shares as rank^-0.6 and
rank^-0.9); customers prefer the products of one of 64 kinds; stars are biases, kind and noise; times over ten years,
denser to the end. Each stage is a process of its own, with default flags:
  prepare    a Parquet file of all of them, to the dataset folder
  train      one epoch of the phase that chooses epochs, and all around it, without a refit; `epoch` and `vectors`
             are parts of it: the steps, and what comes after them, to the run folder
  evaluate   10,000 test reviews, ranked among all products, baselines and intervals included
  update     a tenth as many new reviews into the run
  recommend  the 10 best for every customer, exactly, into a Parquet file
  serve      the service: until it is ready, then 300 requests one after the other
CPU seconds are those of all threads: a busy machine changes them little, wall seconds much. Memory is the most that
the process held, mapped files included.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from amzrec import heap
from tables import described_by, markdown, section
from timing import ROOT

STAGES = ("generate", "prepare", "train", "evaluate", "update", "recommend", "serve")
PER_CUSTOMER, PER_PRODUCT, KINDS, BLOCK = 10, 50, 64, 500_000
ASKED, REQUESTS = 10_000, 300
PAPER = {"Amazon 2023": 571_000_000, "10 billion": 10_000_000_000}
PAPER_STAGES = ("prepare", "epoch", "vectors", "update", "recommend")

Facts = dict[str, Any]


def generate(file: Path, rows: int, whole: int, seed: int) -> None:
    """Write `rows` reviews of the customers and products that `whole` reviews have."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, law = np.random.default_rng([seed, rows]), np.random.default_rng(7)
    customers, products = whole // PER_CUSTOMER, whole // PER_PRODUCT
    shares = [np.cumsum((np.arange(n) + 10.0) ** -power) for n, power in ((customers, 0.6), (products, 0.9))]
    taste, kind = law.integers(0, KINDS, customers), law.integers(0, KINDS, products)
    bias = law.normal(0, 0.5, customers), law.normal(0, 0.4, products)
    names = [pa.array([f"{letter}{row * 7919 % (10**9 + 7):09}" for row in range(n)])
             for letter, n in (("A", customers), ("B", products))]  # fmt: skip
    fields = {"customer_id": pa.string(), "product_id": pa.string(), "stars": pa.float32(), "timestamp": pa.int64()}
    with pq.ParquetWriter(file, pa.schema(list(fields.items()))) as writer:
        for start in range(0, rows, BLOCK):
            n = min(BLOCK, rows - start)
            customer = np.searchsorted(shares[0], rng.random(n) * shares[0][-1])
            seen = np.searchsorted(shares[1], rng.random((4, n)) * shares[1][-1])
            liked = kind[seen] == taste[customer]
            product = seen[np.argmax(liked, 0), np.arange(n)]
            liked = kind[product] == taste[customer]
            stars = 3.9 + bias[0][customer] + bias[1][product] + 0.5 * liked + rng.normal(0, 0.8, n)
            times = (1.2e9 + 3e8 * rng.random(n) ** 0.6).astype(np.int64)
            columns = [names[0].take(pa.array(customer)), names[1].take(pa.array(product))]
            rated = np.clip(np.rint(stars), 1, 5).astype(np.float32)
            writer.write_table(pa.table([*columns, rated, times], names=list(fields)))


# --- stages, each in a process of its own; what they return is printed as JSON


def stage_generate(folder: Path, size: int, options: argparse.Namespace) -> Facts:
    """Write the reviews, and a tenth as many new ones."""
    generate(folder / "reviews.parquet", size, size, 1)
    generate(folder / "new.parquet", size // 10, size, 2)
    return {}


def stage_prepare(folder: Path, size: int, options: argparse.Namespace) -> Facts:
    """Prepare them."""
    import amzrec

    made = amzrec.prepare(folder / "reviews.parquet", folder / "dataset", overwrite=True)
    counts = made.info.counts
    return {"train": counts.train, "customers": counts.customers, "products": counts.products}


def timed_calls(parts: Facts, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that also notes the wall and CPU seconds of all its calls, and when the last one ended."""

    def call(*arguments: Any, **named: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            return function(*arguments, **named)
        finally:
            before = parts.get(name, [0.0, 0.0])
            parts["ended"] = [time.perf_counter(), time.process_time()]
            parts[name] = [before[0] + parts["ended"][0] - wall, before[1] + parts["ended"][1] - cpu]

    return call


def stage_train(folder: Path, size: int, options: argparse.Namespace) -> Facts:
    """Train one epoch, or the first steps of it."""
    import amzrec
    from amzrec.config import TrainConfig
    from amzrec.training import learner

    parts: Facts = {}

    whole = learner.plan_epoch

    def cut(*arguments: Any) -> Any:
        found = whole(*arguments)
        parts["reviews"], parts["steps"] = min(options.steps or found.steps, found.steps) * found[0], found.steps
        return found._replace(steps=min(options.steps or found.steps, found.steps))

    learner.plan_epoch = cut
    learner.Learner.epoch = timed_calls(parts, "epoch", learner.Learner.epoch)  # type: ignore[method-assign]
    config = TrainConfig(epochs=1, refit=False)
    amzrec.train(folder / "dataset", folder / "run", config, overwrite=True, anyway=options.anyway)
    ended = parts.pop("ended")
    parts["vectors"] = [time.perf_counter() - ended[0], time.process_time() - ended[1]]
    parts["bytes"] = sum(file.stat().st_size for file in (folder / "run").rglob("*") if file.is_file())
    return parts


def stage_evaluate(folder: Path, size: int, options: argparse.Namespace) -> Facts:
    """Evaluate some test reviews."""
    import amzrec
    from amzrec.store.dataset import open_dataset

    dataset = open_dataset(folder / "dataset")
    some = np.sort(np.random.default_rng(3).choice(len(dataset.test), min(ASKED, len(dataset.test)), replace=False))
    dataset.__dict__["test"] = dataset.test.take(some)
    figures = amzrec.evaluate(folder / "run", dataset)["model"]
    return {"rmse": figures["rating"]["rmse"], "top_100": figures["retrieval"]["top_100"]}


def stage_update(folder: Path, size: int, options: argparse.Namespace) -> Facts:
    """Let new reviews in."""
    import amzrec

    made = amzrec.update(folder / "run", folder / "new.parquet", folder / "updated", overwrite=True)
    return {"reviews": made.info.updates[-1]["reviews"]}


def stage_recommend(folder: Path, size: int, options: argparse.Namespace) -> Facts:
    """Recommend to everyone."""
    import amzrec

    file = amzrec.recommend_all(folder / "run", folder / "lists.parquet", overwrite=True)
    return {"bytes": Path(file).stat().st_size}


def stage_serve(folder: Path, size: int, options: argparse.Namespace) -> Facts:
    """Serve, and ask."""
    from amzrec.store.run import open_run
    from served import serving

    ids = open_run(folder / "run").vectors.customer_ids
    drawn = np.random.default_rng(4).integers(1, len(ids), REQUESTS)
    with serving(folder / "run", folder / "serve.log", "--events", "none", "--no-access-log") as service:
        taken = []
        for row in drawn.tolist():
            begun = time.perf_counter()
            urllib.request.urlopen(f"{service.address}/recommend/{ids[row]}").read()
            taken.append(1e3 * (time.perf_counter() - begun))
        memory, own, _ = service.memory()
        busy = service.busy()
    p50, p95 = np.percentile(taken, [50, 95])
    facts = {"ready": service.seconds, "busy": busy, "p50": p50, "p95": p95, "memory": memory / 1e3, "own": own / 1e3}
    return {name: float(value) for name, value in facts.items()}


# --- all of them


def run_stage(name: str, folder: Path, size: int, words: list[str]) -> Facts:
    """Run a stage in a process of its own: what it says, its wall and CPU seconds, and its memory in GB."""
    command = [sys.executable, str(Path(__file__)), "--stage", name, "--folder", str(folder), "--reviews", str(size)]
    begun = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    said = folder / f"{name}.json"
    with said.open("w") as out:
        process = subprocess.Popen([*command, *words], stdout=out, env=environment)
        _, status, used = os.wait4(process.pid, 0)
    wall, facts = time.perf_counter() - begun, {}
    if status == 0:
        facts = json.loads(said.read_text().splitlines()[-1])
    found = {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss / 1e6, "failed": status != 0}
    print(f"{size:,} {name}: {found | facts}", file=sys.stderr, flush=True)
    return found | facts


def cpu_of(found: dict[str, Facts], stage: str) -> float | None:
    """CPU seconds of a stage, or of a part of the training; an epoch that was cut counts as if it were whole."""
    if stage not in ("epoch", "vectors"):
        facts = found.get(stage)
        if facts is None or facts["failed"]:
            return None
        return float(facts.get("busy", 0) or facts["cpu"])
    facts = found.get("train") or {"failed": True}
    if facts["failed"]:
        return None
    share = facts["reviews"] / found["prepare"]["train"] if stage == "epoch" else 1.0
    return float(facts[stage][1]) / share


def seconds_table(every: dict[int, dict[str, Facts]]) -> str:
    """A row per stage: wall and CPU seconds and peak memory at each size, CPU per million reviews, and the slope."""
    sizes = list(every)
    header = ["stage"]
    for size in sizes:
        header += [f"{size:,}: wall s", "CPU s", "CPU s per million", "peak GB"]
    rows = []
    for stage in (*STAGES[1:3], "epoch", "vectors", *STAGES[3:]):
        row = [f"… {stage}" if stage in ("epoch", "vectors") else stage]
        cpus = [cpu_of(every[size], stage) for size in sizes]
        for size, cpu in zip(sizes, cpus, strict=True):
            part = stage in ("epoch", "vectors")
            facts = every[size].get("train" if part else stage)
            if cpu is None or facts is None:
                row += ["", "", "", ""]
                continue
            wall = facts[stage][0] if part else facts["wall"]
            peak = "" if part else f"{facts.get('memory', facts['peak']):.2f}"
            row += [f"{wall:,.0f}", f"{cpu:,.0f}", f"{1e6 * cpu / size:,.1f}", peak]
        if len(sizes) > 1:
            row.append(slope(sizes, cpus))
        rows.append(row)
    return markdown(header + (["slope"] if len(sizes) > 1 else []), rows)


def slope(sizes: list[int], cpus: list[float | None]) -> str:
    """The power of the size with which CPU seconds grow, from the smallest to the largest that were measured."""
    known = [(size, cpu) for size, cpu in zip(sizes, cpus, strict=True) if cpu]
    if len(known) < 2:
        return ""
    (a, x), (b, y) = known[0], known[-1]
    return f"{math.log(y / x) / math.log(b / a):.2f}"


def paper(every: dict[int, dict[str, Facts]]) -> str:
    """CPU hours of each stage at sizes that were not run, as many per review as at the largest that was."""
    rows = []
    for stage in PAPER_STAGES:
        known = [(size, cpu) for size in every if (cpu := cpu_of(every[size], stage)) is not None]
        if not known:
            continue
        size, cpu = known[-1]
        times = [(big / size) ** (2 if stage == "recommend" else 1) for big in PAPER.values()]
        rows.append([stage, f"{size:,}", *(f"{cpu * time / 3600:,.1f}" for time in times)])
    return markdown(["CPU hours", "measured at", *PAPER], rows)


def main() -> None:
    """Run the stages at every size, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviews", default="1000000", help="sizes, with commas between them")
    parser.add_argument("--folder", type=Path, default=Path("scale"), help="where everything is written and left")
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--skip", default="", help="stages to leave out")
    parser.add_argument("--steps", type=int, default=0, help="steps of the epoch that are trained; 0: all")
    parser.add_argument("--anyway", action="store_true", help="train also where the plan says that memory is too small")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    sizes = [int(size) for size in options.reviews.split(",")]
    if options.stage:
        if options.stage == "train":
            heap.share()  # as the command does
        facts = globals()[f"stage_{options.stage}"](options.folder, sizes[0], options)
        print(json.dumps(facts))
        return
    every: dict[int, dict[str, Facts]] = {}
    words = [f"--steps={options.steps}", *(["--anyway"] if options.anyway else [])]
    for size in sizes:
        folder = (options.folder / str(size)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / "found.json"
        found = json.loads(kept.read_text()) if kept.exists() else {}
        for stage in filter(None, options.stages.split(",")):
            if stage not in options.skip.split(","):
                found[stage] = run_stage(stage, folder, size, words)
                kept.write_text(json.dumps(found))
        every[size] = found
    notes = []
    for size, found in every.items():
        train, served = found.get("train", {}), found.get("serve", {})
        if train and not train["failed"]:
            per_second = train["reviews"] / train["epoch"][1]
            notes.append(
                f"{size:,}: {train['reviews']:,} of {found['prepare']['train']:,} reviews trained, {per_second:,.0f} "
                f"per CPU second, {train['reviews'] / train['epoch'][0]:,.0f} per second as loaded as it was; run of "
                f"{train['bytes'] / 1e9:.2f} GB; {found['prepare']['customers']:,} customers, "
                f"{found['prepare']['products']:,} products."
            )
        if served and not served["failed"]:
            notes.append(
                f"{size:,}: the service was ready after {served['ready']:.1f} s, answered in {served['p50']:.1f} ms "
                f"(p95 {served['p95']:.1f}), and held {served['memory']:.2f} GB, of that its own {served['own']:.2f}."
            )
    text = [described_by(__doc__), seconds_table(every), "\n".join(notes), paper(every)]
    section(options.out, "Stages by size", "\n\n".join(text), "Scale")


if __name__ == "__main__":
    main()
