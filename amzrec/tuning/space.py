"""The few settings of a recipe that are tuned, each with the range that is searched around its default."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from amzrec.config import Recipe, TrainConfig
from amzrec.errors import AmzrecError
from amzrec.settings import flag, settings_of


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One setting that is tuned, between two numbers that both may be taken."""

    name: str
    low: float
    high: float
    log: bool = False  # whether factors are equally likely, not differences
    step: int = 0  # of whole numbers; 0: any number

    def suggested(self, trial: Any) -> float | int:
        """Ask a trial of Optuna for a value; numbers have three digits, so that a recipe holds what was trained."""
        if self.step:
            return int(trial.suggest_int(self.name, int(self.low), int(self.high), step=self.step))
        return float(f"{trial.suggest_float(self.name, self.low, self.high, log=self.log):.3g}")


def full(recipe: Recipe) -> bool:
    """Tell whether vectors have more than ids."""
    return recipe.features == "full"


def retrieves(recipe: Recipe) -> bool:
    """Tell whether retrieval is learned."""
    return "retrieval" in recipe.tasks


@dataclasses.dataclass(frozen=True)
class Range:
    """How far from its default a setting is searched, and for which recipes it counts."""

    of: Callable[[float], Dimension]  # the default → the dimension
    applies: Callable[[Recipe], bool]


def factors(name: str, low: float, high: float) -> Callable[[float], Dimension]:
    """Search between two multiples of the default."""
    return lambda default: Dimension(name, default * low, default * high, log=True)


def between(name: str, low: float, high: float, step: int = 0) -> Callable[[float], Dimension]:
    """Search between two numbers, whatever the default."""
    return lambda default: Dimension(name, low, high, step=step)


# The learning rate goes no higher: with a larger one a refit, which nothing watches, may end far from what valid saw.
# The rest is what made a difference while the defaults were sought (LOG.md)
RANGES = {
    "learning_rate": Range(factors("learning_rate", 0.25, 2.5), lambda recipe: True),
    "dim": Range(
        lambda default: Dimension("dim", 16 if default < 48 else 48, 192, step=16), lambda recipe: recipe.dim % 16 == 0
    ),
    "l2": Range(factors("l2", 0.1, 10), lambda recipe: recipe.l2 > 0),
    "l2_history": Range(factors("l2_history", 0.1, 10), lambda recipe: full(recipe) and recipe.l2_history > 0),
    "history_dropout": Range(between("history_dropout", 0, 0.6), full),
    "order_dropout": Range(between("order_dropout", 0, 0.6), lambda recipe: recipe.reads_order),
    "temperature": Range(factors("temperature", 0.25, 4), retrieves),
    "equal_customers": Range(between("equal_customers", 0, 1), lambda recipe: full(recipe) and retrieves(recipe)),
}


def dimensions(recipe: Recipe, config: TrainConfig, names: Sequence[str] = ()) -> list[Dimension]:
    """Choose what to tune: `names`, or else all settings of RANGES that count for this recipe and were not given.

    A setting was given where `config` has another value than its preset. Raises AmzrecError for a name that is not
    tuned, does not count here or was given as well, and where nothing is left.
    """
    fixed = given(config)
    for name in names:
        if name not in RANGES:
            near = difflib.get_close_matches(name, RANGES, n=1)
            hint = f"; did you mean {near[0].replace('_', '-')}?" if near else ""
            allowed = ", ".join(known.replace("_", "-") for known in RANGES)
            raise AmzrecError(
                f"--tuned names {name.replace('_', '-')!r}, which is not tuned{hint} (allowed: {allowed})"
            )
        if name in fixed:
            raise AmzrecError(f"{flag(name)} is given and named in --tuned: leave one of them out")
        if not RANGES[name].applies(recipe):
            raise AmzrecError(f"{flag(name)} changes nothing with these settings: leave it out of --tuned")
    chosen = [name for name in RANGES if name in names] or [
        name for name, each in RANGES.items() if name not in fixed and each.applies(recipe)
    ]
    if not chosen:
        raise AmzrecError(
            f"all settings that are tuned are given ({', '.join(map(flag, fixed))}): leave some of them out"
        )
    return [RANGES[name].of(getattr(recipe, name)) for name in chosen]


def given(config: TrainConfig) -> dict[str, Any]:
    """Return the settings of `config` that differ from those of its preset."""
    usual: Mapping[str, Any] = TrainConfig.filled_in(config.preset)
    return {
        name: value
        for name, setting in settings_of(TrainConfig).items()
        if name != "preset" and (value := getattr(config, name)) != usual.get(name, setting.default)
    }
