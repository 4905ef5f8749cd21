"""Damaged files: each file of each folder in five ways; an error in one line, or the same answers, and nothing else."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from torture.children import isolated, run
from torture.kills import Case
from torture.world import World

WAYS = ("a bit flipped", "truncated", "emptied", "extended", "swapped with another's")


def damaged(content: bytes, other: bytes, way: str, rng: random.Random) -> bytes:
    """Return what a file of this content would hold after a damage; `other` is the same file of another folder."""
    if way == "a bit flipped" and content:
        place = rng.randrange(len(content))
        return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
    if way == "truncated" and content:
        return content[: rng.randrange(len(content))]
    if way == "extended":
        return content + rng.randbytes(rng.choice([1, 8, 4096]))
    return other if way == WAYS[-1] else b""


def told(array: Any) -> str:
    """Return a checksum of an array or a table of any kind."""
    text = array if isinstance(array, bytes) else repr(np.asarray(array).tolist()).encode()
    return hashlib.sha256(text).hexdigest()


def ask_run(place: Path) -> dict[str, Any]:
    """Ask a run whatever it answers, and read all of its arrays."""
    import amzrec
    from amzrec.store.run import open_run

    run = open_run(place)  # once: it may be another one the next time
    opened = amzrec.load(run)
    customers = ["c1", "c7", "c23", "nobody"]
    found: dict[str, Any] = {c: opened.recommend(c, k=5).to_dict("records") for c in customers}
    found["liked"] = opened.recommend("nobody", k=5, liked=["p3", "p4"]).to_dict("records")
    found["rate"] = opened.rate("c1", ["p1", "p2", "p20"]).to_dict("records")
    found["similar"] = opened.similar("p5", k=5).to_dict("records")
    found["arrays"] = {name: told(array) for name, array in run.vectors.arrays().items()}
    found["info"] = run.info.to_json()
    return found


def ask_dataset(place: Path) -> dict[str, Any]:
    """Read all that training and evaluation read of a dataset."""
    from amzrec.store.dataset import PARTS, open_dataset

    dataset = open_dataset(place)
    names = ("customer", "product", "stars", "timestamp", "weight")
    found = {f"{part} {name}": told(getattr(dataset.part(part), name)) for part in PARTS for name in names}
    tables = {"customers": dataset.customers, "products": dataset.products}
    found |= {name: told(repr(table.to_pylist()).encode()) for name, table in tables.items()}
    return found | {"info": dataset.info.to_json()}


def ask_events(place: Path) -> dict[str, Any]:
    """Read the events of all customers."""
    from amzrec.errors import AmzrecError
    from amzrec.service.events import EventStore, Unavailable

    store = EventStore.open(str(place))
    try:
        return {f"c{n}": [list(vars(event).values()) for event in store.of(f"c{n}")] for n in range(40)}
    except Unavailable as error:  # which the service answers with 503
        raise AmzrecError(str(error)) from error


def ask_export(place: Path) -> dict[str, Any]:
    """Let doctor check an export, as one does before it is copied to a server."""
    ended = run(["doctor", str(place)], place.parent)
    if ended.traced or ended.signal:
        raise RuntimeError(ended.said)
    if ended.code:
        from amzrec.errors import AmzrecError

        raise AmzrecError(ended.last)
    return {str(file): told(file.read_bytes()) for file in sorted(place.rglob("*")) if file.is_file()}


class Damages:
    """All files of the folders of one world, and the same files of another."""

    def __init__(
        self,
        world: World,
        other: World,
        rng: random.Random,
        folder: Path,
        with_export: bool = True,
        of: Sequence[str] = (),
    ) -> None:
        self.rng = rng
        self.asked: list[tuple[str, Path, Path, Callable[[Path], dict[str, Any]]]] = []
        places: list[tuple[str, str, Callable[[Path], dict[str, Any]]]] = [
            ("dataset", "dataset", ask_dataset),
            ("run", "run", ask_run),
            ("event store", "events.db", ask_events),
        ]
        world.events(), other.events()
        if with_export and (not of or "export" in of):
            world.exported(), other.exported()
            places.append(("export", "export", ask_export))
        for name, place, ask in [one for one in places if one[0] in of] or places:
            mine = folder / "mine" / place
            mine.parent.mkdir(parents=True, exist_ok=True)
            source = (world.folder / place).resolve()
            shutil.copytree(source, mine) if source.is_dir() else shutil.copy(source, mine)
            self.asked.append((name, mine, (other.folder / place).resolve(), ask))
        self.whole = {name: answer(ask, mine) for name, mine, _, ask in self.asked}
        for name, (kind, value) in self.whole.items():
            if kind != "value":
                raise RuntimeError(f"{name}: {value}")

    def cases(self, name: str | None = None) -> Iterator[tuple[str, Path, Path, Path, str]]:
        """Yield each file of each folder, or of one, in each of the five ways."""
        for folder, mine, theirs, _ in self.asked:
            if name in (None, folder):
                for file in sorted(mine.rglob("*")) if mine.is_dir() else [mine]:
                    if file.is_file():
                        for way in WAYS[: 4 if folder == "event store" else 5]:  # another store is no damage
                            yield folder, mine, file, theirs / file.relative_to(mine) if mine.is_dir() else theirs, way

    def one(self, folder: str, mine: Path, file: Path, theirs: Path, way: str) -> Case:
        """Damage one file, ask, and put it back."""
        ask = next(ask for name, _, _, ask in self.asked if name == folder)
        content = file.read_bytes()
        new = damaged(content, theirs.read_bytes() if theirs.is_file() else b"", way, self.rng)
        place = str(file.relative_to(mine)) if mine.is_dir() else file.name
        case = Case(way, folder, "no effect", note=place)
        if new == content:
            return Case(way, folder, "is the same file", note=place)
        file.write_bytes(new)
        try:
            kind, value = answer(ask, mine)
        finally:
            file.write_bytes(content)
            for beside in file.parent.glob(f"{file.name}-*"):  # of SQLite
                beside.unlink()
        if kind == "error":
            case.outcome = "one line" if len(str(value).splitlines()) == 1 else "an error of several lines"
        elif kind in ("traceback", "signal"):
            case.outcome, case.wrong, case.note = kind, True, f"{place}: {str(value)[-700:]}"
        elif value != self.whole[folder][1]:
            keys = [
                key for key, found in json.loads(value).items() if json.loads(self.whole[folder][1]).get(key) != found
            ]
            case.outcome, case.wrong, case.note = "other answers, in silence", True, f"{place}: {keys[:5]}"
        return case

    def some(self, count: int) -> Iterator[Case]:
        """Damage so many times: each file of each folder in each way in turn, at other places each time."""
        weights = {"dataset": 3, "run": 6, "export": 2, "event store": 2}
        waiting = dict[str, list[tuple[str, Path, Path, Path, str]]]()
        folders = [name for name, *_ in self.asked]
        for _ in range(count):
            folder = self.rng.choices(folders, [weights[name] for name in folders])[0]
            if not waiting.get(folder):
                waiting[folder] = list(self.cases(folder))
                self.rng.shuffle(waiting[folder])
            yield self.one(*waiting[folder].pop())


def answer(ask: Callable[[Path], dict[str, Any]], place: Path) -> tuple[str, Any]:
    """Ask in a process of its own; the answer as text that can be compared."""
    found = isolated(lambda: json.dumps(ask(place), sort_keys=True, default=str))
    return found.kind, found.value
