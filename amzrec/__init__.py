"""A multitask recommender on TensorFlow Recommenders, from a file of reviews.

Every command is a function of the same name: amzrec.prepare, describe, train, evaluate, compare, recommend,
recommend_all, rate, similar, export, doctor; amzrec.load opens a trained run and answers with pandas DataFrames.
Importing is light: a verb is imported when it is first used.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from amzrec.compare import compare as compare
    from amzrec.config import PrepareConfig as PrepareConfig
    from amzrec.config import TrainConfig as TrainConfig
    from amzrec.describe import describe as describe
    from amzrec.doctor import doctor as doctor
    from amzrec.errors import AmzrecError as AmzrecError
    from amzrec.evaluate import evaluate as evaluate
    from amzrec.export import export as export
    from amzrec.prepare import prepare as prepare
    from amzrec.recommend import Model as Model
    from amzrec.recommend import load as load
    from amzrec.recommend import rate as rate
    from amzrec.recommend import recommend as recommend
    from amzrec.recommend import recommend_all as recommend_all
    from amzrec.recommend import similar as similar
    from amzrec.train import train as train

# module and function in one
VERBS = ("prepare", "describe", "train", "evaluate", "compare", "recommend", "export", "doctor")
MEMBERS = {
    "rate": "recommend",
    "similar": "recommend",
    "recommend_all": "recommend",
    "load": "recommend",
    "Model": "recommend",
    "AmzrecError": "errors",
    "PrepareConfig": "config",
    "TrainConfig": "config",
}
__all__ = [*VERBS, *MEMBERS, "__version__"]


class Verb(types.ModuleType):
    """A module that is called like its function: amzrec.train(...) is amzrec.train.train(...)."""

    def __call__(self, *arguments: Any, **values: Any) -> Any:
        return vars(self)[self.__name__.rpartition(".")[2]](*arguments, **values)

    @property
    def __signature__(self) -> Any:
        import inspect

        return inspect.signature(vars(self)[self.__name__.rpartition(".")[2]])


class Package(types.ModuleType):
    """The package: however a verb's module gets imported, what hangs here can be called."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in VERBS and isinstance(value, types.ModuleType):
            value.__class__ = Verb
        super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name in VERBS:
        return importlib.import_module(f"amzrec.{name}")
    if name in MEMBERS:
        return getattr(importlib.import_module(f"amzrec.{MEMBERS[name]}"), name)
    raise AttributeError(f"module 'amzrec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.modules[__name__].__class__ = Package
