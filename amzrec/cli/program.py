"""How the command line speaks: a short and a long help, and each mistake as one line on standard error."""

from __future__ import annotations

import contextlib
import copy
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from amzrec import interrupts
from amzrec.cli.streams import silence
from amzrec.errors import AmzrecError, is_utf8, printable

UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # what Typer raises for anything typed wrong
OPTIONS = "Options"  # the heading of the flags that no settings class has


class Program(TyperGroup):
    """All commands: whatever goes wrong in one is told in one line, with exit code 1, or 130 for an interrupt."""

    def main(self, *arguments: Any, **options: Any) -> NoReturn:
        """Run what was typed, and end the process with its exit code."""
        interrupts.forget()
        try:
            self.words = list(options.get("args") or (arguments[0] if arguments else None) or sys.argv[1:])
            check_words(self.words)
            code = super().main(*arguments, **options | {"standalone_mode": False})
        except (typer.Abort, KeyboardInterrupt):  # before the command began, or after it
            code = interrupted()
        except UsageError as error:
            fail(sentence(error))
        except AmzrecError as error:
            fail(str(error))
        except OSError as error:
            said = f"{error.strerror or error}: {error.filename}" if error.filename else str(error.strerror or error)
            fail(f"{said}. Check that the place exists, may be used, and has space left")
        except UnicodeEncodeError as error:  # of a name that came from elsewhere, such as the working directory
            fail(f"a name is not UTF-8: {error.object[:500]}. Rename it")
        sys.exit(code or 0)

    def invoke(self, ctx: Any) -> Any:
        """Run the command, quiet where a person interrupts it or the reader of its output has gone."""
        try:
            done = super().invoke(ctx)
        except BrokenPipeError:  # the reader, such as `head`, has seen enough
            silence(sys.stdout)
        except (KeyboardInterrupt, Exception) as error:
            # libraries turn an interrupt into errors of their own
            if not isinstance(error, KeyboardInterrupt) and not interrupts.asked():
                raise
            raise typer.Exit(interrupted(error, self.words)) from None
        else:
            if interrupts.asked():  # swallowed by a library
                raise typer.Exit(interrupted())
            return done


class Command(TyperCommand):
    """One command: --help shows the flags that most people need, --help-all shows all of them, in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and flags into the help; those that are hidden only where all were asked for."""
        everything = ctx.meta.get(HELP_ALL, False)
        sections = dict[str, list[tuple[str, str]]]()
        for parameter in self.get_params(ctx):
            shown: Any = copy.copy(parameter)
            shown.hidden = getattr(parameter, "hidden", False) and not everything
            if record := shown.get_help_record(ctx):
                group = getattr(parameter, "rich_help_panel", None) if everything else None
                heading = "Arguments" if parameter.param_type_name == "argument" else group or OPTIONS
                sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


HELP_ALL = "--help-all"


def show_everything(context: typer.Context, asked: bool) -> None:
    """Print the help with every flag, and end."""
    if asked:
        context.meta[HELP_ALL] = True
        tell(context.get_help())
        raise typer.Exit


HelpAll = Annotated[
    bool, typer.Option(HELP_ALL, callback=show_everything, is_eager=True, help="Show every flag, in groups, and exit.")
]


def tell(text: str) -> None:
    """Print what was asked for; AmzrecError where it cannot be written."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # which `Program.invoke` takes for the end
        raise
    except OSError as error:
        silence(sys.stdout)
        raise AmzrecError(
            f"cannot write standard output: {error.strerror}. Free some space, or send it elsewhere"
        ) from error


def check_words(words: Sequence[str]) -> None:
    """Raise AmzrecError for a word that was typed and is not UTF-8, as a name in another encoding is."""
    for word in words:
        if not is_utf8(word):
            raise AmzrecError(
                f"{word} is not UTF-8, as amzrec takes words and names of files: rename it, or its folder"
            )


def interrupted(error: BaseException | None = None, words: Sequence[str] = ()) -> int:
    """Say in one line that the command was interrupted, and how to go on where it can; return its exit code.

    `words` are what was typed.
    """
    text = "interrupted"
    if isinstance(error, interrupts.Interrupted) and words[:1] in (["train"], ["compare"]):
        text += f"; {error.kept}. Go on with: {going_on(words, error.run)}"
    with contextlib.suppress(OSError):  # nobody is there to be told
        line = printable(f"amzrec: {text}")
        print(f"\n{line}" if sys.stderr.isatty() else line, file=sys.stderr, flush=True)
    return 128 + (interrupts.asked() or signal.SIGINT)


def going_on(words: Sequence[str], run: Path) -> str:
    """Write the line that goes on with a training, from the words that began it."""
    train = words[0] == "train"
    line = [word for word in words if word != "--resume" and not (train and word == "--overwrite")]
    if train and not any(word == "--run" or word.startswith("--run=") for word in line):
        line += ["--run", str(run)]
    return f"amzrec {shlex.join(line)} --resume"


def fail(message: str) -> NoReturn:
    """Say once what is wrong, and end with exit code 1."""
    line = printable(f"amzrec: error: {message}")
    with contextlib.suppress(OSError):  # nobody is there to be told
        print(f"\n{line}" if sys.stderr.isatty() else line, file=sys.stderr, flush=True)
    sys.exit(1)


def sentence(error: Any) -> str:
    """Say in one line what was typed wrong, and where the right way stands."""
    context, parameter = error.ctx, error.__dict__.get("param")
    command = context.command_path if context else "amzrec"
    spelled = [name for known in context.command.params for name in known.opts] if context else []
    match type(error).__name__:
        case "NoSuchOption":
            near = f" Did you mean {error.possibilities[0]}?" if error.possibilities else ""
            text = f"{command} has no flag {error.option_name}.{near}"
        case "MissingParameter":
            text = f"{command} needs {named(parameter)}: {parameter.help[0].lower()}{parameter.help[1:]}"
        case "BadParameter" if parameter:
            text = f"{command}: {named(parameter)}: {error.message}"
        case _:
            text = error.message
    end = "" if text.endswith((".", "?")) else "."
    return f"{text}{end} See: {command} {HELP_ALL if HELP_ALL in spelled else '--help'}"


def named(parameter: Any) -> str:
    """Spell a parameter as the help does: --out, CUSTOMER_ID."""
    return str(parameter.opts[0] if parameter.param_type_name == "option" else parameter.human_readable_name)
