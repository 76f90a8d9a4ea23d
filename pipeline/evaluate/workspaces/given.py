"""A pyhf workspace of anybody's, made ready for a fit: its model, its data, the parameters that are held."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.errors import InputError, nearest
from pipeline.likelihood import HistFactory, patched
from pipeline.likelihood.workspace import Workspace, read_workspace


class GivenWorkspace(NamedTuple):
    """A workspace and what is asked of it.

    ``model`` holds the parameters in ``fixed``, by name, at those values; ``data`` are bins, then auxiliary data.
    """

    spec: Workspace
    measurement: str | None
    poi: str | None
    fixed: dict[str, float]
    model: HistFactory
    data: Float[Array, " data"]
    is_asimov: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in pyhf's order."""
        return self.model.parameter_names


def given_workspace(
    path: Path,
    *,
    patchset: Path | None = None,
    patch: str | None = None,
    measurement: str | None = None,
    poi: str | None = None,
    fixed: Mapping[str, float] | None = None,
    asimov: bool = False,
    background_only: bool = False,
) -> GivenWorkspace:
    """Read a workspace, perhaps with a patch of a patchset.

    Args:
        path: JSON file of the workspace.
        patchset: JSON file of a patchset, of which ``patch`` names one.
        measurement: name of the measurement; None for the first.
        poi: parameter of interest in place of the measurement's.
        fixed: values of parameters to hold, by name; a name without ``[bin]`` stands for all bins.
        asimov: take Asimov data of the start values instead of the observations.
        background_only: make those at POI = 0.

    Raises:
        InputError: a file cannot be read or is no workspace; a name is not known; a value is outside its bounds;
            the workspace has no observations, or no POI where one is needed.
    """
    try:
        spec = read_workspace(path) if patchset is None else patched(path, patchset, patch or "")
        model = HistFactory.from_workspace(spec, measurement, poi=poi)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    held = _held(model, fixed or {}, path)
    model = _with(model, held)
    if not asimov and model.observations is None:
        raise InputError(
            f"{path}: there are no observations for channels {', '.join(model.channels)}; add them, or ask for Asimov "
            "data by --asimov"
        )
    data = model.expected_data(_truth(model, background_only, path)) if asimov else model.data()
    return GivenWorkspace(spec, measurement, poi, held, model, data, asimov)


def _truth(model: HistFactory, background_only: bool, path: Path) -> Float[Array, " params"]:
    """Return parameters that Asimov data are made of."""
    if not background_only:
        return model.initial
    return model.initial.at[_poi(model, path)].set(0.0)


def _poi(model: HistFactory, path: Path) -> int:
    """Return the place of the POI, which a test needs."""
    if model.poi_index is None:
        names = ", ".join(dict.fromkeys(name.partition("[")[0] for name in model.parameter_names))
        raise InputError(f"{path}: the measurement has no parameter of interest; give one by --poi: {names}")
    return model.poi_index


def free_poi(given: GivenWorkspace, path: Path) -> int:
    """Return the place of the POI among the parameters.

    Raises:
        InputError: the measurement names none, or it is held.
    """
    place = _poi(given.model, path)
    if bool(given.model.configured_fixed[place]):
        raise InputError(
            f"{path}: the parameter of interest {given.names[place]!r} is held, by --fix or the measurement; a test "
            "varies it, so let it float"
        )
    return place


def tested_value(given: GivenWorkspace, poi: int, mu: float, path: Path) -> float:
    """Return a value of the POI to test.

    Raises:
        InputError: it is outside the bounds, or below 0, where the test statistic has no meaning.
    """
    low, high = (float(bound) for bound in given.model.bounds[poi])
    if not max(low, 0.0) <= mu <= high:
        raise InputError(
            f"{path}: --mu {mu:g} is not between {max(low, 0.0):g} and {high:g}: {given.names[poi]!r} has bounds "
            f"[{low:g}, {high:g}], and q~ is of signals of 0 or more"
        )
    return mu


def _held(model: HistFactory, fixed: Mapping[str, float], path: Path) -> dict[str, float]:
    """Return the values by the names of single parameters."""
    held: dict[str, float] = {}
    for name, value in fixed.items():
        own = [n for n in model.parameter_names if n == name or n.startswith(f"{name}[")]
        if not own:
            raise InputError(f"{path}: no parameter {name!r} to hold; {nearest(name, model.parameter_names)}")
        for one in own:
            low, high = (float(bound) for bound in model.bounds[model.parameter_names.index(one)])
            if not low <= value <= high:
                raise InputError(f"{path}: {one} = {value:g} is outside its bounds [{low:g}, {high:g}]")
            held[one] = value
    return held


def _with(model: HistFactory, held: Mapping[str, float]) -> HistFactory:
    """Return the model with these parameters held."""
    if not held:
        return model
    places = np.asarray([model.parameter_names.index(name) for name in held])
    values = jnp.asarray(list(held.values()), dtype=model.initial.dtype)

    changed: HistFactory = eqx.tree_at(
        lambda m: (m.initial, m.fixed, m.configured_fixed),
        model,
        (
            model.initial.at[places].set(values),
            model.fixed.at[places].set(True),
            model.configured_fixed.at[places].set(True),
        ),
    )
    return changed
