"""A small world to disturb: reviews, a dataset, runs, an export, an event store; and what tells two of them apart."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import re
from pathlib import Path
from typing import Any

from torture.children import Ended, isolated, succeed

TRAIN = ["--dim", "6", "--head", "", "--epochs", "2", "--batch-size", "120", "--checkpoint-every", "1"]
CLOCK = (
    "finished",
    "seconds",
    "versions",
    "dataset",
    "created",
    "identity",
    "run",
)  # what differs between equal folders
WRITTEN = {  # what a training writes, by its files
    "checkpoint": r"/checkpoints/|/state\.json",
    "vectors": r"\.training/(vectors|weights)/",
    "evaluation": r"/\.amzrec\.|/\.manifest\.json\.|/plots$",
}


def eagerly() -> None:
    """Let TensorFlow run without a graph, whose tracing takes longer than these trainings."""
    from amzrec.training.learner import tf

    tf.config.run_functions_eagerly(True)


class World:
    """Folders that are made once, and copied to be disturbed."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Write the reviews; the rest is made when it is first asked for."""
        self.folder, self.seed = folder, seed
        folder.mkdir(parents=True)
        write_reviews(folder / "reviews.csv", seed, 600)
        write_reviews(folder / "later.csv", seed + 1, 60, day=500)
        succeed(["prepare", "reviews.csv", "--out", "dataset"], folder)
        self.trained = succeed(["train", "dataset", "--run", "run", *TRAIN], folder, before=eagerly)

    def exported(self) -> Path:
        """Return the export of the run."""
        if not (self.folder / "export").exists():
            succeed(["export", "run", "--out", "export"], self.folder)
        return self.folder / "export"

    def events(self) -> Path:
        """Return a database of events of the customers."""
        place = self.folder / "events.db"
        if not place.exists():
            answer = isolated(lambda: write_events(place, self.seed))
            if answer.kind != "value":
                raise RuntimeError(answer.value)
        return place


def write_reviews(file: Path, seed: int, count: int, day: int = 0) -> None:
    """Write reviews of 40 customers and 25 products, no pair twice."""
    rng = random.Random(seed)
    pairs = rng.sample([(c, p) for c in range(40) for p in range(25)], count)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["customer_id", "product_id", "product_title", "stars", "timestamp"])
        for customer, product in pairs:
            stars = min(5, max(1, round(3 + (1.2 if (customer + product) % 2 else -1.2) + rng.gauss(0, 0.7))))
            when = 1_600_000_000 + int((day + rng.random() * 400) * 86_400)
            writer.writerow([f"c{customer}", f"p{product}", f"Thing number {product}", stars, when])


def write_events(place: Path, seed: int) -> int:
    """Store 200 events."""
    from amzrec.service.events import Event, EventStore

    rng, store = random.Random(seed), EventStore.open(str(place))
    events = [
        Event(f"c{rng.randrange(40)}", f"p{rng.randrange(25)}", float(rng.randint(1, 5)), 1_700_000_000 + n, "view")
        for n in range(200)
    ]
    stored = [store.add([event]) for event in events]
    found = sum(future.result() for future in stored)
    store.close()
    return found


def without_clock(document: Any) -> Any:
    """Return a JSON document without what depends on the time or the place."""
    if isinstance(document, dict):
        return {key: without_clock(value) for key, value in document.items() if key not in CLOCK}
    return [without_clock(value) for value in document] if isinstance(document, list) else document


def digest(place: Path) -> dict[str, str]:
    """Return what a folder or file holds, by its files, without what depends on the time or the place."""
    if not place.exists():
        return {}
    files = sorted(file for file in place.rglob("*") if file.is_file()) if place.is_dir() else [place]
    files = [file for file in files if not unseen(file.relative_to(place))]
    found = {}
    for file in files:
        name = str(file.relative_to(place)) if place.is_dir() else file.name
        if file.name in ("manifest.json", "vectors.json", "saved_model.pb", "fingerprint.pb", "export.json"):
            content = b""  # they name the others, or are written in another order each time
        elif file.suffix == ".png" or name.startswith("scann/saved_model/variables/"):  # trained by threads
            content = b""
        elif file.suffix == ".json":
            content = json.dumps(without_clock(json.loads(file.read_bytes())), sort_keys=True).encode()
        elif file.name == "history.csv":
            with file.open(newline="") as stream:
                rows = [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(stream)]
            content = json.dumps(rows).encode()
        else:
            content = file.read_bytes()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def unseen(path: Path) -> bool:
    """Tell whether a file stands unseen, or in a folder that does."""
    return any(part.startswith(".") for part in path.parts)


def hidden(folder: Path) -> set[str]:
    """Name what stands unseen in a folder and those in it, with numbers left out; not where a link to a run leads."""
    paths = [path.relative_to(folder) for path in folder.rglob(".*")]
    led = {f".{link.name}" for link in folder.iterdir() if link.is_symlink()}
    return {re.sub(r"[0-9a-f]{6,}|\d+", "#", str(path)) for path in paths if str(path) not in led}


def trained_phase(ended: Ended, at_file: bool = False) -> str:
    """Tell in which phase a training was killed, from what it said last, or from the file at which it was killed."""
    if at_file and ended.files:
        for phase, pattern in WRITTEN.items():
            if re.search(pattern, ended.files[-1]):
                return phase
    phases = [
        ("test reviews", "evaluation"),
        ("refit on", "refit"),
        ("fitted,", "refit"),
        ("choosing epochs", "train"),
        ("epoch ", "train"),
    ]
    for line in reversed(ended.said.splitlines()):
        for start, phase in phases:
            if start in line:
                return phase
    return "start"
