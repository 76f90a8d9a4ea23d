"""Generator weights of events and those of other showers, by NanoAOD's names: columns, and factors on the weight."""

from collections.abc import Mapping

import awkward as ak
import numpy as np
from jaxtyping import Array

from pipeline.analysis import Made, WeightFactor
from pipeline.containers import Columns, Parameters
from pipeline.relax import Exact, Relaxed

BRANCHES = ("genWeight", "PSWeight")
SHOWERS = ("isr_up", "fsr_up", "isr_down", "fsr_down")  # NanoAOD's order of PSWeight; up is more radiation


def weight_columns(events: ak.Array) -> Mapping[str, Made]:
    """Return the weight of events, and those of other showers over it, 1 in a sample that has none."""
    padded = ak.fill_none(ak.pad_none(events.PSWeight, len(SHOWERS), clip=True), 1.0)
    return {"weight": events.genWeight, "shower": np.asarray(ak.to_numpy(padded), dtype=np.float32)}


def shower_variations() -> Mapping[str, WeightFactor]:
    """Return the variations by name."""
    return {name: WeightFactor(_factors, name) for name in SHOWERS}


def _factors(p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Array]:
    del p, relax
    return dict(zip(SHOWERS, c.shower.T, strict=True))
