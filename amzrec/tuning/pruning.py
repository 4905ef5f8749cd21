"""Which trials are not worth more epochs. Optuna's own pruners know one objective, so this is a rule of our own."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

Path = Sequence[Sequence[float]]  # by epoch the figure of each objective, the higher the better

FIRST = 3  # epoch after which a trial may be stopped
LEAST = 4  # other trials that must have come as far


def is_behind(mine: Path, others: Sequence[tuple[Path, bool]]) -> bool:
    """Tell whether a trial is behind the median of the others in every objective, after as many epochs.

    Of each trial counts the best figure so far. `others` come with whether they are finished: one that stopped earlier
    by itself stays what it was, one that was stopped or is under way counts only where it came as far.
    """
    epochs = len(mine)
    rivals = [best(path[:epochs]) for path, finished in others if path and (finished or len(path) >= epochs)]
    if epochs < FIRST or len(rivals) < LEAST:
        return False
    medians = [statistics.median(column) for column in zip(*rivals, strict=True)]
    return all(value < median for value, median in zip(best(mine), medians, strict=True))


def best(path: Path) -> list[float]:
    """Return the best figure of each objective over the epochs."""
    return [max(column) for column in zip(*path, strict=True)]
