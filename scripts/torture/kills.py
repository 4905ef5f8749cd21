"""Commands that are killed at random moments: what was there stays whole, and the same command then ends the same."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import re
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from amzrec.store.ownership import UNFINISHED_TRAINING
from torture.children import Child, Ended, succeed
from torture.world import TRAIN, WRITTEN, World, digest, eagerly, hidden, trained_phase

UNTIDIED = ("checkpoints", *UNFINISHED_TRAINING)  # that only resuming needs


@dataclasses.dataclass
class Case:
    """One fault, and what came of it."""

    fault: str
    of: str  # command, phase or folder
    outcome: str
    wrong: bool = False
    note: str = ""


@dataclasses.dataclass
class Command:
    """A command that replaces what stands at `place`; how long it takes and how often it touches files is measured."""

    name: str
    words: list[str]
    place: str
    before: Callable[[], None] | None = None
    seconds: float = 1.0
    events: int = 1
    old: dict[str, str] = dataclasses.field(default_factory=dict)
    new: dict[str, str] = dataclasses.field(default_factory=dict)
    unseen: set[str] = dataclasses.field(default_factory=set)

    def on_its_way(self, found: dict[str, str]) -> bool:
        """Tell whether a run is the new one, trained and not evaluated, or not tidied, to the end."""
        told = {name: value for name, value in found.items() if name.partition("/")[0] not in UNTIDIED}
        evaluated = ("metrics.json", "plots/training.png", "plots/coverage.png")
        untold = {name for name, value in self.new.items() if told.get(name) != value}
        return self.place == "run" and set(told) <= set(self.new) and untold <= set(evaluated)


class Kills:
    """The commands to be killed, on copies of one world."""

    def __init__(
        self, world: World, rng: random.Random, folder: Path, with_export: bool = True, of: Sequence[str] = ()
    ) -> None:
        self.world, self.rng, self.folder, self.number, self.of = world, rng, folder, 0, of
        self.named = {
            command.name: command
            for command in (
                Command("prepare", ["prepare", "later.csv", "--out", "dataset", "--overwrite"], "dataset"),
                Command("update", ["update", "run", "later.csv", "--run", "updated", "--overwrite"], "updated"),
                Command(
                    "recommend --all", ["recommend", "--all", "--run", "run", "--out", "a.csv", "--overwrite"], "a.csv"
                ),
                Command("evaluate", ["evaluate", "run"], "run"),
                Command("export", ["export", "later", "--out", "export", "--overwrite"], "export"),
                Command(
                    "swap", ["train", "dataset", "--run", "run", "--overwrite", *TRAIN, "--seed", "7"], "run", eagerly
                ),
            )
            if with_export or command.name != "export"
        }
        self.whole = digest(world.folder / "run")
        self.commands = dict[str, Command]()  # those that were measured

    def command(self, name: str) -> Command:
        """Return a command, measured when it is first asked for."""
        if name not in self.commands:
            self.commands[name] = self.measured(self.named[name])
        return self.commands[name]

    def copy(self) -> Path:
        """Return a copy of the world, to be disturbed."""
        self.number += 1
        place = self.folder / f"case-{self.number}"
        shutil.copytree(self.world.folder, place, symlinks=True)
        return place

    def measured(self, command: Command) -> Command:
        """Find what a command leaves where nothing disturbs it."""
        if command.name == "export":
            self.world.exported()
            if not (self.world.folder / "later").exists():  # of other reviews, so that its export is another one
                succeed(["update", "run", "later.csv", "--run", "later"], self.world.folder)
        if command.name == "update" and not (self.world.folder / "updated").exists():
            succeed(["update", "run", "reviews.csv", "--run", "updated"], self.world.folder)
        if command.name == "recommend --all" and not (self.world.folder / "a.csv").exists():
            succeed(["recommend", "--all", "--run", "run", "--out", "a.csv", "-k", "3"], self.world.folder)
        folder = self.copy()
        command.old = digest(folder / command.place)
        done = succeed(command.words, folder, before=command.before)
        command.seconds, command.events, command.new = done.seconds, done.events, digest(folder / command.place)
        command.unseen = hidden(folder)
        shutil.rmtree(folder)
        return command

    def killed(
        self,
        words: list[str],
        folder: Path,
        seconds: float,
        events: int,
        before: Callable[[], None] | None,
        within: str = "",
    ) -> tuple[Ended, str]:
        """Kill a command at a random moment, or at a random file event (of files that match `within`)."""
        if self.rng.random() < 0.5:
            at = self.rng.randint(1, max(events, 1))
            return Child(words, folder, at_event=at, before=before, within=within).wait(), "at a file event"
        child = Child(words, folder, before=before)
        if not child.ended(self.rng.uniform(0, seconds)):
            child.kill()
            child.ended()
        return child.end(), "at a moment"

    def replacing(self, name: str) -> list[Case]:
        """Kill a command that replaces something; then it is done again, to its end."""
        command, folder = self.command(name), self.copy()
        ended, how = self.killed(command.words, folder, command.seconds, command.events, command.before)
        case = Case("SIGKILL " + how, name, "old one whole")
        after = digest(folder / command.place)
        if ended.signal != signal.SIGKILL:
            case.fault = "ended before the kill"
        if after == command.new:
            case.outcome = "new one whole"
        elif command.on_its_way(after):
            case.outcome = "new one whole, its evaluation left"
        elif after != command.old:
            case.outcome, case.wrong = "neither the old nor the new one", True
            case.note = f"{sorted(set(after.items()) ^ set(command.old.items()))[:4]}"
        again = Child(
            command.words if name != "swap" else [*command.words, "--resume"], folder, before=command.before
        ).wait()
        if again.code != 0:
            case.outcome, case.wrong, case.note = "cannot be done again", True, again.said[-1500:]
        elif digest(folder / command.place) != command.new:
            case.outcome, case.wrong = "done again, another outcome", True
            case.note = str(sorted(set(digest(folder / command.place).items()) ^ set(command.new.items()))[:6])
        elif litter := hidden(folder) - command.unseen:
            case.outcome, case.wrong, case.note = "litter is left", True, str(litter)
        return self.closed(folder, [case])

    def training(self) -> list[Case]:
        """Kill a training again and again, resume it each time, and compare its vectors with an undisturbed one."""
        folder, cases = self.copy(), list[Case]()
        shutil.move(folder / "run", folder / "undisturbed")
        words, took = ["train", "dataset", "--run", "run", *TRAIN], self.world.trained
        for again in range(self.rng.randint(1, 4)):
            share = 0.5 if again else 1.0  # of the time: much was done already
            within = self.rng.choice(["", *WRITTEN.values()])  # or nearly all would hit the many files of vectors
            events = sum(bool(re.search(within, file)) for file in took.files)
            ended, how = self.killed(words, folder, share * took.seconds, int(share * events), eagerly, within)
            killed = ended.signal == signal.SIGKILL
            of = f"train: {trained_phase(ended, killed and how == 'at a file event')}"
            cases.append(
                Case("SIGKILL " + how if killed else "ended before the kill", of, "resumed, bit-equal vectors")
            )
            if not killed and ended.code != 0:
                cases[-1].outcome, cases[-1].wrong, cases[-1].note = "does not go on", True, ended.said[-1500:]
            if not killed:  # nothing is left to be killed
                break
            words = ["train", "dataset", "--run", "run", *TRAIN, "--resume"]
        last = Child(words, folder, before=eagerly).wait()
        found = digest(folder / "run")
        if last.code != 0 or "--overwrite" in last.said:
            cases[-1].outcome, cases[-1].wrong, cases[-1].note = "does not go on", True, last.said[-1500:]
        elif found != self.whole:
            cases[-1].outcome, cases[-1].wrong = "another outcome", True
            cases[-1].note = str(sorted(set(found.items()) ^ set(self.whole.items()))[:6])
        elif litter := hidden(folder) - self.command("swap").unseen:
            cases[-1].outcome, cases[-1].wrong, cases[-1].note = "litter is left", True, str(litter)
        return self.closed(folder, cases)

    def interrupted(self) -> list[Case]:
        """Interrupt a command with SIGINT or SIGTERM: one line, 130 or 143, and it can be done again."""
        name = self.rng.choice(list(self.named))
        command, folder = self.command(name), self.copy()
        number = self.rng.choice([signal.SIGINT, signal.SIGTERM])
        child = Child(command.words, folder, before=command.before)
        if not child.ended(self.rng.uniform(0, command.seconds)):
            child.kill(number)
            child.ended(60)
        ended = child.end()
        case = Case(number.name, name, f"one line, {128 + number}")
        after = digest(folder / command.place)
        if ended.code == 0:
            case.fault = "ended before the signal"
        elif ended.signal == number and not ended.said:
            case.outcome = "before the command line listened"
        elif ended.code != 128 + number or ended.traced or "amzrec: interrupted" not in ended.last:
            case.outcome, case.wrong, case.note = (
                "not one line",
                True,
                f"{ended.code} {ended.signal} {ended.said[-1500:]}",
            )
        if after not in (command.old, command.new) and not command.on_its_way(after):
            case.outcome, case.wrong = "neither the old nor the new one", True
        if ended.code != 0 and hidden(folder) - command.unseen - {".run.training"}:
            case.outcome, case.wrong, case.note = "litter is left", True, str(hidden(folder) - command.unseen)
        return self.closed(folder, [case])

    def events(self) -> list[Case]:
        """Kill a process while it stores events, and look for all that it had acknowledged."""
        from amzrec.service.events import Event, EventStore

        folder = self.folder / f"events-{self.rng.random()}"
        folder.mkdir()
        read, write = os.pipe()

        def store() -> None:
            events, number = EventStore.open("events.db"), 0
            while True:
                together = [Event("c1", "p1", 3.0, number, "view", f"{number}-{n}") for n in range(number % 7 + 1)]
                events.add(together).result()
                os.write(write, f"{number} {len(together)}\n".encode())
                number += 1

        child = Child(store, folder)
        os.close(write)
        child.ended(self.rng.uniform(0.05, 0.6))
        child.kill()
        child.ended()
        ended = child.end()
        with open(read, encoding="ascii") as stream:
            lines = [line.split() for line in stream.read().split("\n")[:-1]]
        acknowledged = {f"{number}-{n}" for number, count in lines for n in range(int(count))}
        case = Case("SIGKILL at a moment", "events", "each acknowledged event stored once", note=f"{len(acknowledged)}")
        stored, sound = Counter[str](), "ok"
        if (folder / "events.db").exists():
            with contextlib.closing(sqlite3.connect(folder / "events.db")) as database:
                with contextlib.suppress(sqlite3.OperationalError):
                    stored = Counter(key for (key,) in database.execute("SELECT key FROM events"))
                sound = database.execute("PRAGMA integrity_check").fetchone()[0]
        if (
            ended.signal != signal.SIGKILL
            or sound != "ok"
            or acknowledged - set(stored)
            or max(stored.values(), default=1) > 1
        ):
            case.outcome, case.wrong, case.note = "events lost", True, f"{ended.said[-500:]} {sound}"
        return self.closed(folder, [case])

    def closed(self, folder: Path, cases: list[Case]) -> list[Case]:
        """Remove what a case left; where something was wrong it stays, to be looked at."""
        if not any(case.wrong for case in cases):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            cases[-1].note += f" kept in {folder.name}"
        return cases

    def next(self) -> list[Case]:
        """Do one of them, drawn at random, or one of those that were named."""
        kinds = (
            ["training"] * 4 + ["events"] * 3 + ["interrupted"] * 2 + [name for name in self.named for _ in range(2)]
        )
        kind = self.rng.choice([name for name in kinds if not self.of or name in self.of])
        if kind in ("export", "swap") and not self.of and self.rng.random() < 0.6:  # they take longest
            kind = "prepare"
        if kind in ("training", "events", "interrupted"):
            done: list[Case] = getattr(self, kind)()
            return done
        return self.replacing(kind)
