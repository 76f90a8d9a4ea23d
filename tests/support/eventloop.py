"""The challenge's exact selection as a plain loop over the events of the ROOT files: slow, obvious."""

import itertools
import math

import numpy as np
import uproot
from columnfiles import source_files


def is_tight(muon):
    """Whether a muon passes the challenge's identification and isolation."""
    return muon["tightId"] and muon["pfRelIso04_all"] < 0.15


def objects(event, kind, names):
    """The objects of an event as dictionaries."""
    columns = zip(*(event[f"{kind}_{name}"] for name in names), strict=True)
    return [dict(zip(names, values, strict=True)) for values in columns]


def leptons(event, cut, identified):
    """Transverse momenta of the selected electrons and muons; `identified` decides on a muon."""
    electrons = objects(event, "Electron", ("pt", "eta", "sip3d", "cutBased"))
    muons = objects(event, "Muon", ("pt", "eta", "sip3d", "tightId", "mediumId", "pfRelIso04_all"))
    found = [e for e in electrons if e["cutBased"] == 4] + [m for m in muons if identified(m)]
    return [one["pt"] for one in found if one["pt"] > cut and abs(one["eta"]) < 2.1 and one["sip3d"] < 4]


def four_vector(pt, eta, phi, mass):
    """Cartesian momentum and energy."""
    x, y, z = pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta)
    return np.array([x, y, z, math.sqrt(x * x + y * y + z * z + mass * mass)])


def triplet_mass(jets, tagged):
    """Mass of the three jets with the largest pt of their sum, at least one of them b-tagged."""
    best, mass = -1.0, 0.0
    for three in itertools.combinations(range(len(jets)), 3):
        total = sum(four_vector(*jets[i][:4]) for i in three)
        if any(tagged[i] for i in three) and math.hypot(total[0], total[1]) > best:
            best = math.hypot(total[0], total[1])
            mass = math.sqrt(max(total[3] ** 2 - total[0] ** 2 - total[1] ** 2 - total[2] ** 2, 0.0))
    return mass


def observe(event, p, scale, identified):
    """(channel, value) of an event, or None."""
    if len(leptons(event, p["lepton_pt"], identified)) != 1:
        return None
    names = ("pt", "eta", "phi", "mass", "btagCSVV2", "jetId")
    jets = [
        (np.float64(np.float32(pt)) * scale, eta, phi, mass, b)
        for pt, eta, phi, mass, b, jet_id in zip(*(event[f"Jet_{n}"] for n in names), strict=True)
        if pt * scale > p["jet_pt"] and abs(eta) < 2.4 and jet_id == 6
    ]
    tagged = [jet[4] > p["btag"] for jet in jets]
    if len(jets) < 4 or sum(tagged) == 0:
        return None
    return ("4j1b", sum(jet[0] for jet in jets)) if sum(tagged) == 1 else ("4j2b", triplet_mass(jets, tagged))


def loop(config, p, scale=1.0, identified=is_tight):
    """Yields per channel and sample by a loop over events; each sample normalised to all its events."""
    yields = {
        c: {s: np.zeros(len(ch.edges) - 1) for s in config.data.samples} for c, ch in config.channels.items()
    }
    for sample, settings in config.data.samples.items():
        files = [f.path for f in source_files(config) if f.sample == sample]
        events = [event for path in files for event in uproot.open(path)["Events"].arrays().to_list()]
        weight = settings.cross_section_pb * config.data.luminosity_per_pb / len(events)
        for event in events:
            seen = observe(event, p, scale, identified)
            if seen:
                channel, value = seen
                yields[channel][sample] += weight * np.histogram([value], config.channels[channel].edges)[0]
    return yields
