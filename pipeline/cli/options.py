"""Building blocks of the options: their types, the options that several verbs share, and the verb itself."""

import itertools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.types import OptionHelpExtra

from pipeline.data.names import ALL, FOLDS, INITIAL, POINTS

CORES = os.cpu_count() or 1
OF_FOLDS = r"fold_[1-9]\d*"

Function = TypeVar("Function", bound=Callable[..., Any])


class Whole(click.ParamType[int]):
    """A whole number, ``least`` or more."""

    name = "number"

    def __init__(self, least: int) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number that a text is."""
        try:
            number = int(value)
        except ValueError:
            number = self._least - 1
        if number < self._least:
            self.fail(f"{value!r} is not a whole number of {self._least} or more", param, ctx)
        return number


class PathOption(click.ParamType[Path]):
    """The path of a file or folder, which need not be there."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path that a text is."""
        from pipeline.config.textfiles import impossible, shown

        path = Path(value)
        if wrong := impossible(path):
            self.fail(f"{shown(str(value))} can be no path: {wrong}", param, ctx)
        return path


class FoldOption(click.Choice[str]):
    """A fold by its name, or one of ``data.folds``, of which the configuration says how many there are."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        return value if re.fullmatch(OF_FOLDS, str(value)) else super().convert(value, param, ctx)


class Several(click.ParamType[tuple[str, ...]]):
    """An option with several values, as a ``Verb`` hands them over."""

    name = "values"
    separator = "\0"  # is in no argument of a process

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the values."""
        del param, ctx
        return tuple(value.split(self.separator)) if isinstance(value, str) else tuple(value)


class Required(click.Option):
    """An option that must be given, as its help text says already."""

    def __init__(self, names: Sequence[str] | None = None, **settings: Any) -> None:
        super().__init__(names, required=True, **settings)

    def get_help_extra(self, ctx: click.Context) -> OptionHelpExtra:
        """Put nothing in brackets behind the help text."""
        del ctx
        return {}


class Verb(click.Command):
    """A verb, run by the function that its context brings along, which knows where messages go and how a run ends."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the values; all that are missing are named at once."""
        self._check_values(ctx, args)
        joined = self._joined(args)
        try:
            return super().parse_args(ctx, [*joined])
        except click.MissingParameter:
            known = self.make_context(ctx.info_name, joined, parent=ctx.parent, resilient_parsing=True).params
            missing = [own for own in self.params if own.required and known.get(own.name) in (None, ())]
            names = [
                own.make_metavar(ctx) if isinstance(own, click.Argument) else own.opts[0] for own in missing
            ]
            raise click.UsageError(f"the following are required: {', '.join(names)}", ctx) from None

    def invoke(self, ctx: click.Context) -> int:
        """Return the exit code."""
        log, debug = ctx.params.pop("log", None), ctx.params.pop("debug")
        code: int = ctx.obj(lambda: click.Command.invoke(self, ctx), log, debug)
        return code

    def _options(self) -> dict[str, click.Option]:
        return {name: own for own in self.params if isinstance(own, click.Option) for name in own.opts}

    def _check_values(self, ctx: click.Context, args: list[str]) -> None:
        """Refuse an option in the place of another one's value, which click would take for the value."""
        options = self._options()
        for name, value in itertools.pairwise(args):
            if name in options and not options[name].is_flag and value in options:
                raise click.BadOptionUsage(name, f"{name} requires a value, and {value} is an option", ctx)

    def _joined(self, args: list[str]) -> list[str]:
        """Return arguments in which the values behind an option of ``Several`` are one, up to the next option."""
        several = {name for name, own in self._options().items() if isinstance(own.type, Several)}
        found: list[str] = []
        for argument in args:
            if len(found) > 1 and found[-2] in several and not argument.startswith("-"):
                found[-1] += Several.separator + argument
            else:
                found.append(argument)
        return found


def verb(function: Callable[..., None]) -> Verb:
    """Return a verb by the name of the function, with the function's docstring as its help."""
    made = click.command(cls=Verb, short_help=(function.__doc__ or "").partition("\n")[0])(function)
    debug = "print the traceback of an error too (default: no)"
    made.params.append(click.Option(["--debug"], is_flag=True, help=debug))
    return made


SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="override a key of the configuration, as in optimise.epochs=20; may be repeated (default: none)",
)
LOG = click.option(
    "--log", type=PathOption(), help="write messages to this file too (default: only standard error)"
)
SAMPLE = click.option("--sample", cls=Required, help="process, or process__variation (required)")
INDEX = click.option("--index", type=Whole(0), cls=Required, help="file of the sample, from 0 (required)")
OUTPUT = click.option("--output", type=PathOption(), cls=Required, help="file to write (required)")


def of_a_run(function: Function) -> Function:
    """Add what every verb of a run takes: the configuration, overrides of it, a file for the messages."""
    help = "YAML file of the run, see config/README.md"
    return click.argument("config", type=PathOption(), metavar="CONFIG", help=help)(SET(LOG(function)))


def with_workers(function: Function) -> Function:
    """Add what every verb takes that goes through all events."""
    workers = click.option(
        "--workers", type=Whole(1), default=CORES, help=f"worker processes (default: {CORES})"
    )
    memory = click.option(
        "--memory-mb", type=Whole(1), help="memory they may use together (default: the machine's)"
    )
    return workers(memory(function))


def at_a_point(function: Function) -> Function:
    """Add what every verb takes that looks at one point."""
    point = click.option(
        "--parameters",
        "point",
        type=click.Choice(POINTS),
        default=INITIAL,
        help="start values of the configuration, or the run's result (default: initial)",
    )
    fold = click.option(
        "--fold",
        type=FoldOption((ALL, *FOLDS)),
        default=ALL,
        help="events to count, each fold normalised to the whole luminosity; fold_1, fold_2, ... of a run with "
        "data.folds (default: all)",
    )
    return point(fold(function))
