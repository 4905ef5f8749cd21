"""A disk that is full at a random point: one line, the old folder whole; with room the same command ends the same."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

from torture.children import NEW_MOUNTS, Child, isolated, mount_small, unshare
from torture.kills import Case, Command, Kills
from torture.world import digest, hidden

ROOM = 1 << 30  # bytes of a disk that has enough
PAGE = 4096  # bytes that a disk gives at once


class FullDisks:
    """The commands of `Kills`, each on a small disk of its own."""

    def __init__(self, kills: Kills, rng: random.Random, folder: Path) -> None:
        self.kills, self.rng, self.folder = kills, rng, folder
        names = [name for name in kills.named if name != "export"]
        names = [name for name in names if name in kills.of] or names
        self.names = [name for name in names for _ in range(1 if name == "swap" else 4)]
        self.most = dict[str, int]()  # bytes that a command takes beside what was there, measured once

    def possible(self) -> bool:
        """Tell whether this process may mount a disk."""
        self.folder.mkdir(exist_ok=True)
        answer = isolated(lambda: unshare(NEW_MOUNTS) and mount_small(self.folder, 1 << 20))
        return bool(answer.value)

    def one(self) -> Case:
        """Fill the disk at a random point of a random command."""
        command = self.kills.command(self.rng.choice(self.names))
        self.folder.mkdir(exist_ok=True)
        if command.name not in self.most:
            self.most[command.name] = int(isolated(lambda: self.taken(command)).value or PAGE)
        seed = self.rng.random()
        answer = isolated(lambda: self.on_a_small_disk(command, random.Random(seed)))
        if answer.kind != "value":
            return Case("disk full", command.name, answer.kind, True, str(answer.value)[-1500:])
        case: Case = answer.value
        return case

    def prepared(self) -> Path:
        """Copy the world to a disk with room, of this process alone."""
        place = self.folder / "world"
        shutil.copytree(self.kills.world.folder, place, symlinks=True)
        (self.folder / "tmp").mkdir()
        os.environ |= {"TMPDIR": str(self.folder / "tmp"), "AMZREC_CACHE": str(self.folder / "cache")}
        return place

    def taken(self, command: Command) -> int:
        """Measure the bytes that a command takes at most, in a process that ends afterwards, and its disk with it."""
        if not unshare(NEW_MOUNTS) or not mount_small(self.folder, ROOM):
            return 0
        place = self.prepared()
        before = most = disk_used(self.folder)
        child = Child(command.words, place, before=command.before)
        while not child.ended(0.001):
            most = max(most, disk_used(self.folder))
        child.end()
        return most - before

    def on_a_small_disk(self, command: Command, rng: random.Random) -> Case:
        """Do it, in a process that ends afterwards, and its disk with it."""
        if not unshare(NEW_MOUNTS) or not mount_small(self.folder, ROOM):
            return Case("disk full", command.name, "not permitted here")
        place = self.prepared()
        room = disk_used(self.folder) + rng.randrange(max(self.most[command.name], PAGE))
        case = Case("disk full", command.name, "one line, the old one whole")
        if not mount_small(self.folder, room, again=True):
            return Case("disk full", command.name, "not permitted here")
        ended = Child(command.words, place, before=command.before).wait()
        after = digest_of(place / command.place)
        if ended.code == 0:
            case.outcome = "there was room"
        elif ended.code != 1 or ended.traced or not ended.last.startswith("amzrec: error:"):
            case.outcome, case.wrong, case.note = (
                "not one line",
                True,
                f"{ended.code} {ended.signal} {ended.said[-1500:]}",
            )
        if after not in (command.old, command.new) and not command.on_its_way(after):
            case.outcome, case.wrong = "neither the old nor the new one", True
            case.note = f"{ended.last} {sorted(set(after.items()) ^ set(command.old.items()))[:4]}"
        mount_small(self.folder, ROOM, again=True)
        words = [*command.words, "--resume"] if command.name == "swap" else command.words
        again = Child(words, place, before=command.before).wait()
        if again.code != 0:
            case.outcome, case.wrong, case.note = "cannot be done with room", True, again.said[-1500:]
        elif digest(place / command.place) != command.new:
            case.outcome, case.wrong = "with room, another outcome", True
        elif litter := hidden(place) - command.unseen:
            case.outcome, case.wrong, case.note = "litter is left", True, str(litter)
        return case


def disk_used(folder: Path) -> int:
    """Return how many bytes of a disk are taken."""
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def digest_of(place: Path) -> dict[str, str]:
    """Return the digest of what may be damaged."""
    try:
        return digest(place)
    except ValueError as error:
        return {"damaged": str(error)}
