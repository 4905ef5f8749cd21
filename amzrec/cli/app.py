"""The command line: the program, made of its commands."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from amzrec.cli import answering, learning
from amzrec.cli.program import Command, Program, tell
from amzrec.cli.streams import be_done, let_go, prepare_process
from amzrec.interrupts import listen

app = typer.Typer(
    name="amzrec",
    cls=Program,
    help="A multitask recommender from a file of reviews: prepare, train, ask.",
    invoke_without_command=True,
    context_settings={"max_content_width": 110},
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

VERBS = (
    learning.prepare,
    learning.describe,
    learning.plan,
    learning.train,
    learning.tune,
    learning.evaluate,
    learning.compare,
    learning.backtest,
    answering.recommend,
    answering.rate,
    answering.similar,
    answering.update,
    answering.export,
    answering.report,
    answering.card,
    answering.serve,
    answering.launch,
    answering.doctor,
)  # in the order of the help

for verb in VERBS:
    app.command(cls=Command)(verb)


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """A multitask recommender from a file of reviews: prepare, train, ask."""
    if version:
        from amzrec import __version__

        tell(f"amzrec {__version__}")
    elif context.invoked_subcommand is None:
        tell(context.get_help())
    else:
        return
    raise typer.Exit


def program(verb: Sequence[str]) -> typer.Typer:
    """Return the program with the command that is typed alone: to put all of them together takes longer than an answer.

    Where no command is typed first, all are there, to be listed or suggested.
    """
    known = [each for each in app.registered_commands if each.callback and [each.callback.__name__] == list(verb)]
    alone = copy.copy(app)
    alone.registered_commands = known or app.registered_commands
    return alone


def main() -> None:
    """Run `amzrec` with the words that were typed."""
    prepare_process()
    command = typer.main.get_command(program(sys.argv[1:2]))
    listen()  # from here on the command tells of an interrupt itself
    try:
        command(prog_name="amzrec")
    finally:
        be_done()
        let_go(sys.stderr)
