"""A fitted pyhf workspace -> tables of HEPData: yields before and after the fit, their covariance, the parameters.

Uncertainties of yields are propagated to first order, ``J V J^T`` with the derivative J of the yields in the
parameters; V is the covariance of the fit, or before it the widths of the constraint terms, none of a parameter
without one. The tables are those of HEPData's submission schema 1.1.1, one file each and ``submission.yaml``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.config.notation import written
from pipeline.data.jsonfiles import write_text
from pipeline.errors import InputError
from pipeline.evaluate.workspaces.fits import fitted
from pipeline.evaluate.workspaces.given import GivenWorkspace
from pipeline.evaluate.workspaces.results import WorkspaceFit
from pipeline.likelihood import HistFactory
from pipeline.likelihood.workspace import JsonObject

BEFORE, AFTER = "before the fit", "after the fit"


class Table(NamedTuple):
    """A table: what it is called and says, columns that name its rows, columns of values."""

    name: str
    description: str
    independent: Mapping[str, Sequence[str | int]]
    dependent: Sequence[JsonObject]


class Predicted(NamedTuple):
    """Expected yields with their standard deviations, the last row that of all samples; covariance of all bins."""

    yields: Float[np.ndarray, "rows bins"]
    stdev: Float[np.ndarray, "rows bins"]
    covariance: Float[np.ndarray, "bins bins"]


def write_hepdata(folder: Path, given: GivenWorkspace, summary: JsonObject | None = None) -> None:
    """Fit a workspace and write the tables of a submission to a folder.

    Args:
        summary: content of a run's ``summary.json``: its objective is a table, and so is what the uncertainty of each
            parameter of interest is made of.

    Raises:
        FitError: the fit did not converge.
        InputError: the summary is none.
    """
    of_run = [] if summary is None else [_objective(summary), *_breakdowns(summary)]
    tables = [*tables_of(given, fitted(given)), *of_run]
    comment = f"Binned likelihood of {len(given.model.channels)} channels, fitted with Thalweg."
    documents: list[dict[str, Any]] = [{"comment": comment}]
    for number, table in enumerate(tables):
        file = f"table_{number + 1}.yaml"
        columns = [
            {"header": {"name": n}, "values": [{"value": v} for v in own]}
            for n, own in table.independent.items()
        ]
        write_text(
            folder / file,
            written({"independent_variables": columns, "dependent_variables": list(table.dependent)}),
        )
        entry = {"name": table.name, "description": table.description, "keywords": [], "data_file": file}
        documents.append(entry)
    write_text(folder / "submission.yaml", "---\n".join(written(document) for document in documents))


def tables_of(given: GivenWorkspace, fit: WorkspaceFit) -> list[Table]:
    """Return the tables of a fit: yields of each channel, their covariance, parameters, correlations."""
    model = given.model
    best = jnp.asarray([parameter.value for parameter in fit.parameters])
    predicted = {
        BEFORE: _predicted(model, model.initial, _before(model)),
        AFTER: _predicted(model, best, jnp.asarray(_covariance(fit))),
    }
    what = "Asimov" if given.is_asimov else "Observed"
    return [
        *(_yields(model, channel, np.asarray(given.data), what, predicted) for channel in model.channels),
        _covariance_table(model, predicted[AFTER]),
        _parameters(fit),
        *([_correlation(fit)] if len(fit.correlated) > 1 else []),
    ]


def _before(model: HistFactory) -> Float[Array, "params params"]:
    """Return the variances of the constraint terms; 0 for what is free or held."""
    dense, terms = model.dense(), model.constraints
    variance = jnp.where(terms.is_poisson, 1.0 / dense.width, dense.width**2)
    known = jnp.where(terms.is_on & ~model.fixed_parameters()[terms.parameter], variance, 0.0)
    return jnp.diag(jnp.zeros(model.initial.size).at[terms.parameter].set(known))


def _covariance(fit: WorkspaceFit) -> Float[np.ndarray, "params params"]:
    """Return the covariance of all parameters, 0 for those that are held."""
    place = {parameter.name: number for number, parameter in enumerate(fit.parameters)}
    width = np.array([fit.parameters[place[name]].uncertainty for name in fit.correlated])
    found = np.zeros((len(place), len(place)))
    rows = [place[name] for name in fit.correlated]
    found[np.ix_(rows, rows)] = np.array(fit.correlation).reshape(len(rows), len(rows)) * np.outer(
        width, width
    )
    return found


def _predicted(
    model: HistFactory, parameters: Float[Array, " params"], covariance: Float[Array, "params params"]
) -> Predicted:
    found = _propagated(model, parameters, covariance)
    return Predicted(*(np.asarray(own) for own in found))


@eqx.filter_jit
def _propagated(
    model: HistFactory, parameters: Float[Array, " params"], covariance: Float[Array, "params params"]
) -> tuple[Float[Array, "rows bins"], Float[Array, "rows bins"], Float[Array, "bins bins"]]:
    dense = model.dense()

    def rows(values: Float[Array, " params"]) -> Float[Array, "rows bins"]:
        each = model.expected_by_sample(values, dense)
        return jnp.concatenate([each, jnp.sum(each, axis=0)[None]])

    slopes = jax.jacfwd(rows)(parameters)
    variance = jnp.einsum("rbp,pq,rbq->rb", slopes, covariance, slopes)
    return rows(parameters), jnp.sqrt(variance), slopes[-1] @ covariance @ slopes[-1].T


def _yields(
    model: HistFactory,
    channel: str,
    data: Float[np.ndarray, " data"],
    what: str,
    predicted: Mapping[str, Predicted],
) -> Table:
    inside = model.stacking.names.slices[channel]
    present = {sample for own, sample in model.stacking.modifiers.cells if own == channel}
    columns: list[JsonObject] = [_column(f"{what} events", data[inside])]
    for state, own in predicted.items():
        for row, name in enumerate((*model.samples, "")):
            if not name or name in present:
                columns.append(
                    _column(f"{name or 'Total'}, {state}", own.yields[row, inside], own.stdev[row, inside])
                )
    bins = range(1, inside.stop - inside.start + 1)
    return Table(
        f"Yields in {channel}",
        f"Events of channel {channel} by bin, with their total uncertainties {BEFORE} and {AFTER}.",
        {"Bin": list(bins)},
        columns,
    )


def _column(
    name: str,
    values: Sequence[float] | Float[np.ndarray, " rows"],
    errors: Sequence[float] | Float[np.ndarray, " rows"] | None = None,
) -> JsonObject:
    """Return a column of values, with one symmetric uncertainty each where there are some."""
    entries: list[dict[str, Any]] = [{"value": float(value)} for value in values]
    for entry, error in zip(entries, () if errors is None else errors, strict=False):
        entry["errors"] = [{"symerror": float(error), "label": "total"}]
    return {"header": {"name": name}, "values": entries}


def _labels(model: HistFactory) -> list[str]:
    return [
        f"{n}, bin {b + 1}"
        for n, own in model.stacking.names.slices.items()
        for b in range(own.stop - own.start)
    ]


def _pairs(names: Sequence[str], matrix: Float[np.ndarray, "names names"], what: str) -> dict[str, Any]:
    """Return a symmetric matrix as the columns of a table."""
    return {
        "independent": {
            "First": [one for one in names for _ in names],
            "Second": [other for _ in names for other in names],
        },
        "dependent": [_column(what, np.ravel(matrix))],
    }


def _covariance_table(model: HistFactory, predicted: Predicted) -> Table:
    pairs = _pairs(_labels(model), predicted.covariance, "Covariance")
    return Table("Covariance", f"Covariance of the total yields of all bins {AFTER}.", **pairs)


def _parameters(fit: WorkspaceFit) -> Table:
    values = _column(
        "Best fit", [own.value for own in fit.parameters], [own.uncertainty for own in fit.parameters]
    )
    poi = f" The parameter of interest is {fit.poi}." if fit.poi else ""
    names = {"Parameter": [own.name for own in fit.parameters]}
    return Table(
        "Parameters", f"Parameters that fit best, 0 as uncertainty of one that is held.{poi}", names, [values]
    )


def _correlation(fit: WorkspaceFit) -> Table:
    pairs = _pairs(fit.correlated, np.array(fit.correlation), "Correlation")
    return Table("Correlations", "Correlations of the parameters that are free in the fit.", **pairs)


def _objective(summary: JsonObject) -> Table:
    """Return the number that a run was optimised for, before and after."""
    try:
        change, objective = summary["change"], summary["objective"]
        points = {"initial": change["initial"], "optimised": change["optimised"]}
        label = objective["label"] + (f" [{objective['unit']}]" if objective["unit"] else "")
        described = (
            f"{label[:1].upper()}{label[1:]}, by {change['by']} on events of the fold {change['fold']}."
        )
    except (KeyError, TypeError) as error:
        raise InputError(
            f"summary: {type(error).__name__} {error}: give the summary.json of a run"
        ) from error
    known = {point: float(number) for point, number in points.items() if number is not None}
    return Table("Objective", described, {"Point": list(known)}, [_column(label, list(known.values()))])


def _breakdowns(summary: JsonObject) -> list[Table]:
    """Return what the uncertainties are made of at the optimised parameters, on the events of the objective's table."""
    try:
        fold = summary["change"]["fold"]
        found = summary.get("breakdown", {}).get("optimised", {}).get(fold, {})
        return [_breakdown(parameter, fold, own) for parameter, own in found.items()]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"summary, breakdown: {type(error).__name__} {error}: give the summary.json of a run"
        ) from error


def _breakdown(parameter: str, fold: str, found: JsonObject) -> Table:
    """Return the groups of a breakdown, the total last; ``-`` for the impact by data of what no data constrain."""
    groups = found["groups"]
    by_data = [*(own["impact"] for own in groups.values()), found["total"]]
    traditional = [*(own["traditional"] for own in groups.values()), None]
    columns = [
        {
            "header": {"name": name},
            "values": [{"value": "-" if value is None else float(value)} for value in values],
        }
        for name, values in (("Impact, by data", by_data), ("Impact, traditional", traditional))
    ]
    return Table(
        f"Uncertainties on {parameter}",
        f"Parts of the uncertainty on {parameter}, optimised analysis, events of the fold {fold}. Those by data "
        "add up in quadrature to the total, the traditional ones need not.",
        {"Group": [*groups, "total"]},
        columns,
    )
