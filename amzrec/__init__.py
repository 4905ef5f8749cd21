"""A multitask recommender on TensorFlow Recommenders, from a file of reviews.

Every command is a function of the same name: amzrec.prepare, describe, plan, train, tune, track, evaluate, compare,
backtest, recommend, recommend_all, rate, similar, update, export, report, card, serve, launch, doctor; amzrec.load
opens a trained run and answers with pandas DataFrames. Importing is light: what stands behind a name is imported when
it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from amzrec.commands.backtest import backtest as backtest
    from amzrec.commands.card import card as card
    from amzrec.commands.compare import compare as compare
    from amzrec.commands.describe import describe as describe
    from amzrec.commands.doctor import doctor as doctor
    from amzrec.commands.evaluate import evaluate as evaluate
    from amzrec.commands.export import export as export
    from amzrec.commands.launch import launch as launch
    from amzrec.commands.load import Model as Model
    from amzrec.commands.load import load as load
    from amzrec.commands.plan import plan as plan
    from amzrec.commands.prepare import prepare as prepare
    from amzrec.commands.rate import rate as rate
    from amzrec.commands.recommend import recommend as recommend
    from amzrec.commands.recommend_all import recommend_all as recommend_all
    from amzrec.commands.report import report as report
    from amzrec.commands.serve import serve as serve
    from amzrec.commands.similar import similar as similar
    from amzrec.commands.track import track as track
    from amzrec.commands.train import train as train
    from amzrec.commands.tune import tune as tune
    from amzrec.commands.update import update as update
    from amzrec.config import PrepareConfig as PrepareConfig
    from amzrec.config import ServeConfig as ServeConfig
    from amzrec.config import TrainConfig as TrainConfig
    from amzrec.errors import AmzrecError as AmzrecError

MEMBERS = {  # name → the module that has it
    "prepare": "commands.prepare",
    "describe": "commands.describe",
    "plan": "commands.plan",
    "train": "commands.train",
    "evaluate": "commands.evaluate",
    "tune": "commands.tune",
    "track": "commands.track",
    "compare": "commands.compare",
    "backtest": "commands.backtest",
    "recommend": "commands.recommend",
    "recommend_all": "commands.recommend_all",
    "rate": "commands.rate",
    "similar": "commands.similar",
    "load": "commands.load",
    "Model": "commands.load",
    "update": "commands.update",
    "export": "commands.export",
    "report": "commands.report",
    "card": "commands.card",
    "serve": "commands.serve",
    "launch": "commands.launch",
    "doctor": "commands.doctor",
    "AmzrecError": "errors",
    "PrepareConfig": "config",
    "ServeConfig": "config",
    "TrainConfig": "config",
}
__all__ = [*MEMBERS, "__version__"]


def __getattr__(name: str) -> Any:
    if name in MEMBERS:
        return getattr(importlib.import_module(f"amzrec.{MEMBERS[name]}"), name)
    raise AttributeError(f"module 'amzrec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
