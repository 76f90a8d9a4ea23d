"""86 uncertainties of shape of the made-up H->tautau: 33 of columns, 53 of the weight, one standard deviation up.

What the families are is usual. Their sizes are made up: with them nuisance parameters and the statistics of the data
contribute about as much to the uncertainties of both signals. Every change of columns returns the same columns, so that
all are observed together, in one program.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analyses.tautau_events import MEDIANS, MOST_JETS
from pipeline.analysis import Changed, Shift, ShiftSize, WeightFactor
from pipeline.analysis.systematics import Variation
from pipeline.containers import Columns, Parameters
from pipeline.relax import Exact, Relaxed

MODES = ("1prong", "1prong_pi0", "3prong")
TAU_PT = (0.0, 35.0, 45.0, 60.0, np.inf)  # GeV; of the scale
TAU_SCALES = (0.025, 0.03, 0.03)  # by decay mode
MUON_PT = (0.0, 30.0, 45.0, np.inf)  # GeV
MUON_SCALE = 0.004
JET_SOURCES = 12
JET_SCALE = 0.08  # of the first source; the k-th has 1/sqrt(k) of it
JET_RESOLUTION = 0.15
UNCLUSTERED = 5.0  # GeV
RECOIL_RESPONSE, RECOIL_RESOLUTION = 0.05, 0.06
SCALED = ("muon_pt", "tau_pt", "met", "mt", "m_vis", "m_tautau", "pt_tautau", "jet_pt", "m_jj")
MOST_SMEARED = 3.0  # standard deviations
TAU_ID_PT = (0.0, 30.0, 35.0, 40.0, 50.0, np.inf)  # GeV; of the efficiency
TRIGGER_PT = (0.0, 27.0, 33.0, 42.0, np.inf)  # GeV
_PerEvent = Float[Array, " events"]
Wave = Callable[[Columns], _PerEvent]  # between -1 and 1, where a factor acts and how


def variations() -> dict[str, Variation]:
    """Return one variation for each uncertainty, by name; the mirror image is that of one standard deviation down."""
    return {
        **{name: Shift(change, +1) for name, change in SHIFTS.items()},
        **{name: WeightFactor(factors, name) for name in WEIGHTS},
    }


def factors(p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Array]:
    """Return the factors on the weight by name."""
    del p, relax
    return {name: 1 + size * wave(c).astype(c.weight.dtype) for name, (size, wave) in WEIGHTS.items()}


def _is_between(values: _PerEvent, edges: Sequence[float], place: int) -> _PerEvent:
    """1 inside a fixed bin of a column, which no parameter moves."""
    return ((values >= edges[place]) & (values < edges[place + 1])).astype(jnp.float32)


def _tau_scaled(mode: int, pt: int, c: Columns, size: ShiftSize) -> Changed:
    inside = (c.decay_mode == mode) * _is_between(c.tau_pt, TAU_PT, pt)
    return _heavier(c, "tau_pt", size * TAU_SCALES[mode] * inside)


def _muon_scaled(pt: int, c: Columns, size: ShiftSize) -> Changed:
    return _heavier(c, "muon_pt", size * MUON_SCALE * _is_between(c.muon_pt, MUON_PT, pt))


def _heavier(c: Columns, lepton: str, change: _PerEvent) -> Changed:
    """Return a harder lepton: the pair's masses follow by half, missing momentum goes the other way."""
    lost = jnp.exp(-change * c.arrays[lepton] / (c.met + 20.0))
    return _scaled(c, {lepton: 1 + change, "m_vis": 1 + change / 2, "m_tautau": 1 + change / 2, "met": lost})


def _jets_scaled(source: int, c: Columns, size: ShiftSize) -> Changed:
    """Return jets by a source of their scale: a wave in pt and distance, slower and larger for the first ones."""
    phase = 0.6 * (source % 4) * jnp.log1p(c.jet_pt / 30.0) + 0.5 * (source // 4) * c.deta_jj
    return _of_other_jets(c, size * JET_SCALE / np.sqrt(1 + source) * jnp.cos(phase))


def _jets_smeared(c: Columns, size: ShiftSize) -> Changed:
    return _of_other_jets(c, size * JET_RESOLUTION * _clipped(c.jet_smearing))


def _clipped(normal: _PerEvent) -> _PerEvent:
    return jnp.clip(normal, -MOST_SMEARED, MOST_SMEARED)


def _of_other_jets(c: Columns, change: _PerEvent) -> Changed:
    """Return jets of another scale; absent ones stay at 0, and missing momentum follows the leading one."""
    lost = jnp.exp(-change * c.jet_pt / (c.met + 40.0))
    return _scaled(c, {"jet_pt": 1 + change, "m_jj": 1 + change, "met": lost})


def _unclustered(c: Columns, size: ShiftSize) -> Changed:
    return _of_other_met(c, size * UNCLUSTERED * _clipped(c.met_smearing) / (c.met + 30.0))


def _recoil_scaled(jets: int, c: Columns, size: ShiftSize) -> Changed:
    hard = c.pt_tautau / (c.pt_tautau + 20.0)
    return _of_other_met(c, size * RECOIL_RESPONSE * (c.jets == jets) * hard)


def _recoil_smeared(c: Columns, size: ShiftSize) -> Changed:
    return _of_other_met(c, size * RECOIL_RESOLUTION * _clipped(c.met_smearing))


def _of_other_met(c: Columns, change: _PerEvent) -> Changed:
    """Return another missing momentum, and what is made of it."""
    return _scaled(
        c,
        {
            "met": 1 + change,
            "mt": 1 + change / 2,
            "m_tautau": 1 + change * c.met / (c.met + 100.0),
            "pt_tautau": 1 + change * c.met / (c.met + c.pt_tautau),
        },
    )


def _scaled(c: Columns, factors: Mapping[str, _PerEvent]) -> Changed:
    """Return all columns that any of the shifts changes, those without a factor as they are."""
    same = jnp.ones_like(c.met)
    return {name: c.arrays[name] * factors.get(name, same) for name in SCALED}


SHIFTS: dict[str, Callable[[Columns, ShiftSize], Changed]] = {
    **{
        f"tau_scale_{name}_pt{pt}": partial(_tau_scaled, mode, pt)
        for mode, name in enumerate(MODES)
        for pt in range(len(TAU_PT) - 1)
    },
    **{f"muon_scale_pt{pt}": partial(_muon_scaled, pt) for pt in range(len(MUON_PT) - 1)},
    **{f"jet_scale_{source}": partial(_jets_scaled, source) for source in range(JET_SOURCES)},
    "jet_resolution": _jets_smeared,
    "met_unclustered": _unclustered,
    **{f"recoil_response_{jets}j": partial(_recoil_scaled, jets) for jets in range(MOST_JETS + 1)},
    "recoil_resolution": _recoil_smeared,
}


def _in_bin(feature: str, edges: Sequence[float], place: int) -> Wave:
    return lambda c: _is_between(c.arrays[feature], edges, place)


def _of_mode(mode: int) -> Wave:
    return lambda c: c.decay_mode == mode


def _of_class(place: int, wave: Wave) -> Wave:
    """The wave for one class, 0 for others: samples with the same list of variations share their programs."""
    return lambda c: (c.label == place) * wave(c)


def _of_pairs(wave: Wave) -> Wave:
    """The same for the two classes of Z bosons."""
    return lambda c: ((c.label == ZTT) | (c.label == ZLL)) * wave(c)


def _of_jets(jets: int, wave: Wave) -> Wave:
    return lambda c: (c.jets == jets) * wave(c)


def _along(feature: str, place: int) -> Wave:
    """A slope in the logarithm of a feature around a class's median, level far away; 0 where the jets are missing."""
    median = float(MEDIANS[feature][place])
    return lambda c: jnp.where(
        c.arrays[feature] > 0, jnp.tanh(jnp.log(jnp.maximum(c.arrays[feature], 1e-3) / median)), 0.0
    )


def _above(feature: str, threshold: float) -> Wave:
    """A smooth step from -1 to 1 in the logarithm of a feature; -1 where the jets are missing."""
    return lambda c: jnp.tanh(2 * jnp.log(jnp.maximum(c.arrays[feature], 1e-3) / threshold))


def _between_jets(low: int) -> Wave:
    """Events that move between so many jets and more: +1 above, -1 below."""
    return lambda c: jnp.where(c.jets > low, 1.0, -0.5)


GGH, QQH, ZTT, ZLL, FAKES = 0, 1, 2, 3, 6  # places of the classes
FAKE_WAVES: dict[str, Wave] = {
    "offset": lambda c: jnp.ones_like(c.mt),
    **{feature: _along(feature, FAKES) for feature in ("tau_pt", "mt", "m_vis")},
}
Z_WAVES: dict[str, tuple[float, Wave]] = {
    "pt": (0.08, _along("pt_tautau", ZTT)),
    "pt_high": (0.10, _above("pt_tautau", 80.0)),
    "mass": (0.08, _along("m_tautau", ZTT)),
    "1j": (0.08, _of_jets(1, _along("jet_pt", ZTT))),
    "2j": (0.25, _of_jets(2, _along("m_jj", ZTT))),
}
GGH_WAVES: dict[str, tuple[float, Wave]] = {
    "scale": (0.03, lambda c: jnp.where(c.jets == 0, 0.8, 1.0)),
    "resummation": (0.02, lambda c: jnp.where(c.jets == 0, -1.0, 0.5)),
    "migration_01": (0.04, _between_jets(0)),
    "migration_12": (0.06, _between_jets(1)),
    "vbf_2j": (0.10, _of_jets(2, _above("m_jj", 400.0))),
    "vbf_3j": (0.08, _of_jets(2, _above("deta_jj", 3.0))),
    "pt60": (0.04, _above("pt_tautau", 60.0)),
    "pt120": (0.06, _above("pt_tautau", 120.0)),
    "top_mass": (0.05, _above("pt_tautau", 200.0)),
    "initial_radiation": (0.04, _along("jet_pt", GGH)),
    "final_radiation": (0.04, _along("pt_tautau", GGH)),
}
QQH_WAVES: dict[str, tuple[float, Wave]] = {
    "mjj120": (0.02, _of_jets(2, _above("m_jj", 120.0))),
    "mjj350": (0.04, _of_jets(2, _above("m_jj", 350.0))),
    "mjj700": (0.04, _of_jets(2, _above("m_jj", 700.0))),
    "mjj1000": (0.04, _of_jets(2, _above("m_jj", 1000.0))),
    "pt200": (0.04, _above("pt_tautau", 200.0)),
    "migration_12": (0.05, _between_jets(1)),
    "initial_radiation": (0.05, _along("jet_pt", QQH)),
    "final_radiation": (0.04, _along("m_jj", QQH)),
}
# Relative size of one standard deviation, and the wave that it scales.
WEIGHTS: dict[str, tuple[float, Wave]] = {
    **{f"tau_id_pt{i}": (0.03, _in_bin("tau_pt", TAU_ID_PT, i)) for i in range(len(TAU_ID_PT) - 1)},
    **{f"tau_id_{name}": (0.03, _of_mode(mode)) for mode, name in enumerate(MODES)},
    **{f"trigger_muon_pt{i}": (0.02, _in_bin("muon_pt", TRIGGER_PT, i)) for i in range(len(TRIGGER_PT) - 1)},
    "pileup": (0.03, _along("met", ZTT)),
    "parton_densities": (0.03, _along("m_vis", ZTT)),
    "trigger_tau": (0.04, lambda c: jnp.exp(-c.tau_pt / 40.0)),
    "btag_efficiency": (-0.06, lambda c: c.btag / (1 + c.btag)),
    "btag_mistag": (-0.04, lambda c: (c.jets > 0) / (1 + 4 * c.btag)),
    **{
        f"fakes_{name}_{jets}j": (0.10, _of_jets(jets, wave))
        for name, wave in FAKE_WAVES.items()
        for jets in range(MOST_JETS + 1)
    },
    **{f"z_{name}": (size, _of_pairs(wave)) for name, (size, wave) in Z_WAVES.items()},
    **{f"ggh_{name}": (size, _of_class(GGH, wave)) for name, (size, wave) in GGH_WAVES.items()},
    **{f"qqh_{name}": (size, _of_class(QQH, wave)) for name, (size, wave) in QQH_WAVES.items()},
}
