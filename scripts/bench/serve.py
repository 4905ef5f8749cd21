"""How fast the service answers, how many at once, and what its index finds.

    python scripts/bench/serve.py --first --out benchmarks/serve.md
    python scripts/bench/serve.py --products 20000 --customers 20000 --seconds 5      # a look, in a minute

A generated run (shop.py): products and customers with vectors of 64 dimensions whose spectrum falls off as that of
learned ones does, 3 reviews per customer, 10 votes per product, a category. `amzrec serve` is one process, with its
index, its log of requests and its events in SQLite; wrk (apt-get install wrk) is another, on the same cores. With a
rate, requests come at random moments, as independent people send them, each for a customer drawn at random. Times are
those that wrk saw; the CPU time is that of the service alone. The machine was busy with other work (see the load below,
for 2 cores), before which these processes came first where --first is given (a nice value of -20, as root).
  start      from the start of the process until /readyz answers, with the index that an earlier start has kept; memory
  single     one recommendation at 200 requests per second, the same with only=category=N at 20; events, each in a
             request of its own and 100 in a request, all durable before they are answered; the same from 16 connections
             that wait for nothing but the answer (a connection that waits for a random time as well asks for less than
             was wanted, by as much as the answer takes)
  most       the highest rate that came with 99 of 100 answers within 50 ms, from 100 connections, by one process and by
             two
  recall     the share of the exact 100 best that the index finds, votes included, for 100 customers, where the best E
             are excluded
  saved      the same recommendation by the SavedModel of amzrec export in TensorFlow, without HTTP, and by two
             processes of the service, in turn
  peer       Chroma (pip install chromadb into an environment of its own, named with --chroma) with the same candidates,
             asked by vector for 13 products of which amzrec would hide 3; it knows no customers, titles, stars, memory.
             With its defaults, and with --hnsw settings, of which those count that find as much as amzrec is tuned to
  before     two processes of the service of another checkout (--other), and of this one, asked in turn, three times
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from amzrec.answers.index import ExactIndex
from amzrec.answers.recommender import Recommender
from amzrec.answers.tuning import choose
from amzrec.store.folders import cache_folder
from amzrec.store.run import Run, open_run
from chroma import ANSWERS, SEEN, chroma, post, question
from served import Load, Service, load, serving
from shop import shop
from tables import described_by, markdown, section
from timing import ROOT

P99 = 50.0  # ms within which 99 of 100 answers must come
CONNECTIONS = 100  # that ask for as much as is kept up; all of them come at once
THREADS = (1, 2, 4)  # that ask the SavedModel at the same time
CLOSE = 1.08  # the rate that is not kept up, over the next one that is tried, at which the search ends


class Bench:
    """A run, and how long it is asked."""

    def __init__(
        self,
        run: Run,
        folder: Path,
        seconds: float,
        customers: int,
        products: int,
        chroma: Path | None = None,
        settings: dict[str, int] | None = None,
        other: Path | None = None,
    ) -> None:
        self.other = other
        self.run, self.folder, self.seconds, self.chroma, self.settings = run, folder, seconds, chroma, settings
        self.customers, self.products = customers, products

    def ask(self, service: Service, kind: str, rate: float, seconds: float, connections: int = 0) -> Load:
        """Ask the service."""
        return load(service, kind, rate, seconds, self.customers, self.products, connections)

    def serving(self, *words: str) -> contextlib.AbstractContextManager[Service]:
        """Start the service."""
        return serving(self.run.path, self.folder / "log", "--events", str(self.folder / "events.db"), *words)

    def row(self, what: str, service: Service, kind: str, rate: float, seconds: float, each: int = 1) -> list[str]:
        """Ask, and lay out what came."""
        found = self.ask(service, kind, rate, seconds)
        errors = found.refused + found.broken
        rates = [f"{rate * each:,.0f}" if rate else "–", f"{found.rate * each:,.0f}"]
        return [what, *rates, f"{found.p50:.1f}", f"{found.p99:.1f}", f"{errors}", f"{found.busy:.2f}"]

    def start(self) -> list[str]:
        """Start twice, for the index is built by the first one."""
        with self.serving():
            pass
        with self.serving() as service:
            ready = service.seconds
            self.ask(service, "recommend", 200, 5)
            now, own, most = service.memory()
        files = sum(file.stat().st_size for file in (self.run.path / "vectors").iterdir())
        return [
            f"Ready after {ready:.1f} s. Memory after 1,000 answers {now:,.0f} MB, of that {own:,.0f} MB its own and "
            f"the rest mapped files, which the system may drop; at most {most:,.0f} MB. The run has "
            f"{files / 1e6:,.0f} MB."
        ]

    def single(self) -> list[str]:
        """Single questions, and events."""
        with self.serving() as service:
            rows = [
                self.row("GET /recommend", service, "recommend", 200, self.seconds),
                self.row("GET /recommend?only=category=N", service, "only", 20, self.seconds / 4),
                self.row("POST /events, one each", service, "events", 1000, self.seconds / 2),
                self.row("POST /events, 100 each", service, "batch", 200, self.seconds / 2, 100),
                self.row("POST /events, one each, without a pause", service, "events", 0, self.seconds / 4),
                self.row("POST /events, 100 each, without a pause", service, "batch", 0, self.seconds / 4, 100),
            ]
        head = ["", "wanted /s", "came /s", "p50 ms", "p99 ms", "errors", "CPU ms per request"]
        return [markdown(head, rows)]

    def most(self) -> list[str]:
        """The highest rate that is kept up."""
        rows = []
        for workers in ("1", "2"):
            with self.serving("--workers", workers) as service:
                rate, best, missed = 400.0, None, 0.0
                while not missed or missed / rate > CLOSE:
                    found = self.ask(service, "recommend", rate, max(4, self.seconds / 4), CONNECTIONS)
                    kept = found.p99 <= P99 and not found.refused + found.broken
                    if kept and (best is None or found.rate > best.rate):
                        best, below = found, rate
                        rate = math.sqrt(rate * missed) if missed else rate * 1.5
                    elif best is None:
                        break
                    else:
                        missed, rate = rate, math.sqrt(rate * below)
                full = self.ask(service, "recommend", 0, max(4, self.seconds / 6), 16)
            kept_up = ["–"] * 3 if best is None else [f"{best.rate:,.0f}", f"{best.p50:.1f}", f"{best.p99:.1f}"]
            rows.append([f"--workers {workers}", *kept_up, f"{full.rate:,.0f}", f"{full.p99:.1f}", f"{full.busy:.2f}"])
        head = [
            "",
            "came /s, p99 within 50 ms",
            "p50 ms",
            "p99 ms",
            "16 connections without a pause /s",
            "p99 ms",
            "CPU ms per request",
        ]
        return [markdown(head, rows)]

    def recall(self) -> list[str]:
        """The share of the exact answer that the index finds."""
        said: list[str] = []
        with threadpool_limits(1, user_api="blas"):
            chosen = choose(Recommender(self.run.vectors), self.run.path, "auto", 0.98, cache_folder(), said.append)
            model = chosen.recommender
            exact = model.searching(ExactIndex(model.candidate_vectors, model.candidates))
            customers = np.random.default_rng(9).integers(1, self.customers + 1, 100)
            rows = []
            for excluded in (0, 100, 1000):
                shares, seconds, slow = list[float](), list[float](), list[float]()
                for customer in customers:
                    query = model.vectors.retrieval_query[customer][None]
                    history = [model.history(int(customer))]
                    best = exact.retrieve(query, excluded, None, history)[0][0] if excluded else np.zeros(0, np.int32)
                    begun = time.perf_counter()
                    wanted = exact.retrieve(query, 100, [best], history)[0][0]
                    between = time.perf_counter()
                    found = model.retrieve(query, 100, [best], history)[0][0]
                    seconds.append(time.perf_counter() - between)
                    slow.append(between - begun)
                    assert not np.isin(found, best).any()
                    assert (found > 0).all()
                    shares.append(len(np.intersect1d(found, wanted)) / 100)
                times = [f"{1e3 * statistics.median(each):.2f}" for each in (seconds, slow)]
                rows.append([f"{excluded:,}", f"{np.mean(shares):.3f}", *times])
        return [markdown(["excluded", "recall@100", "index ms", "exact ms"], rows), *said[-1:]]

    def saved(self) -> list[str]:
        """The same by the SavedModel."""
        from amzrec.commands.export import export
        from amzrec.model.keras2 import import_tensorflow

        tf = import_tensorflow()
        export(self.run, self.folder / "export")
        model = tf.saved_model.load(str(self.folder / "export" / "saved_model")).signatures["recommend"]
        ids, numbers = self.run.vectors.customer_ids, itertools.count()

        def ask() -> float:
            name = ids[1 + next(numbers) * 7919 % self.customers]
            begun = time.perf_counter()
            model(customer_id=tf.constant([name]), k=tf.constant(10), exclude=tf.constant([[""]]))
            return time.perf_counter() - begun

        for _ in range(10):
            ask()
        rows, limit = [], max(2, self.seconds / 6)
        for threads in THREADS:

            def until(end: float) -> list[float]:
                return [ask() for _ in itertools.takewhile(lambda _: time.perf_counter() < end, itertools.count())]

            with ThreadPoolExecutor(threads) as pool:
                ends = [time.perf_counter() + limit] * threads
                seconds = np.concatenate(list(pool.map(until, ends))) * 1e3
            p50, p99 = np.percentile(seconds, [50, 99])
            rows.append((f"SavedModel, {threads} at a time, without HTTP", len(seconds) / limit, p50, p99))
        with self.serving("--workers", "2") as service:
            self.ask(service, "recommend", 0, limit, 16)  # so that it is as warm as the SavedModel, which read all
            full = self.ask(service, "recommend", 0, limit, 16)
        rows.append(("amzrec serve --workers 2, 16 connections without a pause", full.rate, full.p50, full.p99))
        most = max(rate for _, rate, *_ in rows[:-1])
        head = ["", "answers /s", "p50 ms", "p99 ms", "times the SavedModel's best"]
        return [markdown(head, [[n, f"{r:,.0f}", f"{a:.1f}", f"{z:.1f}", f"{r / most:.1f}"] for n, r, a, z in rows])]

    def peer(self) -> list[str]:
        """The same question to Chroma."""
        if self.chroma is None:
            raise SystemExit("--parts peer needs --chroma PROGRAM")
        customers = np.random.default_rng(9).integers(1, self.customers + 1, 1000)
        vectors, rows = self.run.vectors, list[list[str]]()
        bodies = self.folder / "bodies.jsonl"
        bodies.write_text(
            "".join(json.dumps(question(vectors.retrieval_query[c], ANSWERS + SEEN)) + "\n" for c in customers)
        )
        exact = ExactIndex(Recommender(vectors).candidate_vectors, vectors.candidates)
        asked = [vectors.retrieval_query[customer] for customer in customers[:100]]
        best = [exact.search(query[None], ANSWERS)[0][0] for query in asked]

        def recall(address: str) -> float:
            found = [post(address, question(query, ANSWERS))["ids"][0] for query in asked]
            return float(
                np.mean([np.isin([int(row) for row in f], b).mean() for f, b in zip(found, best, strict=True)])
            )

        said = []
        for settings in (None, *([self.settings] if self.settings else [])):
            with chroma(self.chroma, vectors, self.folder, settings) as (service, path, loaded):
                share = recall(service.address + path)
                words = [f"{key} {value}" for key, value in (settings or {}).items()]
                name = ", ".join(words) or "its defaults"
                rows += self.loads(f"Chroma ({name})", service, "lines", (str(bodies), path))
                said.append(
                    f"Chroma ({name}) took {loaded:,.0f} s to load the products, holds {service.memory()[0]:,.0f} MB "
                    f"and finds {share:.3f} of the {ANSWERS} best."
                )
        with self.serving() as service:
            rows += self.loads("amzrec serve", service, "recommend", ())
        head = ["", "wanted /s", "came /s", "p50 ms", "p99 ms", "errors", "CPU ms per request"]
        return [markdown(head, rows), *said]

    def before(self) -> list[str]:
        """The service of another checkout, in turn with this one."""
        if self.other is None:
            raise SystemExit("--parts before needs --other FOLDER")
        rows = list[list[str]]()
        with contextlib.ExitStack() as stack:
            services = {}
            for name, root in (("before", self.other), ("now", ROOT)):
                words = ("--workers", "2", "--events", str(self.folder / f"{name}.db"))
                log = self.folder / f"{name}.log"
                services[name] = stack.enter_context(serving(self.run.path, log, *words, root=root.resolve()))
            for _ in range(3):
                for name, service in services.items():
                    rows += self.loads(name, service, "recommend", ())
        rows.sort(key=lambda row: (row[1], row[0]))
        return [markdown(["", "wanted /s", "came /s", "p50 ms", "p99 ms", "errors", "CPU ms per request"], rows)]

    def loads(self, what: str, service: Service, kind: str, lines: tuple[str, ...]) -> list[list[str]]:
        """200 requests per second, and as many as 16 connections get without a pause."""
        rows = []
        for rate, connections in ((200.0, 0), (0.0, 16)):
            seconds = max(4, self.seconds / 3)
            found = load(service, kind, rate, seconds, self.customers, self.products, connections, lines)
            errors = found.refused + found.broken
            wanted = f"{rate:,.0f}" if rate else "all"
            times = [f"{found.p50:.1f}", f"{found.p99:.1f}", f"{errors}", f"{found.busy:.2f}"]
            rows.append([what, wanted, f"{found.rate:,.0f}", *times])
        return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", type=int, default=1_000_000)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60, help="of the longest load")
    parser.add_argument(
        "--parts", default="start,single,most,recall", help="which of the above; saved and peer are more"
    )
    parser.add_argument("--chroma", type=Path, help="the program of that name, for the part peer")
    parser.add_argument(
        "--hnsw",
        type=json.loads,
        help='settings of Chroma\'s index, such as {"ef_construction": 400, "max_neighbors": 32}',
    )
    parser.add_argument("--other", type=Path, help="another checkout, for the part before")
    parser.add_argument("--folder", type=Path, help="where the run is kept between calls; default: nowhere")
    parser.add_argument("--out", type=Path, help="Markdown file whose section is replaced; default: print")
    parser.add_argument("--first", action="store_true", help="before all other work of the machine; needs root")
    a = parser.parse_args()
    if a.first:
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    with tempfile.TemporaryDirectory() as name:
        place = (a.folder or Path(name)) / f"run-{a.products}-{a.customers}-{a.dims}"
        run = open_run(place) if place.exists() else shop(place, a.customers, a.products, a.dims)
        os.environ.setdefault("AMZREC_CACHE", str((a.folder or Path(name)) / "cache"))
        bench = Bench(run, Path(name), a.seconds, a.customers, a.products, a.chroma, a.hnsw, a.other)
        section(a.out, "What is measured", described_by(__doc__), "The service")
        for part in a.parts.split(","):
            text = "\n\n".join(getattr(bench, part)())
            section(a.out, f"{a.products:,} products, {a.customers:,} customers: {part}", text, "The service")


if __name__ == "__main__":
    main()
