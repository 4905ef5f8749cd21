"""Who listens to what commands say, in tests."""

from __future__ import annotations


class Voice:
    """Keeps what is said: sentences in `lines`, the notes of progress in `notes`."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.notes: list[str] = []

    def say(self, line: str) -> None:
        """Keep a sentence."""
        self.lines.append(line)

    def step(self, label: str, done: int, total: int, note: str = "") -> None:
        """Keep the note."""
        self.notes.append(note)
