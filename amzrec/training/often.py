"""How often a training saves where it stands."""

from __future__ import annotations

import re
import time

from amzrec.errors import AmzrecError

EPOCH_SECONDS = 30.0  # least time between two checkpoints at ends of epochs, where nothing else is asked
STEP_SECONDS = 600.0  # and within an epoch
SECONDS = {"s": 1, "m": 60, "h": 3600}


class Often:
    """When the next checkpoint is due: after a time, or after a number of steps."""

    def __init__(self, every: str | None = None) -> None:
        """`every` is a time such as 90s, 10m or 2h, or a number of steps; AmzrecError for another text.

        None: at the end of an epoch if the last one is 30 seconds old, within an epoch if it is 10 minutes old.
        """
        found = None if every is None else re.fullmatch(r"([1-9]\d{0,8})([smh]?)", every.strip())
        if every is not None and not found:
            raise AmzrecError(
                f"--checkpoint-every is {every!r}; allowed: a time in seconds, minutes or hours, such as 90s, 10m or "
                "2h, or a number of steps, such as 500"
            )
        number, unit = (int(found[1]), found[2]) if found else (0, "")
        self.every_steps = number if found and not unit else None
        self.every_seconds = float(number * SECONDS[unit]) if unit else None
        self.steps = 0  # since the last checkpoint
        self.at = time.monotonic()  # when it was

    def due(self, end_of_epoch: bool = False) -> bool:
        """Tell whether a checkpoint is due after a step, or at the end of an epoch."""
        if self.every_steps is not None:
            return self.steps >= self.every_steps
        usual = EPOCH_SECONDS if end_of_epoch else STEP_SECONDS
        return time.monotonic() - self.at >= (usual if self.every_seconds is None else self.every_seconds)

    def saved(self) -> None:
        """Begin to count anew."""
        self.steps, self.at = 0, time.monotonic()
