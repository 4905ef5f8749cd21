"""What `amzrec plan` says beside what then happens: memory, and seconds by stage, on data of four sizes.

    python scripts/bench/plan.py --sizes sample,ml-100k,ml-1m,generated --data FOLDER --out benchmarks/plan.md

Each plan and each training is a process of its own, with default flags, --epochs epochs and no refit. FOLDER has
ml-100k and ml-1m; `generated` are the reviews of scripts/bench/scale.py, --reviews of them. Memory is the most that the
training process held. Seconds are those of all threads (CPU), in the plan as well, since the load of the machine
changes between the two; a plan for people counts those of the wall.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from amzrec import heap
from scale import generate, timed_calls
from tables import described_by, markdown, section
from timing import ROOT, peak

SIZES = ("sample", "ml-100k", "ml-1m", "generated")


def child(word: str, dataset: Path, run: Path, epochs: int) -> dict[str, Any]:
    """Plan, or train, in this process."""
    import amzrec
    from amzrec.config import TrainConfig
    from amzrec.store.dataset import open_dataset

    config = TrainConfig(epochs=epochs, refit=False)
    if word == "plan":
        from amzrec.commands.train import recipe_for
        from amzrec.planning.calibration import calibrate
        from amzrec.planning.report import document_of
        from amzrec.planning.sizes import sizes_of

        opened = open_dataset(dataset)
        begun, busy = time.perf_counter(), time.process_time()
        recipe = recipe_for(opened, config)
        sizes, found = sizes_of(opened, recipe), calibrate(opened, recipe, now=time.process_time)
        document = document_of(opened, recipe, sizes, None, found)
        return document | {"took": [time.perf_counter() - begun, time.process_time() - busy]}
    from amzrec.training import learner

    heap.share()  # as the command does
    parts: dict[str, Any] = {}
    learner.Learner.epoch = timed_calls(parts, "epochs", learner.Learner.epoch)  # type: ignore[method-assign]
    busy = time.process_time()
    amzrec.train(dataset, run, config, overwrite=True)
    return {"all": time.process_time() - busy, "peak": peak()} | parts


def process(*words: str) -> dict[str, Any]:
    """Run this script once more, and read what it prints last."""
    done = subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def difference(planned: float, found: float) -> str:
    """How far a plan is from what was found, in percent of that."""
    return f"{100 * (planned / found - 1):+.0f} %"


def main() -> None:
    """Plan and train each, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--reviews", type=int, default=2_000_000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--keep", type=Path, help="folder of datasets that are made once")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.child:
        word, dataset, run = options.child
        print(json.dumps(child(word, Path(dataset), Path(run), options.epochs)))
        return
    import amzrec

    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        kept = options.keep or Path(scratch)
        kept.mkdir(exist_ok=True)
        for name in options.sizes.split(","):
            dataset = kept / f"{name}-dataset"
            if not dataset.exists():
                source: Path | None = None if name == "sample" else options.data / name
                if name == "generated":
                    source = kept / "generated.parquet"
                    generate(source, options.reviews, options.reviews, 1)
                amzrec.prepare(source, dataset)
            said, epochs = Path(scratch) / f"{name}-run", f"--epochs={options.epochs}"
            plan = process(epochs, "--child", "plan", str(dataset), str(said))
            found = process(epochs, "--child", "train", str(dataset), str(said))
            seconds, memory = plan["seconds_in_all"], plan["memory"]["training"] / 1e9
            row = [f"{name} ({plan['rows']['train']:,})", f"{plan['parameters']['all']:,}"]
            row += [f"{memory:.2f}", f"{found['peak']:.2f}", difference(memory, found["peak"])]
            row += [f"{seconds:,.0f}", f"{found['all']:,.0f}", difference(seconds, found["all"])]
            row += [f"{plan['took'][1]:,.0f}"]
            rows.append(row)
            print(row, plan["seconds"], found, file=sys.stderr, flush=True)
    header = ["reviews in train", "numbers learned", "memory: plan GB", "found GB", "plan off by"]
    header += ["time: plan CPU s", "found CPU s", "plan off by", "the plan itself, CPU s"]
    text = f"{described_by(__doc__)}\n\n{markdown(header, rows)}\n\n--epochs {options.epochs}."
    section(options.out, "The plan and what happened", text, "Plan")


if __name__ == "__main__":
    main()
