"""A pyhf workspace -> a configuration of cabinetry with the histograms that ``cabinetry.workspace.build`` makes it of.

cabinetry divides each varied template into a yield and a shape, names statistical uncertainties after regions and has
no luminosity: a workspace that it would build otherwise is refused by what is different.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cabinetry
import numpy as np

from pipeline.config import textfiles
from pipeline.config.notation import written
from pipeline.data.atomic import replacing
from pipeline.errors import OutputError
from pipeline.evaluate.workspaces.exchange.content import SYSTEMATICS, CannotSayError, ModelContent
from pipeline.likelihood.workspace import JsonObject, SampleArrays

NAME = "cabinetry"
REFUSED = ("lumi", "shapefactor", "shapesys")
DATA = "Data"
HISTOGRAMS, CONFIGURATION = "histograms", "config.yml"
MODIFIED = "_modified"  # what cabinetry adds to the name of a file, which it then prefers
APART = 1e-6  # relative, of the yields of a shape and of the nominal template, which cabinetry makes one


def write_cabinetry(folder: Path, content: ModelContent) -> None:
    """Write configuration and histograms to a folder, which is made anew.

    Raises:
        CannotSayError: the model has something that cabinetry has not, by its name.
        OutputError: the folder cannot be written.
    """
    configuration = cabinetry_configuration(content, folder / HISTOGRAMS)
    histograms = list(_histograms(content, configuration))
    files = _file_names(histograms)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"cannot write {folder}: it is there and no folder; choose another path")
    with replacing(folder / CONFIGURATION) as temporary:
        shutil.rmtree(folder / HISTOGRAMS, ignore_errors=True)
        (folder / HISTOGRAMS).mkdir(parents=True)
        for name, (*_, yields, errors) in zip(files, histograms, strict=True):
            edges = np.arange(yields.size + 1.0)
            made = cabinetry.histo.Histogram.from_arrays(edges, yields, errors)
            made.save(folder / HISTOGRAMS / name)
        temporary.write_text(written(configuration), encoding=textfiles.ENCODING)


def _file_names(histograms: Sequence[tuple[Any, ...]]) -> list[str]:
    """Return the names of the files, as cabinetry forms them.

    Raises:
        CannotSayError: two would be one, or a name is of another folder.
    """
    found: list[str] = []
    meant: dict[str, str] = {}
    for region, sample, systematic, template, *_ in histograms:
        name = cabinetry.histo.name(region, sample, systematic, template=template)
        what = f"region {region['Name']!r}, sample {sample['Name']!r}"
        what += f", systematic {systematic['Name']!r}, {template}" if template else ""
        if "/" in name or "\0" in name:
            raise CannotSayError(
                what, NAME, f"its histogram would be the file {name!r}; rename it, without '/'"
            )
        for place in dict.fromkeys(Path(own).with_suffix(".npz").name for own in (name, name + MODIFIED)):
            if meant.setdefault(place, what) != what:
                raise CannotSayError(
                    what,
                    NAME,
                    f"its histogram would be the file {place!r}, as that of {meant[place]}; rename it",
                )
        found.append(name)
    return found


def cabinetry_configuration(content: ModelContent, histograms: Path) -> dict[str, Any]:
    """Return the configuration; its histograms are in ``histograms``."""
    _check(content)
    held = [
        name for name, parameter in content.parameters.items() if all(parameter.fixed) and parameter.scalar
    ]
    general = {
        "Measurement": content.measurement["name"],
        **({"POI": content.poi} if content.poi else {}),
        "InputPath": "no ntuples: the histograms are there",
        "HistogramFolder": str(histograms),
        **(
            {"Fixed": [{"Name": n, "Value": (content.parameters[n].inits or ())[0]} for n in held]}
            if held
            else {}
        ),
    }
    carried = {
        sample: any(
            entry.get("staterror")
            for samples in content.templates.values()
            for entry in [samples.get(sample, {})]
        )
        for sample in content.modifiers.samples
    }
    samples = [
        {
            "Name": sample,
            "Regions": [channel for channel in content.templates if sample in content.templates[channel]],
            **({} if carried[sample] else {"DisableStaterror": True}),
        }
        for sample in content.modifiers.samples
    ]
    return {
        "General": general,
        "Regions": [{"Name": channel} for channel in content.templates],
        "Samples": [{"Name": DATA, "Data": True}, *samples],
        "NormFactors": list(_normfactors(content)),
        "Systematics": list(_systematics(content)),
    }


def _normfactors(content: ModelContent) -> Iterator[JsonObject]:
    for name in content.modifiers.names("normfactor"):
        parameter, places = content.parameters[name], content.modifiers.users("normfactor", name)
        (value,), (bounds,) = parameter.inits or (), parameter.bounds or ()
        regions, samples = _product(places, name)
        yield {"Name": name, "Regions": regions, "Samples": samples, "Nominal": value, "Bounds": list(bounds)}


def _product(places: Any, name: str) -> tuple[list[str], list[str]]:
    """Return the regions and the samples of a normfactor, which cabinetry combines with each other."""
    regions, samples = (list(dict.fromkeys(column)) for column in zip(*places, strict=True))
    if len(places) != len(regions) * len(samples):
        raise CannotSayError(
            f"normfactor {name!r}", NAME, f"it acts on {list(places)}, not on all samples of all regions"
        )
    return regions, samples


def _systematics(content: ModelContent) -> Iterator[dict[str, Any]]:
    """Yield an entry for each effect: those of one parameter share the name of their modifier."""
    for name in sorted({own for kind in SYSTEMATICS for own in content.modifiers.names(kind)}):
        effects: dict[tuple[Any, ...], dict[str, list[str]]] = {}
        for channel, sample in content.modifiers.cells:
            entry = content.templates[channel][sample]
            key = _effect(entry, name, f"of channel {channel!r}, sample {sample!r}")
            if key is not None:
                places = effects.setdefault((*key, sample), {"Regions": [], "Samples": [sample]})
                places["Regions"].append(channel)
        for number, ((kind, up, down, _), places) in enumerate(effects.items()):
            own = {
                "Name": name if number == 0 else f"{name} {number + 1}",
                "ModifierName": name,
                "Type": kind,
            }
            values = {"Up": {}, "Down": {}} if kind == "NormPlusShape" else _normalization(up, down)
            yield {**own, **values, **places}


def _normalization(up: float, down: float) -> dict[str, dict[str, float]]:
    return {"Up": {"Normalization": up - 1.0}, "Down": {"Normalization": down - 1.0}}


def _effect(entry: SampleArrays, name: str, where: str) -> tuple[str, float, float] | None:
    """Return type and factors of a systematic on a sample, None where there is no effect."""
    if name in entry.get("histosys", {}):
        total = float(np.sum(entry["data"]))
        for side, values in entry["histosys"][name].items():
            if not abs(float(np.sum(values)) - total) <= APART * abs(total):
                raise CannotSayError(
                    f"histosys {name!r} {where}",
                    NAME,
                    f"{side} has another yield; put that into a normsys of its name",
                )
        return "NormPlusShape", 1.0, 1.0
    if name in entry.get("normsys", {}):
        factors = entry["normsys"][name]
        return "Normalization", float(factors["hi"]), float(factors["lo"])
    return None


def _check(content: ModelContent) -> None:
    for kind in REFUSED:
        for name in content.modifiers.names(kind):
            raise CannotSayError(f"{kind} {name!r}", NAME, "it has no such modifier")
    if DATA in content.modifiers.samples:
        raise CannotSayError(f"sample {DATA!r}", NAME, "the observed events have that name; rename it")
    for name, parameter in content.parameters.items():
        content.require_plain(name, NAME)
        if not all(parameter.fixed):
            content.require_start(name, NAME)
        nominal = (
            parameter.constraint == "none" or all(parameter.fixed) or set(parameter.inits or ()) <= {0.0, 1.0}
        )
        if not nominal or (any(parameter.fixed) and not parameter.scalar):
            raise CannotSayError(
                f"parameter {name!r}", NAME, "the measurement gives it a start value, or holds its bins"
            )
    for channel, samples in content.templates.items():
        expected = "staterror_" + channel.replace(" ", "-")
        for sample, entry in samples.items():
            names = list(entry.get("staterror", {}))
            elsewhere = any(own.get(sample, {}).get("staterror") for own in content.templates.values())
            if names != [expected] * bool(elsewhere):
                raise CannotSayError(
                    f"sample {sample!r} of channel {channel!r}",
                    NAME,
                    f"its staterror are {names}, not [{expected!r}]",
                )


def _histograms(content: ModelContent, configuration: JsonObject) -> Iterator[tuple[Any, ...]]:
    """Yield region, sample, systematic, template, yields and errors of every histogram."""
    for channel, data in content.observations.items():
        yields = np.asarray(data, dtype=np.float64)
        yield {"Name": channel}, {"Name": DATA}, {}, None, yields, np.sqrt(yields)
    for channel, sample in content.modifiers.cells:
        entry, none = content.templates[channel][sample], np.zeros(content.modifiers.bins[channel])
        errors = next(iter(entry.get("staterror", {}).values()), none)
        yield {"Name": channel}, {"Name": sample}, {}, None, entry["data"], errors
        for systematic in configuration["Systematics"]:
            name = systematic["ModifierName"]
            used = channel in systematic["Regions"] and sample in systematic["Samples"]
            if systematic["Type"] != "NormPlusShape" or not used or name not in entry.get("histosys", {}):
                continue
            factors = entry.get("normsys", {}).get(name, {"hi": 1.0, "lo": 1.0})
            for template, side in (("Up", "hi"), ("Down", "lo")):
                varied = entry["histosys"][name][f"{side}_data"] * float(factors[side])
                yield {"Name": channel}, {"Name": sample}, systematic, template, varied, none
