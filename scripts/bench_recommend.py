"""How fast recommendations are: for everyone into a file, and for one customer from a cold start, beside peers.

    python scripts/bench_recommend.py --out benchmarks/speed.md

A generated run (random vectors, 3 reviews per customer, titles of 40 letters), k = 10.
  everyone   `recommend --all`: seen products left out, stars predicted, names looked up, written as Parquet.
             Peer: tfrs.layers.factorized_top_k.BruteForce over the same vectors in batches of 1,024, which leaves
             nothing out, predicts no stars and writes nothing. In turn, medians of the rounds; wall and CPU time.
             Then once for --everyone customers, in a process of its own, for the peak of its memory.
  cold       the whole process of `amzrec recommend CUSTOMER`, beside `import tensorflow`, which is less than loading
             a SavedModel; and of `amzrec --help` beside bare Python. In turn, medians.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from amzrec.commands.recommend_all import recommend_all
from amzrec.store.run import RUN, Run, RunInfo, open_run
from amzrec.store.strings import Strings
from amzrec.store.vectors import Head, Vectors, write_vectors

HERE = Path(__file__).resolve().parents[1]
# not ru_maxrss: a child starts with that of the process that started it
PEAK = "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
OF_CHILD = "import resource; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"


def generated(folder: Path, customers: int, products: int, dims: int, seed: int = 1) -> Run:
    """A finished run with random vectors: retrieval and rating each `dims` wide, a hidden layer of 64."""
    rng = np.random.default_rng(seed)

    def table(rows: int, width: int) -> Any:
        return rng.standard_normal((rows, width), np.float32)

    arrays = {
        "retrieval_query": table(customers + 1, dims + 1),
        "retrieval_candidate": table(products + 1, dims + 1),
        "rating_query": 0.1 * table(customers + 1, dims + 2),
        "rating_candidate": 0.1 * table(products + 1, dims + 2),
        "rating_weight": table(1, dims)[0],
        "product_counts": np.ones(products + 1, np.int64),
        "customer_counts": np.ones(customers + 1, np.int64),
        "candidates": np.arange(1, products + 1, dtype=np.int32),
        "seen_offsets": np.maximum(3 * np.arange(-1, customers + 1), 0),
        "seen_product": rng.integers(1, products + 1, 3 * customers, np.int32),
        "seen_stars": np.full(3 * customers, 5, np.float32),
        "seen_part": np.zeros(3 * customers, np.uint8),
        "product_bias": np.zeros(products + 1, np.float32),
    }
    # what only --liked reads
    arrays |= {name: np.zeros((1, 1), np.float32) for name in ("query_base", "history_bag", "history_residual")}
    layers = [(0.1 * table(3 * dims + 2, 64), np.zeros(64, np.float32)), (table(64, 1), np.zeros(1, np.float32))]
    head = Head(mean=4.0, retrieval_dims=dims, rating_start=0)
    names = [["", *(f"{kind}{n:027}" for n in range(rows))] for kind, rows in (("A", customers), ("B", products))]
    titles = ["", *(f"A product of the catalogue, number {n:05}" for n in range(products))]
    strings = {
        "customer_ids": Strings.of(names[0]),
        "product_ids": Strings.of(names[1]),
        "titles": Strings.of(titles),
    }
    folder.mkdir(parents=True)
    write_vectors(folder, Vectors(**arrays, **strings, layers=layers, head=head))
    RunInfo(finished=1.0).write(folder / RUN)
    return open_run(folder)


def brute_force(run: Run, customers: int) -> Callable[[], None]:
    """The 10 best for the first customers, by TFRS."""
    from amzrec.model.keras2 import import_tensorflow, import_tfrs

    tf, tfrs = import_tensorflow(), import_tfrs()
    vectors = run.vectors
    layer = tfrs.layers.factorized_top_k.BruteForce(k=10)
    layer.index(tf.constant(vectors.retrieval_candidate[1:]), tf.range(1, len(vectors.retrieval_candidate)))
    ask = tf.function(layer.call)

    def peer() -> None:
        for start in range(1, customers + 1, 1024):
            ask(tf.constant(vectors.retrieval_query[start : start + 1024]))[1].numpy()

    return peer


def alternating(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Median wall and CPU seconds (children included) of each after one call to warm up, taken in turn."""

    def cpu() -> float:
        return sum(os.times()[:4])

    for step in steps.values():
        step()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            wall, busy = time.perf_counter(), cpu()
            step()
            found[name].append((time.perf_counter() - wall, cpu() - busy))
    return {name: tuple(map(statistics.median, zip(*times, strict=True))) for name, times in found.items()}


def everyone(folder: Path, customers: int, products: int, dims: int, rounds: int) -> list[str]:
    """`recommend --all` against brute force by TFRS."""
    run = generated(folder / "some", customers, products, dims)
    steps = {
        "amzrec recommend --all": lambda: recommend_all(run, folder / "all.parquet", overwrite=True),
        "TFRS BruteForce, top-k alone": brute_force(run, customers),
    }
    found = alternating(steps, rounds)
    base = found["amzrec recommend --all"]
    rows = [
        [n, f"{customers / w:,.0f}", f"{customers / c:,.0f}", f"{w / base[0]:.2f}", f"{c / base[1]:.2f}"]
        for n, (w, c) in found.items()
    ]
    head = [f"{customers:,} customers × {products:,} products, {dims} wide, k 10"]
    return [markdown([*head, "customers/s", "customers per CPU second", "wall ratio", "CPU ratio"], rows)]


def whole(folder: Path, customers: int, products: int, dims: int) -> list[str]:
    """Everyone once, in a process of its own."""
    run = generated(folder / "whole", customers, products, dims)
    code = f"from amzrec import recommend_all; recommend_all({str(run.path)!r}, {str(folder / 'w.parquet')!r})"
    started = time.perf_counter()
    peak = int(subprocess.run([sys.executable, "-c", f"{code}; {PEAK}"], cwd=HERE, **READ).stdout)
    seconds = time.perf_counter() - started
    size = (folder / "w.parquet").stat().st_size
    return [
        f"Once for {customers:,} customers × {products:,} products: {seconds:,.0f} s, {customers / seconds:,.0f} "
        f"customers/s, peak memory {peak / 1e6:.2f} GB (memory-mapped vectors included), file {size / 1e6:,.0f} MB."
    ]


READ: dict[str, Any] = {"check": True, "capture_output": True, "text": True}


def cold(folder: Path, size: int, dims: int, rounds: int) -> list[str]:
    """Whole processes: one recommendation, and what they are compared with."""
    run = generated(folder / "cold", size, size, dims)
    customer = run.vectors.customer_ids[size // 2]
    program = [sys.executable, "-m", "amzrec"]
    commands = {
        f"amzrec recommend, {size:,} customers × {size:,} products, {dims} wide": [
            *program,
            "recommend",
            customer,
            "--run",
            str(run.path),
        ],
        "python -c 'import tensorflow'": [sys.executable, "-c", "import tensorflow"],
        "amzrec --help": [*program, "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    steps = {name: (lambda words=words: subprocess.run(words, cwd=HERE, **READ)) for name, words in commands.items()}
    found = alternating(steps, rounds)
    rows = []
    for name, (wall, busy) in found.items():
        code = f"import subprocess; subprocess.run({commands[name]!r}, capture_output=True); {OF_CHILD}"
        peak = int(subprocess.run([sys.executable, "-c", code], cwd=HERE, **READ).stdout)
        rows.append(
            [name, f"{wall:.2f}", f"{busy:.2f}", f"{wall / next(iter(found.values()))[0]:.2f}", f"{peak / 1e3:.0f}"]
        )
    return [markdown(["whole process", "wall s", "CPU s", "wall ratio", "peak MB"], rows)]


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *rows])


def section(file: Path | None, heading: str, text: str) -> None:
    """Print, and put in the place of the section of that heading in a Markdown file, with how busy the machine was."""
    load = " / ".join(f"{average:.1f}" for average in os.getloadavg())
    text += f"\n\n{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load average of 1 / 5 / 15 minutes {load}."
    print(f"## {heading}\n\n{text}")
    if file:
        old = (
            file.read_text()
            if file.exists()
            else "# Speed\n\nThe machine was shared: trust the ratios, and of those the ones of CPU time.\n"
        )
        parts = [part for part in old.split("\n## ") if not part.startswith(f"{heading}\n")]
        file.write_text("\n## ".join([*(part.rstrip() + "\n" for part in parts), f"{heading}\n\n{text}\n"]))


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--customers", type=int, default=20_000, help="customers of each round")
    parser.add_argument("--everyone", type=int, default=200_000, help="customers of the single run; 0: leave out")
    parser.add_argument("--products", type=int, default=100_000)
    parser.add_argument("--dims", type=int, default=64)
    parser.add_argument("--cold", type=int, default=1_000_000, help="customers and products; 0: leave out")
    parser.add_argument("--out", type=Path, help="Markdown file whose section is replaced; default: print")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = everyone(folder, a.customers, a.products, a.dims, a.rounds)
        parts += whole(folder, a.everyone, a.products, a.dims) if a.everyone else []
        parts += cold(folder, a.cold, 32, a.rounds) if a.cold else []
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        parts.append(f"Peak of the measuring process, TensorFlow and the peer included: {peak:.2f} GB.")
    section(a.out, "Recommendations", "\n\n".join([__doc__.split("\n\n", 2)[2].strip(), *parts]))


if __name__ == "__main__":
    main()
