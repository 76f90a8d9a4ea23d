"""Workspaces shared by the statistics tests: by hand, at random, and the AGC's from its reference file."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import strategies as st

AGC = Path(__file__).resolve().parents[3] / "shared" / "data" / "agc"


def workspace_of(channels, observations, *, poi="mu", parameters=()):
    return {
        "channels": channels,
        "observations": [{"name": name, "data": data} for name, data in observations.items()],
        "measurements": [{"name": "fit", "config": {"poi": poi, "parameters": list(parameters)}}],
        "version": "1.0.0",
    }


def modifier(name, kind, data=None):
    return {"name": name, "type": kind, "data": data}


def counting(signal=10.0, background=50.0, relative=0.1, observed=65.0):
    """One bin, one signal, one background with a normalisation uncertainty."""
    samples = [
        {"name": "s", "data": [signal], "modifiers": [modifier("mu", "normfactor")]},
        {
            "name": "b",
            "data": [background],
            "modifiers": [modifier("norm", "normsys", {"hi": 1 + relative, "lo": 1 - relative})],
        },
    ]
    return workspace_of([{"name": "bin", "samples": samples}], {"bin": [observed]})


def _some(low, high, size):
    return st.lists(st.floats(low, high), min_size=size, max_size=size)


@st.composite
def _sample(draw, name, channel, size, kinds):
    nominal = draw(_some(5.0, 100.0, size))
    if draw(st.booleans()):
        nominal[0] = 0.0
    modifiers = [modifier("mu", "normfactor")] if name == "s0" else []
    if "histosys" in kinds:
        shifts = draw(_some(-0.2, 0.2, 2 * size))
        high = [n * (1 + d) for n, d in zip(nominal, shifts[:size], strict=True)]
        low = [n * (1 + d) for n, d in zip(nominal, shifts[size:], strict=True)]
        modifiers.append(modifier(draw(st.sampled_from("de")), "histosys", {"hi_data": high, "lo_data": low}))
    if "normsys" in kinds:
        high, low = draw(st.floats(0.7, 1.5)), draw(st.floats(0.7, 1.5))
        modifiers.append(modifier(draw(st.sampled_from("cd")), "normsys", {"hi": high, "lo": low}))
    if "lumi" in kinds:
        modifiers.append(modifier("lumi", "lumi"))
    if "staterror" in kinds:
        errors = [n * r for n, r in zip(nominal, draw(_some(0.01, 0.2, size)), strict=True)]
        modifiers.append(modifier(f"stat_{channel}", "staterror", errors))
    if "shapesys" in kinds:
        # no subnormal uncertainties: pyhf squares them to zero and then divides by it
        relative = draw(st.lists(st.just(0.0) | st.floats(0.01, 0.2), min_size=size, max_size=size))
        errors = [n * r for n, r in zip(nominal, relative, strict=True)]
        modifiers.append(modifier(f"shape_{channel}_{name}", "shapesys", errors))
    if "shapefactor" in kinds:
        modifiers.append(modifier(f"free_{channel}", "shapefactor"))
    return {"name": name, "data": nominal, "modifiers": modifiers}


KINDS = ("histosys", "normsys", "lumi", "staterror", "shapesys", "shapefactor")


@st.composite
def workspaces(draw, kinds=KINDS, channels=4, samples=5, bins=20):
    """Up to so many channels, samples and bins, any mix of modifiers, some bins without yield."""
    content, observations = [], {}
    for channel in draw(st.permutations(["x", "a", "m", "k"]))[: draw(st.integers(1, channels))]:
        size = draw(st.integers(1, bins))
        names = draw(st.permutations(["s0", "b1", "b0", "b2", "b3"]))[: draw(st.integers(1, samples))]
        names = names if "s0" in names else ["s0", *names[1:]]
        used = [draw(st.sets(st.sampled_from(kinds))) for _ in names]
        entries = [draw(_sample(name, channel, size, own)) for name, own in zip(names, used, strict=True)]
        content.append({"name": channel, "samples": entries})
        observations[channel] = [
            float(round(sum(bins))) for bins in zip(*(s["data"] for s in entries), strict=True)
        ]
    lumi = {"name": "lumi", "inits": [1.0], "bounds": [[0.5, 1.5]], "auxdata": [1.0], "sigmas": [0.02]}
    return workspace_of(content, observations, parameters=[lumi])


def codes():
    """Every pair of interpolation codes, as pyhf's modifier_settings."""
    return st.builds(
        lambda normsys, histosys: {"normsys": {"interpcode": normsys}, "histosys": {"interpcode": histosys}},
        st.sampled_from(["code1", "code4"]),
        st.sampled_from(["code0", "code2", "code4p"]),
    )


_WEIGHTS = {  # cross section [pb], events of the first file
    "ttbar": (729.84, 1334428),
    "ttbar_scaledown": (729.84, 1268248),
    "ttbar_scaleup": (729.84, 1278695),
    "ttbar_ME_var": (729.84, 1356800),
    "ttbar_PS_var": (729.84, 1310232),
    "single_top_s_chan": (2.0268 + 1.2676, 632000),
    "single_top_t_chan": ((36.993 + 22.175) / 0.252, 1178640),
    "single_top_tW": (37.936 + 37.906, 847600),
    "wjets": (61457 * 0.252, 1249076),
}
_SAMPLES = {
    "ttbar": "ttbar",
    "W+jets": "wjets",
    "single top, s-channel": "single_top_s_chan",
    "single top, t-channel": "single_top_t_chan",
    "tW": "single_top_tW",
}


def _shapes(path):
    """(systematic, up, down or None) of a sample."""
    yield from (("Jet energy scale", "pt_scale_up", None), ("Jet energy resolution", "pt_res_up", None))
    yield from ((f"b-tag NP {i + 1}", f"btag_var_{i}_up", f"btag_var_{i}_down") for i in range(4))
    if path == "ttbar":
        yield from (("ME variation", "ME_var", None), ("PS variation", "PS_var", None))
        yield "ttbar scale variations", "scaleup", "scaledown"
    if path == "wjets":
        yield "W+jets scale variations", "scale_var_up", "scale_var_down"


def agc_workspace():
    """The workspace of the Analysis Grand Challenge, one file per process (shared/notes/agc.md, 1.8)."""
    if not AGC.is_dir():
        pytest.skip(f"the AGC reference histograms are not at {AGC}")
    histograms = json.loads((AGC / "histos_1_file_per_process.json").read_text())

    def yields(region, path):
        return np.asarray(histograms[f"{region}_{path}"]["contents"])[4:26].reshape(11, 2).sum(axis=1)

    channels, observations = [], {}
    for name, region in (("4j1b CR", "4j1b"), ("4j2b SR", "4j2b")):
        samples = [
            _agc_sample(sample, path, name, lambda p, r=region: yields(r, p))
            for sample, path in _SAMPLES.items()
        ]
        channels.append({"name": name, "samples": samples})
        observations[name] = yields(region, "pseudodata").tolist()
    norm = {"name": "ttbar_norm", "inits": [1.0], "bounds": [[0.0, 10.0]]}
    return workspace_of(channels, observations, poi="ttbar_norm", parameters=[norm])


def _agc_sample(sample, path, channel, yields):
    nominal = yields(path)
    cross_section, events = _WEIGHTS[path]
    error = np.sqrt(nominal * cross_section * 3378 / events)
    modifiers = [modifier("staterror_" + channel.replace(" ", "-"), "staterror", error.tolist())]
    modifiers.append(modifier("Luminosity", "normsys", {"hi": 1.03, "lo": 0.97}))
    for name, up, down in _shapes(path):
        high = yields(f"{path}_{up}")
        hi = high.sum() / nominal.sum()
        high = high / hi
        lo = 2 - hi if down is None else yields(f"{path}_{down}").sum() / nominal.sum()
        low = 2 * nominal - high if down is None else yields(f"{path}_{down}") / lo
        modifiers.append(modifier(name, "normsys", {"hi": hi, "lo": lo}))
        modifiers.append(modifier(name, "histosys", {"hi_data": high.tolist(), "lo_data": low.tolist()}))
    if path == "ttbar":
        modifiers.append(modifier("ttbar_norm", "normfactor"))
    return {"name": sample, "data": nominal.tolist(), "modifiers": modifiers}


def two_channels():
    """Two channels, shared shape and normalisation uncertainties, MC-statistics, luminosity."""

    def background(scale, tilt):
        nominal = [40.0 * scale, 30.0 * scale, 12.0 * scale]
        high = [n * (1 + tilt * w) for n, w in zip(nominal, (-1, 0, 1), strict=True)]
        low = [n * (1 - 0.8 * tilt * w) for n, w in zip(nominal, (-1, 0, 1), strict=True)]
        return {
            "name": "b",
            "data": nominal,
            "modifiers": [
                modifier("tilt", "histosys", {"hi_data": high, "lo_data": low}),
                modifier("norm", "normsys", {"hi": 1.12, "lo": 0.9}),
                modifier("lumi", "lumi"),
            ],
        }

    channels = []
    for name, scale, tilt, signal in (("sr", 1.0, 0.1, [3.0, 8.0, 11.0]), ("cr", 3.0, 0.06, [1.0, 1.0, 2.0])):
        carried = {
            "name": "s",
            "data": signal,
            "modifiers": [modifier("mu", "normfactor"), modifier("lumi", "lumi")],
        }
        channels.append({"name": name, "samples": [carried, background(scale, tilt)]})
        for sample in channels[-1]["samples"]:
            errors = [0.08 * y for y in sample["data"]]
            sample["modifiers"].append(modifier(f"stat_{name}", "staterror", errors))
    lumi = {"name": "lumi", "inits": [1.0], "bounds": [[0.5, 1.5]], "auxdata": [1.0], "sigmas": [0.02]}
    return workspace_of(channels, {"sr": [43.0, 38.0, 23.0], "cr": [121.0, 91.0, 38.0]}, parameters=[lumi])


def directions(templates, number=4):
    """Relative changes of all numbers of the templates at once."""
    leaves, structure = jax.tree.flatten(templates)
    rng = np.random.default_rng(7)
    for _ in range(number):
        yield structure.unflatten([0.1 * leaf * rng.normal(size=leaf.shape) for leaf in leaves])


def everything():
    """Each modifier type once, with an empty bin, a one-sided variation and an uncertainty of zero."""
    samples = [
        {
            "name": "s",
            "data": [4.0, 0.0, 6.0],
            "modifiers": [
                modifier("mu", "normfactor"),
                modifier("lumi", "lumi"),
                modifier("shape", "shapesys", [1.0, 0.0, 0.0]),
                modifier("tilt", "histosys", {"hi_data": [5.0, 0.0, 7.0], "lo_data": [4.0, 0.0, 6.0]}),
            ],
        },
        {
            "name": "b",
            "data": [20.0, 0.0, 30.0],
            "modifiers": [
                modifier("norm", "normsys", {"hi": 1.2, "lo": 0.0}),
                modifier("stat", "staterror", [2.0, 0.0, 3.0]),
                modifier("free", "shapefactor"),
            ],
        },
    ]
    lumi = {"name": "lumi", "inits": [1.0], "bounds": [[0.5, 1.5]], "auxdata": [1.0], "sigmas": [0.02]}
    return workspace_of([{"name": "c", "samples": samples}], {"c": [25.0, 0.0, 33.0]}, parameters=[lumi])
