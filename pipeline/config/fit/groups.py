"""Groups of uncertainties: which parameters of the fit a breakdown adds up, and under which name."""

from collections.abc import Iterable, Iterator, Mapping

from pipeline.config.fit.model import DATA_STATISTICS, LUMINOSITY, MC_STATISTICS, Model
from pipeline.errors import nearest

Groups = Mapping[str, tuple[str, ...]]
"""The parameters of each group; a parameter with a component for each bin by the name that these have in common."""


def groups_of(model: Model, channels: Iterable[str], samples: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the groups of a model, one of its own for a parameter without; none of a POI.

    Args:
        channels: those of the fit; their simulated events are a group, where samples of the run have some in it.

    Raises:
        ValueError: a further POI is none, a POI is in a group, or a group has a name that means something else.
    """
    _require_pois(model)
    channels, samples, given = tuple(channels), tuple(samples), _given(model)
    members: dict[str, list[str]] = {}
    for parameter, group in given.items():
        _require_allowed(parameter, group, given)
        members.setdefault(group or parameter, []).append(parameter)
    for name, own in _of_bins(model, channels):
        members.setdefault(name, []).extend(own)
    found: dict[str, tuple[str, ...]] = {DATA_STATISTICS: ()}
    simulated = tuple(c for c in channels if any(model.is_simulated(sample, c) for sample in samples))
    if simulated:
        found[MC_STATISTICS] = tuple(f"staterror_{channel}" for channel in simulated)
    return found | {name: tuple(own) for name, own in members.items()}


def members_of(group: str, groups: Groups, free: Iterable[str], what: str) -> tuple[str, ...]:
    """Return the parameters of a group whose part of an uncertainty is asked for; none for that of the data.

    Args:
        free: parameters without an auxiliary measurement.
        what: names who asks, in a message.

    Raises:
        ValueError: there is no such group, or none of its parameters has an auxiliary measurement.
    """
    if group not in groups:
        raise ValueError(
            f"{what}: no systematic has the group {group!r}; groups are {', '.join(map(repr, groups))}; "
            f"{nearest(group, groups)}"
        )
    members = groups[group]
    if members and set(members) <= set(free):
        raise ValueError(
            f"{what}: group {group!r} has free parameters alone, {', '.join(map(repr, members))}, which no auxiliary "
            f"measurement constrains: what they cost is in {DATA_STATISTICS!r}; name another group"
        )
    return members


def measured_of_bins(model: Model, groups: Groups) -> set[str]:
    """Return the parameters with a constraint term for each bin: of `shape_uncertainties` and of simulated events."""
    own = {name for word in model.shape_uncertainties for name in groups[word.name]}
    return own | set(groups.get(MC_STATISTICS, ()))


def _require_pois(model: Model) -> None:
    allowed = [entry.name for entry in model.may_be_poi if entry.name != model.poi]
    for name in model.further_pois:
        if name not in allowed:
            raise ValueError(
                f"model.further_pois: {name!r} is not one of the normfactors, or of theory, but the POI, {allowed}; "
                "name one of these"
            )
    if len(set(model.further_pois)) < len(model.further_pois):
        raise ValueError(f"model.further_pois: {list(model.further_pois)} name one twice; name each once")


def _given(model: Model) -> dict[str, str | None]:
    """Return the group that the configuration gives each parameter but those of interest."""
    for entry in model.may_be_poi:
        if entry.name in model.pois and entry.group is not None:
            raise ValueError(
                f"model: the parameter of interest {entry.name!r} has the group {entry.group!r}; its "
                "uncertainty is what the groups are parts of; remove group"
            )
    others = [entry for entry in model.free_parameters if entry.name not in model.pois]
    found = {entry.name: entry.group for entry in (*others, *model.every_systematic)}
    if model.luminosity_uncertainty is not None:
        return found | {LUMINOSITY: model.luminosity_group}
    if model.luminosity_group is not None:
        raise ValueError(
            f"model.luminosity_group: {model.luminosity_group!r}, but there is no luminosity_uncertainty; remove either"
        )
    return found


def _of_bins(model: Model, channels: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Yield groups of parameters that have a component for each bin: of its own name, or of the estimate it is of."""
    for factor in model.shapefactors:
        yield factor.name, [factor.name]
    for estimate in model.abcd:
        yield estimate.name, [factor.name for factor in estimate.shapefactors]
    for own in model.shape_uncertainties:
        yield own.name, [own.parameter(channel) for channel in channels if own.acts_on(own.sample, channel)]


def _require_allowed(parameter: str, group: str | None, given: Mapping[str, str | None]) -> None:
    if group in (DATA_STATISTICS, MC_STATISTICS):
        raise ValueError(
            f"model: the group {group!r} of {parameter!r} is the name of what the events of the data, or simulated "
            "ones, contribute; choose another"
        )
    if group is not None and group in given and group != given[group]:
        raise ValueError(
            f"model: the group {group!r} of {parameter!r} has the name of a parameter that is not in it; give that "
            "parameter the same group, or choose another name"
        )
