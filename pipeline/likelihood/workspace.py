"""Read a pyhf workspace, and key its lists by names."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.containers import AnyArray
from pipeline.data.jsonfiles import read_json
from pipeline.likelihood.interpolation import FACTORS, SHIFTS

JsonObject = Mapping[str, Any]  # of a workspace: a channel, a sample, a modifier, a measurement
Workspace = JsonObject
ModifierArrays = Mapping[str, AnyArray | np.generic] | AnyArray | None  # two sides, one number per bin, none
SampleArrays = dict[str, Any]  # {"data": bins, modifier type: {modifier name: its arrays}}
Specification = dict[str, dict[str, SampleArrays]]  # by channel and sample

MODIFIERS = ("histosys", "lumi", "normfactor", "normsys", "shapefactor", "shapesys", "staterror")
"""Supported modifier types, in the order in which pyhf collects their parameters."""
POWERS = {"linear": 1, "quadratic": 2}
"""Types that pyhf does not have, with the power of ``theta - nominal`` that multiplies: of a theory's coefficients."""


def read_workspace(workspace: Workspace | str | Path) -> Workspace:
    """Return the workspace as a mapping, from a mapping or the path of its JSON."""
    if isinstance(workspace, Mapping):
        return workspace
    loaded: Workspace = read_json(Path(workspace))
    return loaded


def check_type(kind: object, where: str) -> None:
    """Refuse a modifier of a type that there is not."""
    if kind not in MODIFIERS:
        raise ValueError(
            f"{where}: type '{kind}' is not supported; supported are {', '.join(MODIFIERS)}. "
            "Rewrite it as one of these"
        )


def codes_of(modifier_settings: Mapping[str, Mapping[str, str]]) -> tuple[str, str]:
    """Return interpolation codes of normsys and histosys from pyhf's ``modifier_settings``."""
    tables = {"normsys": FACTORS, "histosys": SHIFTS}
    codes = {kind: list(table)[-1] for kind, table in tables.items()}
    for kind, given in modifier_settings.items():
        unknown = set(given) - {"interpcode"}
        if kind not in tables or unknown:
            raise ValueError(
                f"modifier_settings: '{kind}' with {sorted(given)} is not known; "
                "known is 'interpcode' of normsys and histosys"
            )
        codes[kind] = given.get("interpcode", codes[kind])
        if codes[kind] not in tables[kind]:
            raise ValueError(
                f"modifier_settings: interpcode '{codes[kind]}' of {kind}; allowed are {', '.join(tables[kind])}"
            )
    return codes["normsys"], codes["histosys"]


def measurement_of(workspace: Workspace, name: str | None) -> JsonObject:
    """Return the measurement of that name; without a name the first one, as pyhf does."""
    measurements = _keyed(workspace.get("measurements", []), "workspace, measurements")
    if not measurements:
        raise ValueError("workspace: 'measurements' is empty; add one with a POI ('' for none)")
    chosen = next(iter(measurements)) if name is None else name
    if chosen not in measurements:
        raise ValueError(f"workspace: no measurement '{chosen}'; it has {sorted(measurements)}")
    return measurements[chosen]


def _keyed(items: Iterable[JsonObject], where: str) -> dict[str, JsonObject]:
    """Return items by name; a repeated name is an error because templates are addressed by name."""
    keyed: dict[str, JsonObject] = {}
    for item in items:
        if item["name"] in keyed:
            raise ValueError(f"{where}: name '{item['name']}' appears twice; give each its own name")
        keyed[item["name"]] = item
    return keyed


def _bins(values: object, size: int, where: str, *, least: float = -math.inf) -> Float[Array, " bins"]:
    """Return yields of one channel, with the channel's number of bins; those of a sample may be negative."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (size,):
        raise ValueError(
            f"{where}: shape {array.shape}, but the channel has {size} bins; give one number per bin"
        )
    wrong = np.flatnonzero(~np.isfinite(array) | (array < least))
    if wrong.size:
        allowed = "finite numbers" if least == -math.inf else f"finite numbers of at least {least:g}"
        raise ValueError(f"{where}: {array[wrong[0]]:g} in bin {wrong[0]}; allowed are {allowed}; mend it")
    return jnp.asarray(array)


def _normsys(values: Mapping[str, float], where: str) -> dict[str, Float[Array, ""]]:
    """Return the two factors of a normalisation uncertainty, neither of them negative."""
    for side in ("hi", "lo"):
        if not 0 <= values[side] < math.inf:
            raise ValueError(
                f"{where}: {side} = {values[side]}, but a normalisation factor is >= 0 and finite; "
                "use a histosys for yields that change sign"
            )
    return {side: jnp.asarray(np.float64(values[side])) for side in ("hi", "lo")}


def _modifier(modifier: JsonObject, size: int, where: str) -> ModifierArrays:
    """Return the arrays of one modifier; None for those that hold no numbers."""
    kind: str = modifier["type"]
    values: Any = modifier.get("data")
    match kind:
        case "histosys":
            return {side: _bins(values[side], size, f"{where}, {side}") for side in ("hi_data", "lo_data")}
        case "normsys":
            return _normsys(values, where)
        case "shapesys" | "staterror":
            return _bins(values, size, where, least=0.0)
        case _:
            check_type(kind, where)
            return None


def _sample(sample: JsonObject, size: int, where: str) -> SampleArrays:
    """Return one sample of one channel, its modifiers by type and name."""
    entry: SampleArrays = {"data": _bins(sample["data"], size, f"{where}, data")}
    for modifier in sample["modifiers"]:
        kind, name = modifier["type"], modifier["name"]
        place = f"{where}, modifier '{name}' ({kind})"
        arrays = _modifier(modifier, size, place)
        if name in entry.setdefault(kind, {}):
            raise ValueError(f"{place}: appears twice in this sample; give each its own name")
        entry[kind][name] = arrays
    return entry


def templates_from_workspace(workspace: Workspace | str | Path) -> Specification:
    """Return the numbers of a workspace as a pytree that mirrors the specification.

    ``{channel: {sample: {"data": [bins], "histosys": {name: {"hi_data": [bins], "lo_data": [bins]}},
    "normsys": {name: {"hi": scalar, "lo": scalar}}, "shapesys": {name: [bins]}, "staterror": {name: [bins]},
    "lumi": {name: None}, "normfactor": {name: None}, "shapefactor": {name: None}}}}``; a type is present
    where it is used. ``staterror`` and ``shapesys`` hold absolute uncertainties, as pyhf's JSON does.
    """
    templates: Specification = {}
    channels = _keyed(read_workspace(workspace)["channels"], "workspace, channels")
    for channel, content in channels.items():
        samples = _keyed(content["samples"], f"channel '{channel}', samples")
        size = len(content["samples"][0]["data"])
        templates[channel] = {
            name: _sample(sample, size, f"channel '{channel}', sample '{name}'")
            for name, sample in samples.items()
        }
    return templates


def observations_of(workspace: Workspace, channels: Mapping[str, int]) -> Float[Array, " bins"] | None:
    """Return observed yields, channels in the model's order; None when a channel has none."""
    entries = _keyed(workspace.get("observations", []), "workspace, observations")
    observed = {name: entry["data"] for name, entry in entries.items()}
    if not set(channels) <= set(observed):
        return None
    parts = [
        _bins(observed[name], size, f"observation '{name}'", least=0.0) for name, size in channels.items()
    ]
    return jnp.concatenate(parts)
