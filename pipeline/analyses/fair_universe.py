"""The FAIR Universe challenge's measurement of H -> tau tau, by bins of a network (W. Bhimji et al., arXiv:2410.02867).

The events are made by ``pipeline.simulate.pythia.ditau``. Three of the six nuisance parameters shift primary
quantities, of which all else is derived; the other three are normalisations in the configuration. docs/fair_universe.md
"""

from collections.abc import Callable, Mapping, Sequence

import awkward as ak
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analyses import networks
from pipeline.analyses.fair_universe_quantities import (
    PRIMARY,
    above_thresholds,
    derived,
    has_jets,
    jet_energy_scale,
    soft_missing_momentum,
    tau_energy_scale,
)
from pipeline.analysis import Analysis, Changed, FlatTree, Free, Made, Shift, ShiftSize
from pipeline.columns import noise
from pipeline.containers import Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed

SIGNAL = "htautau"
EXPECTED = {
    "htautau": 1015.0,
    "ztautau": 1002395.0,
    "ttbar": 44190.0,
    "diboson": 3783.0,
}  # of 10/fb, before thresholds
ENERGY_SCALE = 0.01  # standard deviation of both energy scales
SOFT_MET = 1.0  # GeV, median of the log-normal distribution, whose logarithm has standard deviation 1
# Of the network's inputs: what becomes 0 and how much is 1, of the logarithm of momenta [GeV] where it is taken.
LOGARITHMS = {
    "PRI_lep_pt": (3.5, 0.4),
    "PRI_had_pt": (3.7, 0.4),
    "PRI_met": (3.0, 0.8),
    "DER_mass_transverse_met_lep": (3.0, 1.0),
    "DER_mass_vis": (4.2, 0.35),
    "DER_pt_h": (3.2, 1.0),
    "DER_pt_tot": (3.0, 1.0),
    "DER_sum_pt": (4.5, 0.5),
    "DER_pt_ratio_lep_had": (0.6, 0.25),
}
PLAIN = {
    "PRI_lep_eta": (0.0, 1.2),
    "PRI_had_eta": (0.0, 1.2),
    "PRI_n_jets": (0.7, 1.0),
    "DER_deltar_had_lep": (2.7, 0.6),
    "DER_met_phi_centrality": (0.5, 1.0),
}
OF_ONE_JET = {"PRI_jet_leading_pt": (4.2, 0.6)}  # logarithms too; 0 without the jet
OF_TWO_JETS = {"PRI_jet_subleading_pt": (3.9, 0.5), "DER_mass_jet_jet": (5.2, 1.0)}
OF_TWO_JETS_PLAIN = {
    "DER_deltaeta_jet_jet": (1.5, 1.5),
    "DER_prodeta_jet_jet": (0.0, 3.0),
    "DER_lep_eta_centrality": (0.5, 0.5),
}
INPUTS = len(LOGARITHMS) + len(PLAIN) + len(OF_ONE_JET) + len(OF_TWO_JETS) + len(OF_TWO_JETS_PLAIN)


def shifted(c: Columns, tes: ShiftSize, jes: ShiftSize, soft_met: ShiftSize) -> Columns:
    """Return the columns with the nuisance parameters at these values, in their standard deviations.

    ``soft_met`` is the logarithm of the added noise in GeV; the columns have that of 1 GeV.
    """
    c = c.replace(**tau_energy_scale(c, 1.0 + ENERGY_SCALE * tes))
    c = c.replace(**jet_energy_scale(c, 1.0 + ENERGY_SCALE * jes))
    return c.replace(**soft_missing_momentum(c, SOFT_MET * (jnp.exp(soft_met) - 1.0)))


def features(c: Columns) -> Float[Array, "events inputs"]:
    """Return the network's inputs of events that passed the thresholds, all of order 1."""
    first, second = has_jets(c)
    found = {**c.arrays, "PRI_met": jnp.hypot(c.met_x, c.met_y), **derived(c)}

    def scaled(names: Mapping[str, tuple[float, float]], *, log: bool) -> list[Float[Array, " events"]]:
        values = ((found[name], *by) for name, by in names.items())
        return [
            ((jnp.log1p(jnp.maximum(v, 0.0)) if log else v) - centre) / unit for v, centre, unit in values
        ]

    of_two = scaled(OF_TWO_JETS, log=True) + scaled(OF_TWO_JETS_PLAIN, log=False)
    return jnp.stack(
        [
            *scaled(LOGARITHMS, log=True),
            *scaled(PLAIN, log=False),
            *(jnp.where(first, one, 0.0) for one in scaled(OF_ONE_JET, log=True)),
            *(jnp.where(second, one, 0.0) for one in of_two),
        ],
        axis=1,
    )


class FairUniverse(Analysis):
    """The sigmoid of a network's output as the observable; ``loss`` is a classifier's cross-entropy, event by event."""

    reads = FlatTree(tree="Events", branches=PRIMARY, event="event")
    parameters: Mapping[str, Free] = {}

    def __init__(self, hidden: Sequence[int] = (32, 32)) -> None:
        self.sizes = (INPUTS, *hidden, 1)

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return every event, its missing momentum by components and with the nominal soft noise."""
        found = {name: np.asarray(events[name], dtype=np.float32) for name in PRIMARY}
        met, phi = found.pop("PRI_met"), found.pop("PRI_met_phi")
        soft_x, soft_y = noise(events.event_number, 2, "soft_met").T
        return {
            **found,
            "weight": np.ones(len(met)),
            "label": np.full(len(met), dataset == SIGNAL, dtype=np.float32),
            "met_x": met * np.cos(phi) + np.float32(SOFT_MET) * soft_x,
            "met_y": met * np.sin(phi) + np.float32(SOFT_MET) * soft_y,
            "soft_x": soft_x,
            "soft_y": soft_y,
        }

    def variations(self) -> Mapping[str, Shift]:
        """Return the two energy scales and the soft missing momentum, up and down."""
        made: dict[str, Callable[[Columns, ShiftSize], Changed]] = {
            "tes": lambda c, size: tau_energy_scale(c, 1.0 + ENERGY_SCALE * size),
            "jes": lambda c, size: jet_energy_scale(c, 1.0 + ENERGY_SCALE * size),
            "soft_met": lambda c, size: soft_missing_momentum(c, SOFT_MET * (jnp.exp(size) - 1.0)),
        }
        ends = {"up": +1.0, "down": -1.0}
        return {f"{n}_{end}": Shift(change, size) for n, change in made.items() for end, size in ends.items()}

    def init(self, key: jax.Array) -> Mapping[str, jax.Array]:
        """Start values of the network."""
        return networks.start(key, self.sizes)

    def outputs(self, p: Parameters, c: Columns) -> tuple[Columns, Float[Array, "events outputs"]]:
        """Return columns whose weight is 0 where the tau is below its threshold, and the network's outputs."""
        passed, c = above_thresholds(c)
        return c.replace(weight=jnp.where(passed, c.weight, 0.0)), networks.outputs(p, features(c))

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return the output's histogram, and the loss with equal weights of signal and background."""
        del relax
        c, found = self.outputs(p, c)
        background = sum(EXPECTED.values()) - EXPECTED[SIGNAL]
        return networks.observed(c, found[:, 0], signal=EXPECTED[SIGNAL], background=background)
