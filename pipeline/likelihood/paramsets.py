"""The parameters that a specification asks for: pyhf's order, values, bounds and constraints."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pipeline.likelihood.workspace import MODIFIERS, POWERS, JsonObject, SampleArrays, Specification

KINDS = (*MODIFIERS, *POWERS)


@dataclass(frozen=True)
class Parameter:
    """A parameter set of pyhf: one name, ``size`` components.

    ``from_templates`` names the properties that follow the templates ("width": the constraint's width or
    Poisson factor, "auxdata", "fixed"); their entries here are placeholders. ``is_on``: its constraint term counts.
    """

    name: str
    constraint: Literal["none", "normal", "poisson"]
    scalar: bool
    inits: tuple[float, ...] | None
    bounds: tuple[tuple[float, float], ...] | None
    auxdata: tuple[float, ...] | None = None
    widths: tuple[float, ...] | None = None
    fixed: tuple[bool, ...] = (False,)
    from_templates: frozenset[str] = frozenset()
    is_on: bool = True

    @property
    def size(self) -> int:
        """Number of components."""
        return len(self.fixed)

    @property
    def labels(self) -> tuple[str, ...]:
        """One name per component, as pyhf's ``par_names``."""
        return (self.name,) if self.scalar else tuple(f"{self.name}[{i}]" for i in range(self.size))


def _requirement(kind: str, name: str, size: int) -> Parameter:
    """Return the parameter set that a modifier of this type asks for (pyhf's ``required_parset``)."""
    match kind:
        case "histosys" | "normsys":
            return Parameter(name, "normal", True, (0.0,), ((-5.0, 5.0),), auxdata=(0.0,), widths=(1.0,))
        case "lumi":
            return Parameter(name, "normal", True, None, None)
        case "normfactor":
            return Parameter(name, "none", True, (1.0,), ((0.0, 10.0),))
        case "linear" | "quadratic":
            return Parameter(name, "none", True, (0.0,), ((-1.0, 1.0),))
    ones, free = (1.0,) * size, (False,) * size
    if kind == "shapefactor":
        return Parameter(name, "none", False, ones, ((0.0, 10.0),) * size, fixed=free)
    constraint: Literal["normal", "poisson"] = "poisson" if kind == "shapesys" else "normal"
    follows = frozenset({"width", "fixed"} | ({"auxdata"} if kind == "shapesys" else set()))
    return Parameter(name, constraint, False, ones, ((1e-10, 10.0),) * size, ones, ones, free, follows)


class Modifiers:
    """Which modifier acts where: the structure of a specification, without its numbers.

    ``samples``, ``bins`` (their number by channel) and ``cells`` (each sample of each channel) are sorted by name, as
    pyhf sorts them.
    """

    def __init__(self, templates: Specification):
        self.samples = tuple(sorted({sample for samples in templates.values() for sample in samples}))
        self.bins = {channel: _bins(templates[channel]) for channel in sorted(templates)}
        self.cells = tuple(
            (channel, sample) for channel in self.bins for sample in sorted(templates[channel])
        )
        self._users: dict[str, dict[str, list[tuple[str, str]]]] = {kind: {} for kind in KINDS}
        for channel, sample in self.cells:
            for kind, modifiers in templates[channel][sample].items():
                for name in sorted(modifiers) if kind != "data" else ():
                    self._users[kind].setdefault(name, []).append((channel, sample))

    def names(self, kind: str) -> list[str]:
        """Return names of one type in pyhf's order: by first use, but staterror alphabetically."""
        names = list(self._users[kind])
        return sorted(names) if kind == "staterror" else names

    def users(self, kind: str, name: str) -> Sequence[tuple[str, str]]:
        """Return (channel, sample) of each place where a modifier acts, in pyhf's walking order."""
        return self._users[kind].get(name, ())

    def channels(self, kind: str, name: str) -> tuple[str, ...]:
        """Return channels in which a modifier acts, in the model's order."""
        return tuple(dict.fromkeys(channel for channel, _ in self.users(kind, name)))

    @property
    def components(self) -> frozenset[str]:
        """Samples that a power of a coefficient multiplies: no simulated events of their own."""
        own = (self.users(kind, name) for kind in POWERS for name in self.names(kind))
        return frozenset(sample for users in own for _, sample in users)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The types that there are."""
        return tuple(kind for kind, names in self._users.items() if names)


def _bins(samples: Mapping[str, SampleArrays]) -> int:
    """Return the number of bins of a channel."""
    return int(next(iter(samples.values()))["data"].shape[0])


def _check_sharing(modifiers: Modifiers, kind: str, name: str) -> None:
    """Refuse what pyhf refuses: a shapesys on two samples, a staterror on unequal sets of channels."""
    users: dict[str, list[str]] = {}
    for channel, sample in modifiers.users(kind, name):
        users.setdefault(sample, []).append(channel)
    if kind == "shapesys" and sum(map(len, users.values())) > 1:
        raise ValueError(
            f"shapesys '{name}': used by {users}; allowed is one sample of one channel; rename it"
        )
    if kind == "staterror" and len(set(map(tuple, users.values()))) > 1:
        raise ValueError(
            f"staterror '{name}': acts on {users}; its samples must share the same channels; "
            "use one name per channel"
        )


def _size(modifiers: Modifiers, kind: str, name: str) -> int:
    """Return components of a parameter: one per bin it acts on, for the types that act bin by bin."""
    channels = modifiers.channels(kind, name)
    if kind == "shapefactor":
        sizes = {modifiers.bins[channel] for channel in channels}
        if len(sizes) > 1:
            raise ValueError(
                f"shapefactor '{name}': shared by {channels} with {sorted(sizes)} bins; "
                "share it between channels of equal size or use one name per channel"
            )
        return sizes.pop()
    return sum(modifiers.bins[channel] for channel in channels)


def _configured(parameter: Parameter, config: JsonObject) -> Parameter:
    """Return the parameter with the measurement's own initial values, bounds, auxdata, widths or fixed flag."""
    renamed = {"sigmas": "widths", "factors": "widths"}
    values: dict[str, Any] = {}
    for key, value in config.items():
        field = renamed.get(key, key)
        if key == "name":
            continue
        wrong_width = {
            "sigmas": parameter.constraint != "normal",
            "factors": parameter.constraint != "poisson",
        }
        unit_width = field == "widths" and parameter.widths == (1.0,) and not parameter.from_templates
        if key not in _CONFIGURABLE or wrong_width.get(key, False) or unit_width:
            raise ValueError(
                f"measurement, parameter '{parameter.name}': '{key}' cannot be configured for it; "
                f"remove it (known keys: {', '.join(_CONFIGURABLE)})"
            )
        values[field] = _per_component(parameter, key, value)
    follows = {"widths": "width"}
    own = parameter.from_templates - {follows.get(field, field) for field in values}
    return replace(parameter, from_templates=own, **values)


_CONFIGURABLE = ("inits", "bounds", "auxdata", "sigmas", "factors", "fixed")


def _per_component(parameter: Parameter, key: str, value: Any) -> tuple[Any, ...]:
    """Return a configured value as one entry per component."""
    if key == "fixed" and isinstance(value, bool):
        return (value,) * parameter.size
    if key == "auxdata" and parameter.constraint == "none":
        raise ValueError(
            f"measurement, parameter '{parameter.name}': auxdata on an unconstrained parameter; remove it"
        )
    if len(value) != parameter.size:
        raise ValueError(
            f"measurement, parameter '{parameter.name}': {len(value)} values of '{key}' configured, "
            f"but it has {parameter.size} components; give one per component"
        )
    if key == "bounds":
        return tuple((float(low), float(high)) for low, high in value)
    return tuple(bool(v) if key == "fixed" else float(v) for v in value)


def _complete(parameter: Parameter) -> Parameter:
    """Refuse a luminosity without its values; pyhf has no defaults for them."""
    missing = [key for key in ("inits", "bounds", "auxdata") if getattr(parameter, key) is None]
    if parameter.constraint == "none":
        missing = [key for key in missing if key != "auxdata"]
    if missing:
        raise ValueError(
            f"lumi '{parameter.name}': the measurement gives no {', '.join(missing)}; add "
            '{"name": ..., "inits": [1.0], "bounds": [[0.5, 1.5]], "auxdata": [1.0], "sigmas": [0.02]}'
        )
    return (
        parameter if parameter.widths or parameter.constraint == "none" else replace(parameter, widths=(1.0,))
    )


def _consistent(parameter: Parameter) -> Parameter:
    """Refuse values that contradict each other: no fit could say so, it would only end at a bound."""
    for number, label in enumerate(parameter.labels):
        where = f"measurement, parameter '{label}'"
        fixed = parameter.fixed[number]
        init = (parameter.inits or ())[number]
        low, high = (parameter.bounds or ())[number]
        if not (math.isfinite(low) and math.isfinite(high) and (low < high or (fixed and low == high))):
            raise ValueError(f"{where}: bounds [{low:g}, {high:g}]; give two finite numbers, the lower first")
        if not low <= init <= high:
            raise ValueError(
                f"{where}: inits {init:g} is outside its bounds [{low:g}, {high:g}]; change either of them"
            )
        for key, values, least in (
            ("auxdata", parameter.auxdata, -math.inf),
            (_width_key(parameter), parameter.widths, 0.0),
        ):
            value = 1.0 if values is None else values[number]
            if not (math.isfinite(value) and value > least):
                allowed = "a finite number" if least else "a finite number above 0"
                raise ValueError(f"{where}: {key} {value:g}; allowed is {allowed}; change it")
        if parameter.constraint == "poisson" and parameter.auxdata and parameter.auxdata[number] < 0:
            raise ValueError(
                f"{where}: auxdata {parameter.auxdata[number]:g} of a Poisson constraint; allowed is a number of at "
                "least 0; change it"
            )
    return parameter


def _width_key(parameter: Parameter) -> str:
    return "factors" if parameter.constraint == "poisson" else "sigmas"


def _constrained(parameter: Parameter, width: float | None) -> Parameter:
    """Return the parameter with another width of its Gaussian constraint, or (None) without its constraint term."""
    where = f"constraint_widths: '{parameter.name}'"
    if parameter.constraint == "none":
        raise ValueError(f"{where}: the parameter has no constraint term; remove it from constraint_widths")
    if width is None:
        return replace(parameter, is_on=False)
    if parameter.constraint == "poisson":
        raise ValueError(
            f"{where}: width {width}, but its constraint is Poisson; give None to switch it off, or change the "
            "uncertainties of the shapesys"
        )
    if isinstance(width, bool | str) or not 0 < width < float("inf"):
        raise ValueError(
            f"{where}: width {width}, allowed is a positive number, or None for no constraint term"
        )
    return replace(
        parameter,
        widths=(float(width),) * parameter.size,
        from_templates=parameter.from_templates - {"width"},
    )


def parameters_of(
    modifiers: Modifiers,
    configurations: Sequence[JsonObject],
    constraint_widths: Mapping[str, float | None],
) -> tuple[Parameter, ...]:
    """Return every parameter of the model, in pyhf's order.

    The measurement's configuration and other constraint widths are applied to them.
    """
    required = _required(modifiers)
    configs: dict[str, JsonObject] = {}
    for config in configurations:
        if config["name"] in configs:
            raise ValueError(f"measurement, parameter '{config['name']}': configured twice; keep one")
        configs[config["name"]] = config
    unknown = sorted(set(constraint_widths) - {p.name for p in required})
    if unknown:
        raise ValueError(
            f"constraint_widths: no parameter '{unknown[0]}'; the model has {', '.join(p.name for p in required)}"
        )
    found = [_consistent(_complete(_configured(p, configs.get(p.name, {})))) for p in required]
    return tuple(
        _constrained(p, constraint_widths[p.name]) if p.name in constraint_widths else p for p in found
    )


def _required(modifiers: Modifiers) -> list[Parameter]:
    """Return the parameter sets of all modifiers, each parameter once."""
    found: dict[str, tuple[str, Parameter]] = {}
    for kind in KINDS:
        for name in modifiers.names(kind):
            _check_sharing(modifiers, kind, name)
            required = _requirement(kind, name, _size(modifiers, kind, name))
            first, known = found.setdefault(name, (kind, required))
            if known != required or (first != kind and required.from_templates):
                raise ValueError(
                    f"parameter '{name}': used by {first} and {kind}, which cannot share; rename one"
                )
    if not found:
        raise ValueError("workspace: no sample has a modifier, so nothing can be fitted; add a normfactor")
    return [parameter for _, parameter in found.values()]
