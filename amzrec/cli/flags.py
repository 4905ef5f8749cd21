"""Command-line flags from settings: one per field, with what its annotation allows and the text below it as help."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from amzrec.cli.program import HelpAll
from amzrec.config import Config, PrepareConfig
from amzrec.errors import AmzrecError
from amzrec.settings import Setting, flag, settings_of

METAVARS = {int: "N", float: "NUMBER", str: "TEXT", tuple: "N,N"}
RecipeOption = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        metavar="RUN_OR_FILE",
        help="Repeat the settings of a run folder, or of a JSON file with flags as keys; flags given beside it win.",
    ),
]


@functools.cache
def module_of(file: Path) -> ast.Module:
    """Parse a source file once."""
    return ast.parse(file.read_text(encoding="utf-8"))


def help_texts(config: type[Config]) -> dict[str, str]:
    """Read {field: the text below it} from the source of a class; Python itself does not keep such texts."""
    tree = module_of(Path(inspect.getfile(config)))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == config.__name__)
    texts = {}
    for field, below in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            texts[ast.unparse(field.target)] = " ".join(str(below.value.value).split())
    return texts


@dataclasses.dataclass(frozen=True)
class Flags:
    """The flags of one config class in a command."""

    config: type[Config]
    shown: tuple[str, ...]  # fields that this command's short help shows beside those marked SHOWN
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)  # field → parameter, of a name that is taken
    left_out: tuple[str, ...] = ()  # fields that this command decides itself

    def spelled(self, field: str) -> str:
        """Name the parameter of a field: its own name, unless it was renamed."""
        return self.renamed.get(field, field)

    def parameters(self) -> list[inspect.Parameter]:
        """Give the fields as parameters that Typer reads; None stands for a flag that is not given."""
        texts = help_texts(self.config)
        return [
            keyword(self.spelled(name), self.option(setting, texts.get(name, "")))
            for name, setting in settings_of(self.config).items()
            if name not in self.left_out
        ]

    def option(self, setting: Setting, text: str) -> Any:
        """Annotate the parameter of a setting; its words are read by the setting itself, which knows what it allows."""
        name, switch = self.spelled(setting.name), setting.kind is bool
        made = typer.Option(
            f"{flag(name)}/--no-{flag(name)[2:]}" if switch else flag(name),
            help=f"{text} [default: {setting.text}]" if setting.text else text,
            metavar="|".join(setting.choices) or METAVARS.get(setting.kind),
            hidden=not (setting.shown or setting.name in self.shown),
            rich_help_panel=setting.group,
        )
        return Annotated[bool | None if switch else str | None, made]

    def build(self, values: Mapping[str, Any], base: Mapping[str, Any] | None = None) -> Config | None:
        """Build the settings from `base`, the fields of a recipe, and the flags that were given; None without any."""
        typed = dict[str, Any]()
        for name, setting in settings_of(self.config).items():
            value = None if name in self.left_out else values.get(self.spelled(name))
            if value is not None:
                setting = dataclasses.replace(setting, name=self.spelled(name))
                typed[name] = setting.parse(value) if isinstance(value, str) else value
        settings = {**(base or {}), **self.config.filled_in(typed.get("preset")), **typed}
        return self.config.of(**settings) if settings else None


def folder_of(run: Path) -> Path:
    """Return the folder of a finished run; raises AmzrecError where it is none."""
    from amzrec.store.run import open_run

    return open_run(run).path


def fields_of_recipe(recipe: Path, flags: Mapping[str, Flags], sources: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read a recipe: {parameter: the fields that it sets}; a dataset folder keeps the split that it was made with."""
    from amzrec.store.dataset import is_dataset
    from amzrec.store.recipe import read_recipe

    repeated = read_recipe(recipe)
    fields = {name: dict[str, Any]() for name in flags}
    for name, each in flags.items():
        if each.config is not PrepareConfig:
            fields[name].update(repeated.train)
        elif not any(is_dataset(Path(str(each))) for each in sources):
            fields[name].update(repeated.prepare)
    places = {each.spelled(field): (name, field) for name, each in flags.items() for field in settings_of(each.config)}
    for key, value in repeated.flags.items():
        if key not in places:
            near = difflib.get_close_matches(key, places, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise AmzrecError(f"{recipe} has the unknown setting {key!r}{hint} (allowed: {', '.join(places)})")
        name, field = places[key]
        fields[name][field] = value
    return fields


def with_settings(
    renamed: dict[str, str] | None = None,
    shown: tuple[str, ...] = (),
    recipes: bool = True,
    left_out: tuple[str, ...] = (),
    **settings: type[Config],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace parameters of a command, `prepare=PrepareConfig`, by the flags of a class; add --recipe and --help-all.

    The command receives each built config, or None where no flag of it was given. `renamed` gives fields of the first
    class other names, where two classes have a field of one name; `left_out` are fields of that class without a flag,
    and `shown` adds to what the short help shows. A command with a parameter `recipe` receives the path of --recipe as
    well; without `recipes` there is no --recipe.
    """
    first = next(iter(settings))
    flags = {name: Flags(kind, shown) for name, kind in settings.items()}
    flags[first] = dataclasses.replace(flags[first], renamed=renamed or {}, left_out=left_out)

    return lambda command: Flagged(command, flags, recipes)


class Flagged:
    """A command whose parameters are flags of settings; they are put together when somebody asks for them."""

    def __init__(self, command: Callable[..., None], flags: Mapping[str, Flags], recipes: bool) -> None:
        self.command, self.flags, self.recipes = command, flags, recipes
        self.__name__, self.__doc__ = command.__name__, command.__doc__
        self.__annotations__ = dict[str, Any]()  # all stand in the signature

    @functools.cached_property
    def own(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of the command itself."""
        return inspect.signature(self.command, eval_str=True).parameters

    @functools.cached_property
    def __signature__(self) -> inspect.Signature:
        """What Typer reads."""
        parameters = list[inspect.Parameter]()
        for name, parameter in self.own.items():
            if name != "recipe":
                parameters += self.flags[name].parameters() if name in self.flags else [parameter]
            if self.recipes and name == list(self.flags)[-1]:
                parameters.append(keyword("recipe", RecipeOption))
        parameters.append(keyword("help_all", HelpAll, False))
        return inspect.Signature([one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters])

    def __call__(self, **values: Any) -> None:
        """Build the settings from the flags, and do the command."""
        recipe, start = values.get("recipe"), values.get("start")
        if recipe is not None and start is not None:
            raise AmzrecError("--recipe and --from both say which settings are used: give one of them")
        repeated = recipe if start is None else folder_of(start)
        base = fields_of_recipe(repeated, self.flags, values.get("source") or ()) if repeated is not None else {}
        if start is not None:
            base["config"].pop("epochs", None)  # those of a training from scratch
        built = {name: each.build(values, base.get(name)) for name, each in self.flags.items()}
        self.command(**{name: values[name] for name in self.own if name not in self.flags}, **built)


def keyword(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    """Make a parameter that is given by name."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
