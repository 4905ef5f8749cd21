"""How much memory this process may use: what is free on the machine, within the limits of its control group."""

from __future__ import annotations

from pathlib import Path

UNLIMITED = 1 << 60  # bytes from which a limit is none, as control groups of version 1 write it
PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def memory_available(proc: Path = PROC, groups: Path = GROUPS) -> int | None:
    """Return the bytes that may still be taken before the system refuses or kills; None where it does not say.

    The least of what the machine has left (MemAvailable) and what each control group above this process has left, its
    caches of files counted as free. `proc` and `groups` are where Linux says so.
    """
    left = [room for room in (machine_left(proc), *(group_left(folder) for folder in folders(proc, groups))) if room]
    return min(left, default=None)


def machine_left(proc: Path) -> int | None:
    """Return the bytes that the machine has left."""
    for line in lines_of(proc / "meminfo"):
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    return None


def folders(proc: Path, groups: Path) -> list[Path]:
    """List the folders of the control groups of this process, and of those above them, that may limit its memory."""
    found: list[Path] = []
    for line in lines_of(proc / "self" / "cgroup"):
        _, controllers, name = (*line.split(":", 2), "", "")[:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        root = groups / "memory" if controllers else groups
        inside = root / name.strip("/")
        found += [inside, *(folder for folder in inside.parents if folder == root or root in folder.parents)]
    return found


def group_left(folder: Path) -> int | None:
    """Return the bytes that a control group has left; None where it has no limit."""
    limit = number_in(folder / "memory.max", folder / "memory.limit_in_bytes")
    used = number_in(folder / "memory.current", folder / "memory.usage_in_bytes")
    if limit is None or limit >= UNLIMITED or used is None:
        return None
    cached = sum(
        int(line.split()[1])
        for line in lines_of(folder / "memory.stat")
        if line.split()[:1] in (["inactive_file"], ["active_file"])
    )
    return max(limit - max(used - cached, 0), 1)


def number_in(*files: Path) -> int | None:
    """Return the number that the first of these files that is there holds; None for "max", and without any."""
    for file in files:
        for line in lines_of(file):
            return int(line) if line.strip().isdigit() else None
    return None


def lines_of(file: Path) -> list[str]:
    """Read the lines of a file of the system; none where it is not there."""
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
