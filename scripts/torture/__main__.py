"""Disturbs commands and folders on purpose, and writes what came of it.

    python scripts/torture --minutes 60 --out benchmarks/reliability.md       # or: make torture
    python scripts/torture --minutes 1 --only damage --seed 7                 # a look

A small world (600 reviews of 40 customers and 25 products, a dataset, a run, an export, an event store) is copied for
each case. Commands are whole command lines in forked processes, training without graphs (TensorFlow run eagerly) and
with a checkpoint after each step.
  kills      SIGKILL at a random moment, or at a random file event (a file opened, renamed, removed …): what stood there
             is whole, the same command (train: --resume) then ends as if nothing had happened, to the bit, and leaves
             no litter; SIGINT and SIGTERM: also one line, and exit code 130 or 143
  damage     each file of each folder damaged in five ways: one line, or the same answers
  full       a small disk (tmpfs) full at a random point, then given room
  parallel   commands in each other's way, each in a PID namespace of its own
  service    the kills and swaps of scripts/bench/volumes.py

It ends with exit code 1 where one of these does not hold.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tables import described_by, section
from torture.children import LIMIT, isolated, load_libraries
from torture.damage import Damages
from torture.full import FullDisks
from torture.kills import Case, Kills
from torture.parallel import Parallel
from torture.world import World

PARTS = ("kills", "damage", "full", "parallel", "service")
SHARES = {"kills": 0.5, "damage": 0.25, "full": 0.13, "parallel": 0.08, "service": 0.04}  # of the time


class Torture:
    """One worker: its world, and the time that it has."""

    def __init__(self, folder: Path, seed: int, export: bool, of: Sequence[str] = ()) -> None:
        self.folder, self.rng, self.export, self.seed, self.of = folder, random.Random(seed), export, seed, of
        os.environ["AMZREC_CACHE"] = str(folder / "cache")
        self.world = World(folder / "world", seed)
        (folder / "cases").mkdir()

    def kills(self) -> Kills:
        """Return the commands to be killed, measured once."""
        if not hasattr(self, "made"):
            self.made = Kills(self.world, self.rng, self.folder / "cases", self.export, self.of)
        return self.made

    def part(self, name: str) -> Iterator[Case]:
        """Yield cases of one part, without end."""
        if name == "kills":
            while True:
                yield from self.kills().next()
        if name == "damage":
            other = World(self.folder / "other", self.seed + 1000)
            damages = Damages(self.world, other, self.rng, self.folder / "damaged", self.export, self.of)
            yield from damages.some(1 << 60)
        if name == "full":
            disks = FullDisks(self.kills(), self.rng, self.folder / "disk")
            while disks.possible():
                yield disks.one()
        if name == "parallel":
            parallel = Parallel(self.kills(), self.rng)
            while True:
                yield from parallel.next()
        if name == "service":
            while True:
                yield from served(self.folder, self.rng)


def served(folder: Path, rng: random.Random) -> list[Case]:
    """Kill the service, and swap its run, as scripts/bench/volumes.py does."""

    def do() -> list[Case]:
        import volumes

        os.setpgrp()  # with the services that it starts
        signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGKILL))
        signal.alarm(int(LIMIT))  # for one that answers nothing is asked for ever
        place = Path(tempfile.mkdtemp(dir=folder))
        runs = volumes.two_runs(place)
        _, said, _ = volumes.kills(runs[0], place, 5)
        cases = [
            Case("SIGKILL at a moment", "events of the service", "each acknowledged event stored once", note=said)
        ] * 5
        _, said, _ = volumes.swaps(runs, place, 4, 2000)
        return [*cases, *[Case("run swapped while it is asked", "service", "each answer of one run", note=said)] * 4]

    answer = isolated(do)
    if answer.kind != "value":
        return [Case("service", "service", answer.kind, True, str(answer.value)[-1500:])]
    cases: list[Case] = answer.value
    return cases


def work(
    folder: Path, seed: int, minutes: dict[str, float], most: int, export: bool, of: Sequence[str], results: Path
) -> None:
    """Do what there is time for, and write each case as a line of JSON."""
    torture = Torture(folder, seed, export, of)
    with results.open("a", encoding="utf-8") as stream:
        for name, limit in minutes.items():
            stop = None
            for number, case in enumerate(torture.part(name), 1):
                stop = stop or time.monotonic() + limit * 60  # what setting up took is over
                stream.write(json.dumps({"part": name} | dataclasses.asdict(case)) + "\n")
                stream.flush()
                if case.wrong:
                    print(f"{name}: {case}", file=sys.stderr, flush=True)
                if time.monotonic() >= stop or number >= most:
                    break


def table(found: list[dict[str, Any]], wrong: bool) -> str:
    """Lay out fault, of what, how often, what came of it."""
    rows = Counter(
        (case["part"], case["fault"], case["of"], case["outcome"]) for case in found if case["wrong"] == wrong
    )
    lines = ["| fault | of | times | what came of it |", "| --- | --- | ---: | --- |"]
    order = {name: place for place, name in enumerate(PARTS)}
    for (_, fault, of, outcome), count in sorted(rows.items(), key=lambda row: (order[row[0][0]], row[0][1:])):
        lines.append(f"| {fault} | {of} | {count:,} | {outcome} |")
    return "\n".join(lines)


def report(
    found: list[dict[str, Any]],
    earlier: list[dict[str, Any]],
    out: Path | None,
    ran: str,
    sitting: str | None = None,
) -> None:
    """Write the sections of the benchmark; what went wrong `earlier`, before it was mended, has one of its own.

    A `sitting` is one section of that heading, beside those that are there.
    """
    title, now = "What faults do", found
    found = earlier + now
    counts = Counter(case["part"] for case in found)
    filled = sum(case["part"] == "full" and case["outcome"] != "there was room" for case in found)
    killed = sum(case["fault"].startswith("SIGKILL") for case in found)
    wrong = [case for case in now if case["wrong"]]
    said = (
        f"{ran}: {killed:,} SIGKILLs, {counts['damage']:,} damaged files, {filled:,} full disks, "
        f"{counts['parallel']:,} cases of commands in each other's way; {len(wrong):,} went wrong."
    )
    known = "By the code before it; each was mended since, or stands in the next table too."
    if sitting:
        texts = [said, table(found, False)]
        texts += [known, table(earlier, True)] if any(case["wrong"] for case in earlier) else []
        texts += ["What went wrong:", table(now, True)] if wrong else []
        section(out, sitting, "\n\n".join(texts), title)
        return
    section(out, "How", f"{described_by(__doc__)}\n\n{said}", title)
    for name in PARTS:
        if counts[name]:
            section(out, name.capitalize(), table([case for case in found if case["part"] == name], False), title)
    if earlier:
        section(out, "What went wrong before", f"{known}\n\n{table(earlier, True)}", title)
    section(out, "What went wrong", table(now, True) if wrong else "Nothing.", title)


def main() -> None:
    """Disturb and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="how long it may take, beside what setting up takes"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="workers, each with a world of its own; 0: only report")
    parser.add_argument("--only", choices=PARTS, action="append", help="parts to do; default: all")
    parser.add_argument(
        "--of", action="append", default=[], help="kinds within a part (export, training, events, run, …); default: all"
    )
    parser.add_argument("--most", type=int, default=1 << 60, help="most cases of a part and worker")
    parser.add_argument("--no-export", action="store_true", help="leave out exports, which take longest")
    parser.add_argument("--results", type=Path, help="file of JSON lines to add cases to, and to report all of")
    parser.add_argument("--earlier", type=Path, action="append", default=[], help="such a file, of earlier code")
    parser.add_argument("--sitting", help="write one section of this heading, and leave the others as they are")
    parser.add_argument("--out", type=Path, help="Markdown file whose sections are replaced; default: print")
    a = parser.parse_args()
    names = tuple(a.only or PARTS)
    whole = sum(SHARES[name] for name in names)
    minutes = {name: a.minutes * SHARES[name] / whole for name in PARTS if name in names}
    keep, begun, folder = False, time.monotonic(), Path(tempfile.mkdtemp(prefix="amzrec-torture-"))
    results = a.results or folder / "results.jsonl"
    load_libraries()
    try:
        workers = []
        for job in range(a.jobs):
            place = folder / f"worker-{job}"
            place.mkdir()
            pid = os.fork()
            if not pid:
                code = 1
                try:
                    work(place, a.seed + 100 * job, minutes, a.most, not a.no_export, a.of, results)
                    code = 0
                finally:
                    sys.stderr.flush()
                    os._exit(code)
            workers.append(pid)
        well = all([os.waitpid(pid, 0)[1] == 0 for pid in workers])
        found: list[dict[str, Any]] = []
        if results.exists():
            found = [json.loads(line) for line in results.read_text().splitlines()]
        keep = any(case["wrong"] for case in found)  # to be looked at
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    earlier = [json.loads(line) for file in a.earlier for line in file.read_text().splitlines()]
    seconds = time.monotonic() - begun
    ran = f"Seed {a.seed}, {a.jobs} workers, {seconds / 60:.0f} minutes" if a.jobs else "In several sittings"
    report(found, earlier, a.out, ran, a.sitting)
    sys.exit(not well or any(case["wrong"] for case in found))


main()
