"""How fast prepare is and how much memory it takes, beside pandas and the reference's tf.data route, as ratios.

    python scripts/bench/prepare.py --rows 1000000,5000000 --out benchmarks/prepare.md
    python scripts/bench/prepare.py --rows 50000000 --layouts tsv --systems prepare --rounds 1

Generated files, seeded: the 15-column TSV of amazon_us_reviews (433 bytes a row, as the real one) and the JSON lines of
2023; per row 0.33 customers and 0.1 products, few of which have many; 1 % exact duplicates, 1 % repeats. Systems,
alternating, each in a process of its own:
  read            amzrec: the file into typed, checked columns; what is refused counted
  prepare         amzrec: all of it, to the dataset folder
  pandas read     pandas: read_csv (or read_json) of the columns that are used, and factorize of both ids
  pandas script   pandas: the same work as prepare, without rejects, as one would write it
  tf.data         the notebook's way, on a saved dataset of the first 100,000 rows: unique, StringLookup, shuffle, split
Medians after imports: wall and CPU seconds (the CPU figure is what a busy machine does not change), peak memory of the
process, most bytes on disk at one time beside the source.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

HEADER = (
    "marketplace customer_id review_id product_id product_parent product_title product_category star_rating "
    "helpful_votes total_votes vine verified_purchase review_headline review_body review_date"
)
WORDS = (
    "the a my our this that very quite really good great nice small large blue red soft strong cheap sturdy works "
    "bought came broke fits looks feels love like return gift kids mother dog kitchen travel winter after before "
    "weeks months years days would not again recommend price quality size colour box shipping battery handle strap"
)
TITLE_WORDS = WORDS.split()
CUSTOMERS, PRODUCTS = 0.4, 0.1  # per row; the whole of amazon_us_reviews has 0.25 and 0.15
TWICE, AGAIN = 0.01, 0.01  # shares of rows that repeat the row before, or its customer and product on another day
STARS = (0.08, 0.05, 0.08, 0.16, 0.63)
BODY = 277  # mean characters of a review in the TSV, as in the real file
CHUNK = 100_000
LAYOUTS = {"tsv": ".tsv", "jsonl": ".jsonl"}
SUBSET = 100_000  # rows of tf.data
COLUMNS = ("wall", "cpu", "memory", "disk")
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


def rows(count: int, seed: int) -> Iterator[tuple[list[Any], ...]]:
    """Columns (customer, product, stars, day, headline, body) in chunks; few customers and products have many rows."""
    rng = np.random.default_rng(seed)
    text = " ".join(rng.choice(WORDS.split(), 400_000))
    for start in range(0, count, CHUNK):
        n = min(CHUNK, count - start)
        customer = (count * CUSTOMERS * rng.random(n) ** 2).astype(np.int64) * 7919 % 49_979_693
        product = (count * PRODUCTS * rng.random(n) ** 3).astype(np.int64)
        stars, day = rng.choice(5, n, p=STARS) + 1, rng.integers(0, 4_000, n)
        repeat = rng.random(n)
        repeat[0] = 1
        for column in (customer, product):
            column[repeat < TWICE + AGAIN] = np.roll(column, 1)[repeat < TWICE + AGAIN]
        for column in (stars, day):
            column[repeat < TWICE] = np.roll(column, 1)[repeat < TWICE]
        begin = rng.integers(0, len(text) - 3_000, n)
        length = rng.geometric(1 / (BODY - 20), n).clip(1, 2_900) + 20
        heads = [text[b : b + 23] for b in begin]
        bodies = [text[b : b + n] for b, n in zip(begin.tolist(), length.tolist(), strict=True)]
        yield customer.tolist(), product.tolist(), stars.tolist(), day.tolist(), heads, bodies


def asin(product: int) -> str:
    """A product id of 10 characters."""
    return f"B{product:09d}"


def parent(product: int) -> int:
    """A product_parent of 9 digits: one per product."""
    return 100_000_000 + product * 7


def title(product: int) -> str:
    """A product title of about 56 characters, always the same."""
    words = TITLE_WORDS
    return " ".join(words[(product * k + k) % len(words)] for k in (1, 3, 5, 7, 11, 13, 17, 19, 23)) + f" {product}"


def generate(path: Path, layout: str, count: int, seed: int) -> None:
    """The file: amazon_us_reviews TSV of 15 columns, or the JSON lines of 2023."""
    days = [str(np.datetime64("2004-09-01") + d) for d in range(4_000)]
    number = 0
    with path.open("w", encoding="utf-8") as file:
        if layout == "tsv":
            file.write("\t".join(HEADER.split()) + "\n")
        for chunk in rows(count, seed):
            lines = []
            for customer, product, stars, day, head, body in zip(*chunk, strict=True):
                number += 1
                if layout == "tsv":
                    lines.append(
                        f"US\t{customer}\tR{number:013d}\t{asin(product)}\t{parent(product)}\t{title(product)}\tBaby\t"
                        f"{stars}\t0\t1\tN\tY\t{head}\t{body}\t{days[day]}\n"
                    )
                else:
                    lines.append(
                        f'{{"rating": {stars}.0, "title": "{head}", "text": "{body}", "images": [], "asin": '
                        f'"{asin(product)}", "parent_asin": "{asin(product)}", "user_id": "AE{customer:026d}", '
                        f'"timestamp": {1_094_000_000_000 + day * 86_400_000}, "helpful_vote": 0, '
                        '"verified_purchase": true}\n'
                    )
            file.write("".join(lines))


# --- the systems: each does its work on a file and says how many rows it kept


def read(file: Path, folder: Path) -> int | None:
    """The first stage of prepare."""
    from amzrec.config import PrepareConfig
    from amzrec.errors import SILENT
    from amzrec.reviews.preparation import Preparation
    from amzrec.reviews.sources.origin import Origin

    folder.mkdir()
    work = Preparation(Origin(str(file), (str(file),)), PrepareConfig(), folder, SILENT)
    with work.engine.working(str(file), folder):
        work.open_sources()
        work.read()
    return None


def prepare(file: Path, folder: Path) -> int:
    """All of it."""
    from amzrec.commands.prepare import prepare as verb

    return int(verb(file, folder).info.counts.kept)


NAMES = {  # of the columns in each layout
    ".tsv": {
        "customer_id": "customer",
        "product_parent": "product",
        "product_title": "title",
        "product_category": "category",
        "star_rating": "stars",
        "review_date": "time",
    },
    ".jsonl": {"user_id": "customer", "parent_asin": "product", "rating": "stars", "timestamp": "time"},
}


def frame(file: Path) -> Any:
    """The columns that are used, under our names."""
    import pandas as pd

    names = NAMES[file.suffix]
    if file.suffix == ".jsonl":
        return pd.read_json(file, lines=True, dtype={"user_id": str})[list(names)].rename(columns=names)
    found = pd.read_csv(
        file, sep="\t", quoting=csv.QUOTE_NONE, usecols=list(names), dtype=str, keep_default_na=False, na_values=[]
    )
    return found.rename(columns=names)


def pandas_read(file: Path, folder: Path) -> None:
    """Read and number the ids."""
    import pandas as pd

    found = frame(file)
    for name in ("customer", "product"):
        pd.factorize(found[name])


def pandas_script(file: Path, folder: Path) -> int:
    """Types, duplicates, repeats, a random split, vocabularies by count, titles and their tokens, sorted Parquet."""
    import re

    import pandas as pd

    found = frame(file)
    found["stars"] = pd.to_numeric(found["stars"], errors="coerce")
    found["time"] = pd.to_datetime(found["time"], errors="coerce").astype("int64") // 10**9
    found = found[(found["customer"] != "") & (found["product"] != "") & found["stars"].between(1, 5)]
    found = found.drop_duplicates(["customer", "product", "stars", "time"])
    found = found.sort_values(["time", "stars"]).drop_duplicates(["customer", "product"], keep="last")
    draw = np.random.default_rng(42).random((len(found), 2))
    part = np.where(draw[:, 0] < 0.2, 2, np.where(draw[:, 1] < 0.1, 1, 0))
    folder.mkdir()
    for name in ("customer", "product"):
        counts = found.loc[part == 0, name].value_counts()
        table = pd.DataFrame({"id": found[name].unique()})
        table["count"] = table["id"].map(counts).fillna(0).astype("int64")
        table = table.sort_values(["count", "id"], ascending=[False, True]).reset_index(drop=True)
        for fact in ("title", "category") if name == "product" and "title" in found else ():
            told = found.groupby(["product", fact]).size().reset_index(name="n")
            told = told.sort_values(["n", fact], ascending=[False, True]).drop_duplicates("product")
            table[fact] = table["id"].map(told.set_index("product")[fact])
        if "title" in table:
            words = (re.findall(r"\w+", title.lower()) for title in table["title"])
            table["tokens"] = [[zlib.crc32(word.encode()) & 0x7FFFFFFF for word in title] for title in words]
        table.to_parquet(folder / f"{name}s.parquet", index=False)
        rows = pd.Series(np.arange(1, len(table) + 1, dtype=np.int32), table["id"])
        found[name] = found[name].map(rows)
    for number, name in enumerate(("train", "valid", "test")):
        rows = found[part == number].sort_values(["customer", "time", "product"])
        rows[["customer", "product", "stars", "time"]].to_parquet(folder / f"{name}.parquet", index=False)
    return len(found)


def saved(file: Path, folder: Path) -> Path:
    """The first 100,000 rows of a TSV as the reference has them: one element of 15 fields per row."""
    import tensorflow as tf

    with file.open(encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split("\t") for line, _ in zip(lines, range(SUBSET + 1), strict=False)]
    columns = dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True))
    tensors = {name: np.array(values).astype("S") for name, values in columns.items()}
    tensors["star_rating"] = tensors["star_rating"].astype(np.int32)
    tf.data.Dataset.from_tensor_slices({"data": tensors}).save(str(folder))
    return folder


def tf_data(file: Path, folder: Path) -> None:
    """Load, cut to three fields, unique ids, StringLookup, shuffle, split, one pass over the encoded parts."""
    import tensorflow as tf

    reviews = tf.data.Dataset.load(str(file)).map(
        lambda e: {n: e["data"][n] for n in ("customer_id", "product_title", "star_rating")}
    )
    lookups = {}
    for name in ("customer_id", "product_title"):
        names = np.unique(np.concatenate(list(reviews.map(lambda e, n=name: e[n]).batch(1000).as_numpy_iterator())))
        lookups[name] = tf.keras.layers.StringLookup(vocabulary=names, mask_token=None)
    shuffled = reviews.shuffle(100_000, seed=42, reshuffle_each_iteration=False)
    test = SUBSET // 5
    for part in (shuffled.skip(test), shuffled.take(test)):
        encoded = part.batch(8192).map(lambda e: {n: lookups[n](e[n]) for n in lookups} | {"s": e["star_rating"]})
        for _ in encoded:
            pass


SYSTEMS: dict[str, Callable[[Path, Path], Any]] = {
    "read": read,
    "prepare": prepare,
    "pandas read": pandas_read,
    "pandas script": pandas_script,
    "tf.data": tf_data,
}


def child(system: str, file: Path, folder: Path) -> None:
    """One system on one file, in this process; prints its figures."""
    if system == "tf.data":
        file = saved(file, folder)
    elif system in ("read", "prepare"):
        import ibis
        import pyarrow.dataset  # noqa: F401 (DuckDB imports it to scan a stream, and pandas with it)

        ibis.duckdb.connect()
    else:
        import pandas  # noqa: F401
    wall, cpu = time.perf_counter(), time.process_time()
    kept = SYSTEMS[system](file, folder)
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "kept": kept}))


def measured(system: str, file: Path, folder: Path) -> dict[str, Any]:
    """The figures of a new process, with its peak memory and the most bytes that lay in `folder`."""
    most, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            most[0] = max(most[0], size(folder))

    watching = threading.Thread(target=watch)
    watching.start()
    command = [sys.executable, __file__, "--child", system, str(file), str(folder / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | QUIET)
    assert process.stdout is not None
    assert process.stderr is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    over.set()
    watching.join()
    if status:
        raise SystemExit(f"{system} failed: {process.stderr.read().decode()[-2000:]}")
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found | {"memory": usage.ru_maxrss * 1024, "disk": max(most[0], size(folder))}


def size(folder: Path) -> int:
    """Bytes of all files under a folder that somebody else is changing."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_blocks * 512
            except OSError:
                continue
    return total


def table(count: int, layout: str, systems: list[str], rounds: int, folder: Path) -> str:
    """One table: a generated file, the systems on it in turn, medians and ratios to the pandas script."""
    file = folder / f"reviews{LAYOUTS[layout]}"
    generate(file, layout, count, seed=1)
    os.sync()  # or the systems would wait until the disk has the file
    width = file.stat().st_size
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in systems if name != "tf.data" or layout == "tsv"}
    for _ in range(rounds):
        for name, runs in found.items():
            with tempfile.TemporaryDirectory(dir=folder) as own:
                runs.append(measured(name, file, Path(own)))
    file.unlink()
    kept = {run["kept"] for runs in found.values() for run in runs} - {None}
    assert len(kept) <= 1, f"the systems kept different rows: {kept}"
    middle = {n: {k: statistics.median(r[k] for r in runs) for k in COLUMNS} for n, runs in found.items()}
    header = ["", "million rows/s", "wall s", "CPU s", "times the pandas script, wall", "CPU", "memory MB", "disk MB"]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for name, figures in middle.items():
        rows = SUBSET if name == "tf.data" else count
        ratios = ["-", "-"]
        if (rival := middle.get("pandas script")) and name != "pandas script":
            ratios = [f"{rival[k] / count / (figures[k] / rows):.1f}" for k in ("wall", "cpu")]
        rate = f"{rows / figures['wall'] / 1e6:.3f}"
        sizes = [f"{figures[k] / 1e6:,.0f}" for k in ("memory", "disk")]
        lines.append([name, rate, f"{figures['wall']:.1f}", f"{figures['cpu']:.1f}", *ratios, *sizes])
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    share = f", {kept.pop():,} kept" if kept else ""
    return f"## {count:,} rows, {layout}: {width / 1e6:,.0f} MB{share}; {rounds} rounds\n\n{text}\n"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="200000", help="sizes, with commas between")
    parser.add_argument("--layouts", default="tsv,jsonl")
    parser.add_argument("--systems", default="read,prepare,pandas read,pandas script,tf.data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files are made, and deleted again; default: temporary")
    parser.add_argument("--out", type=Path, help="Markdown file to add the tables to; default: only print")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        system, file, folder = arguments.child
        return child(system, Path(file), Path(folder))
    if arguments.out and not arguments.out.exists():
        arguments.out.write_text(f"# Speed of prepare\n\n{__doc__.split(chr(10) * 2, 2)[2].strip()}\n")
    for count in map(int, arguments.rows.split(",")):
        for layout in arguments.layouts.split(","):
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                text = table(count, layout, arguments.systems.split(","), arguments.rounds, Path(folder))
            print(text, flush=True)
            if arguments.out:
                with arguments.out.open("a") as report:
                    report.write("\n" + text)


if __name__ == "__main__":
    main()
