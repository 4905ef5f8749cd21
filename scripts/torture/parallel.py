"""Commands in each other's way, each as process 1 of a container: one wins, readers see one thing or the other."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from torture.children import NEW_PROCESSES, Child, Ended, typed, unshare
from torture.damage import answer, ask_dataset, ask_run
from torture.kills import Case, Kills
from torture.world import digest, eagerly, hidden

WRITERS = 3


def contained(words: list[str]) -> Callable[[], None]:
    """Return a function that does a command as process 1 of a PID namespace, where that is permitted."""

    def do() -> None:
        if not unshare(NEW_PROCESSES):
            typed(words)
            return
        pid = os.fork()
        if not pid:
            code = 70
            try:
                typed(words)
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
            finally:
                os._exit(code)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)

    return do


def together(folder: Path, words: list[list[str]], before: Callable[[], None] | None = None) -> list[Ended]:
    """Do commands at once, to their ends."""
    children = [Child(contained(one), folder, before=before) for one in words]
    return [child.wait() for child in children]


class Parallel:
    """Writers to one place, and readers of it."""

    def __init__(self, kills: Kills, rng: random.Random) -> None:
        self.kills, self.rng = kills, rng

    def next(self) -> list[Case]:
        """Do one of them, drawn at random."""
        kinds = {
            "one place": self.one_place,
            "one training": self.one_training,
            "readers of datasets": self.readers_of_datasets,
            "readers of runs": self.readers_of_runs,
        }
        return kinds[self.rng.choice([name for name in kinds if name in self.kills.of] or list(kinds))]()

    def judged(self, of: str, folder: Path, ended: list[Ended], wanted: int | None, said: str) -> Case:
        """Judge writers: so many did well (None: any number, but one), the others said why not."""
        case = Case("writers in containers", of, said)
        well = sum(one.code == 0 for one in ended)
        for one in ended:
            if one.code not in (0, 1) or one.traced or (one.code == 1 and not one.last.startswith("amzrec: error:")):
                case.outcome, case.wrong, case.note = "not one line", True, one.said[-1500:]
        if well != wanted if wanted is not None else not well:
            case.outcome, case.wrong = f"{well} of {len(ended)} did well", True
            case.note = " | ".join(one.last for one in ended)
        return case

    def one_place(self) -> list[Case]:
        """Let several write a new dataset to one place: one does, the others say that it exists."""
        folder = self.kills.copy()
        ended = together(folder, [["prepare", "later.csv", "--out", "new"]] * WRITERS)
        case = self.judged("prepare to one place", folder, ended, 1, "one wrote, the others said so")
        if digest(folder / "new") != self.kills.command("prepare").new:
            case.outcome, case.wrong = "another dataset", True
        if hidden(folder) - self.kills.command("prepare").unseen:
            case.outcome, case.wrong, case.note = "litter is left", True, str(hidden(folder))
        return self.kills.closed(folder, [case])

    def one_training(self) -> list[Case]:
        """Let several train to one place: one does, the others say that it is taken."""
        folder, command = self.kills.copy(), self.kills.command("swap")
        words = [word for word in command.words if word != "--overwrite"]
        words[words.index("--run") + 1] = "new"
        ended = together(folder, [words] * WRITERS, eagerly)
        case = self.judged("train to one place", folder, ended, 1, "one wrote, the others said so")
        if digest(folder / "new") != command.new:
            case.outcome, case.wrong = "another run", True
        return self.kills.closed(folder, [case])

    def reading(self, of: str, words: list[list[str]], place: str, ask: Callable[[Path], object]) -> list[Case]:
        """Let writers replace a place again and again while it is read: each answer is one of theirs, none is mixed."""
        folder = self.kills.copy()
        allowed = set()
        for one in words:
            scratch = self.kills.copy()
            Child(one, scratch).wait()
            allowed.add(answer(ask_without_clock(ask), scratch / place))
            shutil.rmtree(scratch)
        allowed.add(answer(ask_without_clock(ask), folder / place))
        writers = [Child(contained(one), folder) for one in words]
        cases, stop = list[Case](), time.monotonic() + 120
        living = set(writers)
        while living and time.monotonic() < stop:
            found = answer(ask_without_clock(ask), folder / place)
            case = Case("readers beside writers", of, "one of the written ones")
            if found not in allowed:
                case.outcome, case.wrong, case.note = "another answer", True, f"{found[0]} {str(found[1])[-700:]}"
            cases.append(case)
            living -= {child for child in living if child.ended(0)}
        ended = [child.end() for child in writers if child not in living] + [child.wait() for child in living]
        return self.kills.closed(folder, [*cases, self.judged(of, folder, ended, None, "replaced, or said why not")])

    def readers_of_datasets(self) -> list[Case]:
        """Read a dataset that is being replaced."""
        words = [["prepare", file, "--out", "dataset", "--overwrite"] for file in ("later.csv", "reviews.csv")]
        return self.reading("dataset", words, "dataset", ask_dataset)

    def readers_of_runs(self) -> list[Case]:
        """Ask a run that is being replaced."""
        words = [["update", "run", file, "--run", "updated", "--overwrite"] for file in ("later.csv", "reviews.csv")]
        return self.reading("run", words, "updated", ask_run)


def ask_without_clock(ask: Callable[[Path], object]) -> Callable[[Path], dict[str, object]]:
    """Return the same question, without the part of the answer that depends on the time."""

    def asked(place: Path) -> dict[str, object]:
        found = ask(place)
        assert isinstance(found, dict)
        return {key: value for key, value in found.items() if key != "info"}

    return asked
