"""What a study found: the trials that no other one beats in every objective, and which of them becomes the recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from amzrec.config import Recipe


@dataclasses.dataclass(frozen=True)
class Objective:
    """A figure on valid that a task is judged by."""

    task: str  # rating or retrieval
    name: str  # rmse, ndcg@5 or ndcg
    lower: bool  # whether less is better

    @property
    def direction(self) -> str:
        """Say it as Optuna does."""
        return "minimize" if self.lower else "maximize"

    def gain(self, value: float, usual: float) -> float:
        """Return by which share of `usual` a value is better."""
        return (usual - value if self.lower else value - usual) / max(abs(usual), 1e-12)

    def raised(self, value: float) -> float:
        """Turn a figure into one of which more is better, and back."""
        return -value if self.lower else value


def objectives_of(recipe: Recipe) -> list[Objective]:
    """Return the objective of each task that is learned."""
    stars = Objective("rating", "ndcg@5", False) if recipe.reviews_together > 1 else Objective("rating", "rmse", True)
    return [stars if task == "rating" else Objective("retrieval", "ndcg", False) for task in recipe.tasks]


@dataclasses.dataclass(frozen=True)
class Tried:
    """A trial as it is shown and compared."""

    number: int
    state: str  # complete, pruned, failed or running
    settings: dict[str, Any]  # that were tuned
    figures: tuple[float, ...] | None  # on valid, by objective: the best so far; None before the first epoch
    best_epochs: dict[str, int] = dataclasses.field(default_factory=dict)
    epochs: int = 0
    seconds: float | None = None
    usual: bool = False  # whether these are the defaults
    failure: str | None = None


def pareto(trials: Sequence[Tried], objectives: Sequence[Objective]) -> list[Tried]:
    """Return the complete trials that no other one beats: at least as good in all objectives and better in one.

    The best in the first objective stands first; of equal ones the earliest is kept.
    """
    whole = [trial for trial in trials if trial.state == "complete" and trial.figures]
    kept = [t for t in whole if not any(beats(other, t, objectives) for other in whole if other is not t)]
    seen = {trial.figures: trial for trial in reversed(kept)}
    return sorted(seen.values(), key=lambda trial: points(trial, objectives), reverse=True)


def points(trial: Tried, objectives: Sequence[Objective]) -> list[float]:
    """Return the figures of a trial, the higher the better."""
    return [o.raised(value) for o, value in zip(objectives, trial.figures or (), strict=True)]


def beats(one: Tried, other: Tried, objectives: Sequence[Objective]) -> bool:
    """Tell whether one trial is at least as good as the other in all objectives, and better in some."""
    mine, theirs = points(one, objectives), points(other, objectives)
    return mine != theirs and all(a >= b for a, b in zip(mine, theirs, strict=True))


def chosen(trials: Sequence[Tried], objectives: Sequence[Objective]) -> Tried | None:
    """Choose the trial that becomes the recipe; None where none is complete.

    Of those that are behind the defaults in no objective, the defaults among them, it is the one with the largest sum
    of gains over the defaults, each as a share of what the defaults reach. Where the defaults were not finished, every
    trial of the front is compared with the worst figures of the front.
    """
    front = pareto(trials, objectives)
    usual = next((t for t in trials if t.usual and t.state == "complete" and t.figures), None)
    if not front:
        return None
    if usual is not None:
        reference = usual.figures or ()
        candidates = [t for t in front if all(g >= 0 for g in gains(t, reference, objectives))] or [usual]
    else:
        worst = [min(column) for column in zip(*(points(t, objectives) for t in front), strict=True)]
        reference = tuple(o.raised(value) for o, value in zip(objectives, worst, strict=True))
        candidates = front
    return max(candidates, key=lambda t: (sum(gains(t, reference, objectives)), -t.number))


def gains(trial: Tried, reference: Sequence[float], objectives: Sequence[Objective]) -> list[float]:
    """Return by which share a trial is better than reference figures, by objective."""
    figures = zip(objectives, trial.figures or (), reference, strict=True)
    return [objective.gain(value, usual) for objective, value, usual in figures]
