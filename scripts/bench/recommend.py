"""How fast recommendations are: for everyone into a file, and for one customer from a cold start, beside peers.

    python scripts/bench/recommend.py --out benchmarks/speed.md

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
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from amzrec.commands.recommend_all import recommend_all
from amzrec.store.run import Run
from synthetic import run_of_everyone
from tables import described_by, markdown, section
from timing import READ, ROOT, alternating

# not ru_maxrss: a child starts with that of the process that started it
PEAK = "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
OF_CHILD = "import resource; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"


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


def everyone(folder: Path, customers: int, products: int, dims: int, rounds: int) -> list[str]:
    """`recommend --all` against brute force by TFRS."""
    run = run_of_everyone(folder / "some", customers, products, dims)
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
    run = run_of_everyone(folder / "whole", customers, products, dims)
    code = f"from amzrec import recommend_all; recommend_all({str(run.path)!r}, {str(folder / 'w.parquet')!r})"
    started = time.perf_counter()
    peak = int(subprocess.run([sys.executable, "-c", f"{code}; {PEAK}"], cwd=ROOT, **READ).stdout)
    seconds = time.perf_counter() - started
    size = (folder / "w.parquet").stat().st_size
    return [
        f"Once for {customers:,} customers × {products:,} products: {seconds:,.0f} s, {customers / seconds:,.0f} "
        f"customers/s, peak memory {peak / 1e6:.2f} GB (memory-mapped vectors included), file {size / 1e6:,.0f} MB."
    ]


def cold(folder: Path, size: int, dims: int, rounds: int) -> list[str]:
    """Whole processes: one recommendation, and what they are compared with."""
    run = run_of_everyone(folder / "cold", size, size, dims)
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
    steps = {name: (lambda words=words: subprocess.run(words, cwd=ROOT, **READ)) for name, words in commands.items()}
    found = alternating(steps, rounds)
    rows = []
    for name, (wall, busy) in found.items():
        code = f"import subprocess; subprocess.run({commands[name]!r}, capture_output=True); {OF_CHILD}"
        peak = int(subprocess.run([sys.executable, "-c", code], cwd=ROOT, **READ).stdout)
        rows.append(
            [name, f"{wall:.2f}", f"{busy:.2f}", f"{wall / next(iter(found.values()))[0]:.2f}", f"{peak / 1e3:.0f}"]
        )
    return [markdown(["whole process", "wall s", "CPU s", "wall ratio", "peak MB"], rows)]


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
    section(a.out, "Recommendations", "\n\n".join([described_by(__doc__), *parts]))


if __name__ == "__main__":
    main()
