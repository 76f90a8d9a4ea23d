"""Verbs that fit a pyhf workspace of anybody's, without a run."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import LOG, Function, PathOption, verb
from pipeline.errors import InputError

if TYPE_CHECKING:
    from pipeline.evaluate.workspaces.given import GivenWorkspace

logger = logging.getLogger(__name__)


class FixedValue(click.ParamType[tuple[str, float]]):
    """A parameter and the value that it is held at."""

    name = "name=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """Return the name and the number."""
        name, _, text = str(value).rpartition("=")
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not name or number != number:
            self.fail(f"{value!r} is not of the form NAME=NUMBER, as in mu=1", param, ctx)
        return name, number


class Between(click.ParamType[float]):
    """A finite number, above ``low`` and below ``high``."""

    name = "number"

    def __init__(self, low: float, high: float) -> None:
        self._ends = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number that a text is."""
        low, high = self._ends
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low < number < high:
            self.fail(f"{value!r} is no number between {low:g} and {high:g}", param, ctx)
        return number


def of_a_workspace(function: Function) -> Function:
    """Add what every verb of a workspace takes."""
    options = (
        click.argument("workspace", type=PathOption(), metavar="WORKSPACE", help="JSON file of a pyhf workspace"),
        click.option("--patchset", type=PathOption(), help="JSON file of a patchset of it (default: none)"),
        click.option("--patch", help="name of the patch to take from it"),
        click.option("--measurement", help="measurement of the workspace (default: its first)"),
        click.option("--poi", help="parameter of interest (default: the measurement's)"),
        click.option(
            "--fix", type=FixedValue(), multiple=True, metavar="NAME=VALUE",
            help="hold a parameter, or all bins of one; may be repeated (default: none)",
        ),
        click.option("--json", "output", type=PathOption(), help="write the result to this file too"),
        click.option("--compare", is_flag=True, help="let pyhf with Minuit do the same (default: no)"),
        LOG,
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def asimov_of(what: str) -> Callable[[Function], Function]:
    """Return the option that takes Asimov data of ``what``."""
    text = f"fit Asimov data of {what} in place of the observed (default: no)"
    return click.option("--asimov", is_flag=True, help=text)


@verb
@of_a_workspace
@asimov_of("the start values")
def fit(output: Path | None, compare: bool, **given: Any) -> None:
    """Fit a pyhf workspace: minimum, parameters with uncertainties, correlations."""
    from pipeline.cli.tables import fit_table
    from pipeline.evaluate.workspaces.fits import fitted

    read = _read(given)
    found = fitted(read)
    _show(_beside("fit", read, found) if compare else found, fit_table, output)


@verb
@of_a_workspace
@asimov_of("the start values at POI = 0")
@click.option("--mu", type=Between(-1e12, 1e12), default=1.0, help="value of the POI to test (default: 1)")
def hypotest(output: Path | None, compare: bool, mu: float, **given: Any) -> None:
    """Test a value of the POI of a pyhf workspace: CLs, observed and expected."""
    from pipeline.cli.tables import test_table
    from pipeline.evaluate.workspaces.fits import cls_of
    from pipeline.evaluate.workspaces.given import free_poi, tested_value

    read = _read(given, background_only=True)
    poi = free_poi(read, given["workspace"])
    found = cls_of(read, poi, tested_value(read, poi, mu, given["workspace"]))
    _show(_beside("cls", read, found) if compare else found, test_table, output)


@verb
@of_a_workspace
@asimov_of("the start values at POI = 0")
@click.option("--level", type=Between(0.0, 1.0), default=0.05, help="CLs at the limit (default: 0.05)")
def limit(output: Path | None, compare: bool, level: float, **given: Any) -> None:
    """Find the upper limit on the POI of a pyhf workspace, observed and expected."""
    from pipeline.cli.tables import limit_table
    from pipeline.evaluate.workspaces.fits import limited
    from pipeline.evaluate.workspaces.given import free_poi

    read = _read(given, background_only=True)
    found = limited(read, free_poi(read, given["workspace"]), level)
    _show(_beside("limit", read, found) if compare else found, limit_table, output)


def _read(given: dict[str, Any], *, background_only: bool = False) -> "GivenWorkspace":
    """Return the workspace that the options name."""
    from pipeline.evaluate.workspaces.given import given_workspace

    if (given["patch"] is None) != (given["patchset"] is None):
        raise InputError("--patchset FILE and --patch NAME go together; give both or neither")
    names = [name for name, _ in given["fix"]]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"--fix: {', '.join(map(repr, sorted(twice)))} twice; give each parameter one value")
    options = {name: value for name, value in given.items() if name not in ("workspace", "fix")}
    return given_workspace(
        given["workspace"], fixed=dict(given["fix"]), background_only=background_only, **options
    )


def _beside(what: str, given: "GivenWorkspace", found: Any) -> Any:
    """Return a result with pyhf's beside it; pyhf is imported for that only."""
    from pipeline.evaluate.workspaces import beside

    return getattr(beside, f"{what}_beside")(given, found)


def _show(found: Any, table: Callable[[Any], str], output: Path | None) -> None:
    """Print the table of a result, and write the result where that is asked for."""
    from pipeline.cli.progress import to_standard_output
    from pipeline.data.jsonfiles import write_json

    if output is not None:
        write_json(output, found.as_json())
    to_standard_output(table(found))
