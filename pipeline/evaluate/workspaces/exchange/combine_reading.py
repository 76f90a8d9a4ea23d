"""A datacard of CMS's Combine with its histograms -> a pyhf workspace.

Read are lnN, shape and rateParam, autoMCStats where Combine gives each bin one Gaussian parameter, and cards without
histograms; anything else is refused by its line. A shape becomes a normsys with the ratio of the yields and a histosys
with what is left, as Combine itself divides it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import InputError
from pipeline.evaluate.workspaces.exchange.combine import UNITY
from pipeline.evaluate.workspaces.exchange.combine_histograms import (
    BinNumbers,
    CardHistogram,
    CardHistograms,
    fits,
)
from pipeline.evaluate.workspaces.exchange.combine_lines import KAPPAS, SHAPES, CardLines, parsed
from pipeline.likelihood.workspace import JsonObject, Workspace


def read_card(path: Path, measurement: str = "combine") -> Workspace:
    """Return the workspace of a datacard.

    Raises:
        InputError: it is none, a histogram is missing, or it says what pyhf cannot; the message names the line.
    """
    lines = parsed(path)
    histograms = CardHistograms(path, lines.shapes, lines.channels)
    channels = [_channel(lines, histograms, channel) for channel in lines.channels]
    observations = [
        {"name": lines.names.get(channel, channel), "data": histograms.observed(channel).tolist()}
        for channel in lines.channels
    ]
    config = {"poi": lines.poi[0] if min(lines.numbers) <= 0 else "", "parameters": _parameters(lines)}
    return {
        "version": "1.0.0",
        "channels": channels,
        "observations": observations,
        "measurements": [{"name": measurement, "config": config}],
    }


def _channel(lines: CardLines, histograms: CardHistograms, channel: str) -> JsonObject:
    own = [place for place, (where, _) in enumerate(lines.columns) if where == channel]
    nominal = {
        place: histograms.nominal(channel, lines.columns[place][1], lines.rates[place]) for place in own
    }
    sizes = {lines.columns[place][1]: found.contents.size for place, found in nominal.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(
            f"datacard: the histograms of bin {channel!r} have different numbers of bins: {sizes}"
        )
    numbers = [lines.numbers[place] for place in own]
    statistics = _has_statistics(lines, channel, list(nominal.values()), numbers)
    samples = []
    for place in own:
        process, found = lines.columns[place][1], nominal[place]
        modifiers = list(_modifiers(lines, histograms, place, found.contents))
        if statistics:
            errors = {"name": f"staterror_{lines.names.get(channel, channel)}", "type": "staterror"}
            modifiers.append({**errors, "data": found.errors.tolist()})
        samples.append(
            {
                "name": lines.names.get(process, process),
                "data": found.contents.tolist(),
                "modifiers": modifiers,
            }
        )
    return {"name": lines.names.get(channel, channel), "samples": samples}


def _modifiers(
    lines: CardLines, histograms: CardHistograms, place: int, nominal: BinNumbers
) -> Iterator[dict[str, Any]]:
    channel, process = lines.columns[place]
    if lines.numbers[place] <= 0:
        yield {"name": lines.poi[0], "type": "normfactor", "data": None}
    for rate in lines.rate_params:
        if fits(rate.channel, channel) and fits(rate.process, process):
            yield {"name": lines.names.get(rate.name, rate.name), "type": "normfactor", "data": None}
    for name, kind, effects in lines.systematics:
        effect = effects[place]
        if not effect:
            continue
        ends = histograms.varied(channel, process, name) if kind in SHAPES else None
        if ends is None and kind not in KAPPAS:
            raise InputError(
                f"datacard: shape {name!r}: {channel}/{process} has no templates Up and Down of it"
            )
        if ends is None:
            yield _normsys(lines.names.get(name, name), *_kappas(effect))
        elif effect != (1.0,):
            raise InputError(
                f"datacard: shape {name!r} has the effect {'/'.join(map(repr, effect))} on {channel}/{process}; "
                "read is 1, or - for none"
            )
        else:
            yield from _shape(lines.names.get(name, name), f"{channel}/{process}", nominal, ends)


def _kappas(numbers: tuple[float, ...]) -> tuple[float, float]:
    """Return the factors up and down; a single number is the one up, its inverse the one down."""
    return (numbers[1], numbers[0]) if len(numbers) == 2 else (numbers[0], 1.0 / numbers[0])


def _normsys(name: str, up: float, down: float) -> dict[str, Any]:
    return {"name": name, "type": "normsys", "data": {"hi": up, "lo": down}}


def _shape(
    name: str, where: str, nominal: BinNumbers, ends: tuple[BinNumbers, BinNumbers]
) -> Iterator[dict[str, Any]]:
    if any(end.shape != nominal.shape for end in ends):
        raise InputError(
            f"datacard: shape {name!r}: its templates of {where} have other bins than the nominal one"
        )
    if not min(float(np.sum(own)) for own in (nominal, *ends)) > 0:
        raise InputError(
            f"datacard: shape {name!r}: a template of {where} has no yield, and a shape is relative to one above 0; "
            "write - for none"
        )
    ratios = [float(np.sum(end) / np.sum(nominal)) for end in ends]
    if any(abs(ratio - 1.0) > UNITY for ratio in ratios):
        yield _normsys(name, *ratios)
    up, down = ((end / ratio).tolist() for end, ratio in zip(ends, ratios, strict=True))
    yield {"name": name, "type": "histosys", "data": {"hi_data": up, "lo_data": down}}


def _has_statistics(
    lines: CardLines, channel: str, nominal: Sequence[CardHistogram], numbers: Sequence[int]
) -> bool:
    """Return whether bins of a channel have a statistical parameter; refuse those with several.

    Signal, of a number up to 0, counts as effective events only where the line says so, as in Combine.
    """
    own = [entry for entry in lines.statistics if fits(entry.channel, channel)]
    if not own or own[-1].threshold < 0:  # the last that fits counts
        return False
    threshold = own[-1].threshold
    counted = [
        found for found, number in zip(nominal, numbers, strict=True) if number > 0 or own[-1].with_signal
    ]
    total = np.sum([found.contents for found in counted], axis=0)
    variance = np.sum([found.errors**2 for found in counted], axis=0)
    few = np.flatnonzero((variance > 0) & ((total <= 0) | (total**2 <= threshold * variance)))
    if few.size:
        raise InputError(
            f"datacard: autoMCStats {threshold:g} of channel {channel!r}: bin {few[0]} has fewer effective events, for "
            "which Combine makes a Poisson parameter of each process; read is one Gaussian parameter of a bin: 0"
        )
    return True


def _parameters(lines: CardLines) -> list[JsonObject]:
    name, value, bounds = lines.poi
    found: dict[str, JsonObject] = {}
    if min(lines.numbers) <= 0:
        found[name] = {"name": name, "inits": [value], "bounds": [list(bounds)]}
    for rate in lines.rate_params:
        entry: dict[str, Any] = {"name": lines.names.get(rate.name, rate.name), "inits": [rate.start]}
        if rate.bounds is not None:
            entry["bounds"] = [list(rate.bounds)]
        if found.setdefault(entry["name"], entry) != entry:
            raise InputError(
                f"datacard: rateParam {rate.name!r} has two start values or bounds; give it the same"
            )
    return _known(found)


def _known(found: Mapping[str, JsonObject]) -> list[JsonObject]:
    """Return settings that are not pyhf's own."""
    plain = {"inits": [1.0], "bounds": [[0.0, 10.0]]}
    left = [
        {"name": name, **{key: entry[key] for key in plain if key in entry and entry[key] != plain[key]}}
        for name, entry in found.items()
    ]
    return [entry for entry in left if len(entry) > 1]
