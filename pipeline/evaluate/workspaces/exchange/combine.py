"""A pyhf workspace -> a datacard of CMS's Combine with a ROOT file of its histograms.

normsys becomes lnN with an asymmetric kappa; histosys, with the normsys of its name, a shape; the luminosity lnN; a
normfactor rateParam, that of the POI Combine's own ``r`` of signal processes; staterror autoMCStats. Combine
interpolates another way, so the two likelihoods are equal where each nuisance parameter is at 0 or at plus or minus its
standard deviation, not between and not where several act on one sample (docs/convert.md).
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import hist
import numpy as np
import uproot

from pipeline.data.atomic import replacing
from pipeline.data.jsonfiles import write_text
from pipeline.errors import InputError
from pipeline.evaluate.workspaces.exchange.combine_histograms import OBSERVED, BinNumbers, CardHistogram
from pipeline.evaluate.workspaces.exchange.combine_limits import NAME, require_sayable
from pipeline.evaluate.workspaces.exchange.content import CannotSayError, ModelContent
from pipeline.likelihood.workspace import SampleArrays

POI_COMMENT, NAME_COMMENT = "# parameter of interest:", "# name:"
RESERVED = (
    "r",
    "bin",
    "process",
    "rate",
    "observation",
    "shapes",
    "imax",
    "jmax",
    "kmax",
)  # not for parameters
RULE = "-" * 80
UNITY = 1e-12  # a ratio of yields this near to 1 is rounding


class Card(NamedTuple):
    """The text of a datacard, and its histograms by their path in the ROOT file."""

    text: str
    histograms: dict[str, CardHistogram]


def spelt(name: str, *, of_parameter: bool = False) -> str:
    """Return a name without what Combine and RooFit split or refuse."""
    found = re.sub(r"[^A-Za-z0-9_.-]" if not of_parameter else r"[^A-Za-z0-9_]", "_", name)
    return f"_{found}" if of_parameter and found[0].isdigit() else found


def write_card(path: Path, content: ModelContent) -> None:
    """Write a datacard, and the file of its histograms beside it, ``.root`` in place of the ending.

    Raises:
        CannotSayError: the model has something that Combine has not, by its name.
        OutputError: one of the two cannot be written; then neither is.
    """
    shapes = path.with_suffix(".root")
    if shapes == path:
        raise InputError(f"{path} is the place of the histograms; give the datacard another ending, as .txt")
    card = card_of(content, shapes.name)
    with replacing(shapes) as temporary:
        with uproot.recreate(temporary) as file:
            for place, own in card.histograms.items():
                made = hist.Hist(
                    hist.axis.Regular(own.contents.size, 0, own.contents.size), storage=hist.storage.Weight()
                )
                made.values()[:], made.variances()[:] = own.contents, own.errors**2
                file[place] = made
        write_text(path, card.text)  # before the histograms take their place


def card_of(content: ModelContent, shapes: str) -> Card:
    """Return the datacard whose histograms are in the file ``shapes``."""
    require_sayable(content)
    columns = [
        (channel, sample) for channel in content.modifiers.bins for sample in content.templates[channel]
    ]
    signal = _signal(content)
    order = sorted({sample for _, sample in columns}, key=lambda sample: (sample not in signal, sample))
    number = {sample: place - len(signal) + 1 for place, sample in enumerate(order)}
    histograms = _histograms(content, columns)
    observed = content.observations
    rates = [float(np.sum(content.templates[channel][sample]["data"])) for channel, sample in columns]
    systematics = _systematics(content, columns)
    lines = [
        *_comments(content),
        f"imax {len(content.modifiers.bins)} number of channels",
        f"jmax {len(order) - 1} number of processes minus 1",
        "kmax * number of nuisance parameters",
        RULE,
        f"shapes * * {shapes} $CHANNEL/$PROCESS $CHANNEL/$PROCESS_$SYSTEMATIC",
        RULE,
        _line("bin", map(spelt, content.modifiers.bins)),
        _line("observation", (repr(float(np.sum(observed[channel]))) for channel in content.modifiers.bins)),
        RULE,
        _line("bin", (spelt(channel) for channel, _ in columns)),
        _line("process", (spelt(sample) for _, sample in columns)),
        _line("process", (str(number[sample]) for _, sample in columns)),
        _line("rate", map(repr, rates)),
        RULE,
        *(
            _line(f"{spelt(n, of_parameter=True)} {kind}", effects)
            for n, (kind, effects) in systematics.items()
        ),
        *_rates(content),
        *_statistics(content),
    ]
    return Card("\n".join(lines) + "\n", histograms)


def _line(first: str, entries: Iterable[str]) -> str:
    return " ".join([first, *entries])


def _comments(content: ModelContent) -> list[str]:
    """Return what a datacard has no place for: the POI's own name and range, names that were changed."""
    lines = []
    if content.poi:
        parameter = content.parameters[content.poi]
        (value,), ((low, high),) = parameter.inits or (), parameter.bounds or ()
        lines.append(
            f"{POI_COMMENT} {content.poi!r} = {value!r} [{low!r}, {high!r}]: --setParameters r={value:g} "
            f"--setParameterRanges r={low:g},{high:g}"
        )
    return lines + [f"{NAME_COMMENT} {new} = {old!r}" for old, new in _changed(content).items()]


def _changed(content: ModelContent) -> dict[str, str]:
    """Return how names are spelt that Combine would not take.

    Raises:
        CannotSayError: two would be spelt alike.
    """
    parameters = [
        name
        for kind in ("histosys", "lumi", "normfactor", "normsys")
        for name in content.modifiers.names(kind)
    ]
    families = {
        "parameter": {name: spelt(name, of_parameter=True) for name in parameters if name != content.poi},
        "channel": {name: spelt(name) for name in content.modifiers.bins},
        "sample": {name: spelt(name) for name in content.modifiers.samples},
    }
    changed: dict[str, str] = {}
    meant: dict[str, str] = {}
    for what, names in families.items():
        spellings = list(names.values())
        for old, new in names.items():
            if what == "parameter" and new in RESERVED:
                raise CannotSayError(f"parameter {old!r}", NAME, f"{new!r} is a word of its own; rename it")
            if spellings.count(new) > 1:
                raise CannotSayError(f"{what} {old!r}", NAME, f"it would be spelt {new!r}, as another one is")
            if meant.setdefault(new, old) != old:
                raise CannotSayError(
                    f"{what} {old!r}", NAME, f"it would be spelt {new!r}, as {meant[new]!r} is"
                )
            if old != new:
                changed[old] = new
    return changed


def _signal(content: ModelContent) -> set[str]:
    """Return the samples that the POI scales, wherever they are."""
    scaled = set(content.modifiers.users("normfactor", content.poi)) if content.poi else set()
    signal = {sample for _, sample in scaled}
    if content.poi and not scaled:
        raise CannotSayError(f"POI {content.poi!r}", NAME, "it is no normfactor")
    for channel, sample in content.modifiers.cells:
        if sample in signal and (channel, sample) not in scaled:
            raise CannotSayError(
                f"sample {sample!r}",
                NAME,
                f"the POI {content.poi!r} scales it, but not in channel {channel!r}",
            )
    return signal


def _histograms(content: ModelContent, columns: list[tuple[str, str]]) -> dict[str, CardHistogram]:
    found: dict[str, CardHistogram] = {}
    for channel, data in content.observations.items():
        contents = np.asarray(data, dtype=np.float64)
        found[f"{spelt(channel)}/{OBSERVED}"] = CardHistogram(contents, np.sqrt(contents))
    meant = dict.fromkeys(found, "the observed events")
    for channel, sample in columns:
        entry, place = content.templates[channel][sample], f"{spelt(channel)}/{spelt(sample)}"
        what, none = f"sample {sample!r} of channel {channel!r}", np.zeros(content.modifiers.bins[channel])
        _claim(meant, place, what)
        found[place] = CardHistogram(entry["data"], next(iter(entry.get("staterror", {}).values()), none))
        for name, ends in _shapes(entry, channel, sample).items():
            for side, contents in ends.items():
                varied = f"{place}_{spelt(name, of_parameter=True)}{side}"
                _claim(meant, varied, f"histosys {name!r} of {what}")
                found[varied] = CardHistogram(contents, none)
    return found


def _claim(meant: dict[str, str], place: str, what: str) -> None:
    """Note what the histogram of a path is of; refuse a second one."""
    if meant.setdefault(place, what) != what:
        raise CannotSayError(
            what, NAME, f"its histogram would be called {place!r}, as that of {meant[place]}; rename it"
        )


def _shapes(entry: SampleArrays, channel: str, sample: str) -> dict[str, dict[str, BinNumbers]]:
    """Return varied templates: histosys, each times the normsys of its name."""
    found = {}
    total = float(np.sum(entry["data"]))
    for name, ends in entry.get("histosys", {}).items():
        if not total > 0:
            if all(np.array_equal(varied, entry["data"]) for varied in ends.values()):
                continue  # it changes nothing
            raise CannotSayError(
                f"histosys {name!r} of channel {channel!r}, sample {sample!r}",
                NAME,
                f"the sample has the yield {total:g}, and a shape is relative to one above 0",
            )
        factors = entry.get("normsys", {}).get(name, {"hi": 1.0, "lo": 1.0})
        found[name] = {
            "Up": ends["hi_data"] * float(factors["hi"]),
            "Down": ends["lo_data"] * float(factors["lo"]),
        }
        if not min(float(np.sum(varied)) for varied in found[name].values()) > 0:
            raise CannotSayError(
                f"histosys {name!r} of channel {channel!r}, sample {sample!r}",
                NAME,
                "a varied template has no yield",
            )
    return found


def _systematics(content: ModelContent, columns: list[tuple[str, str]]) -> dict[str, tuple[str, list[str]]]:
    """Return type and effects, one for each column, of each nuisance parameter; kappa is down/up."""
    shapes, norms = (set(content.modifiers.names(kind)) for kind in ("histosys", "normsys"))
    found: dict[str, tuple[str, list[str]]] = {}
    for name in sorted(shapes | norms | set(content.modifiers.names("lumi"))):
        effects = []
        for channel, sample in columns:
            entry = content.templates[channel][sample]
            if name in _shapes(entry, channel, sample):
                effects.append("1")
            elif name in entry.get("normsys", {}):
                ends = entry["normsys"][name]
                effects.append(f"{float(ends['lo'])!r}/{float(ends['hi'])!r}")
            elif name in entry.get("lumi", {}):
                effects.append(_luminosity(content, name))
            else:
                effects.append("-")
        mixed = "1" in effects and any("/" in effect for effect in effects)
        found[name] = ("shape?" if mixed else "shape" if "1" in effects else "lnN"), effects
    return found


def _luminosity(content: ModelContent, name: str) -> str:
    parameter = content.parameters[name]
    centre, width = (parameter.auxdata or ())[0], (parameter.widths or ())[0]
    if centre != 1.0 or not width < 1.0:
        raise CannotSayError(f"lumi {name!r}", NAME, f"it is {centre:g} +- {width:g}, and a kappa is of 1")
    return f"{1.0 - width!r}/{1.0 + width!r}"


def _rates(content: ModelContent) -> list[str]:
    lines = []
    for name in content.modifiers.names("normfactor"):
        if name == content.poi:
            continue
        parameter = content.parameters[name]
        (value,), ((low, high),) = parameter.inits or (), parameter.bounds or ()
        for channel, sample in content.modifiers.users("normfactor", name):
            places = f"{spelt(channel)} {spelt(sample)}"
            lines.append(f"{spelt(name, of_parameter=True)} rateParam {places} {value!r} [{low!r},{high!r}]")
    return lines


def _statistics(content: ModelContent) -> list[str]:
    """Return the channels with uncertainties of the simulation: Gaussian at any number of events, signal included."""
    used: Mapping[str, None] = {
        channel: None
        for name in content.modifiers.names("staterror")
        for channel in content.modifiers.channels("staterror", name)
    }
    return [f"{spelt(channel)} autoMCStats 0 1 1" for channel in content.modifiers.bins if channel in used]
