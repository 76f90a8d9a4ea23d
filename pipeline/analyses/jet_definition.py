"""The radius of anti-kt jets and their least momentum, for a ttbar cross-section: clustering is a stage of its own.

Clustering has no derivative, so the gradient is that of a local surrogate. The selection is that of the Analysis Grand
Challenge, with H_T in both channels. docs/surrogates.md.
"""

from collections.abc import Mapping

import awkward as ak
import numpy as np
from jaxtyping import Bool, Float

from pipeline.analysis import Analysis, FlatTree, Free, Made, Simulated, Transform
from pipeline.columns import noise, pad
from pipeline.containers import Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed
from pipeline.simulate.pythia import towers
from pipeline.simulate.pythia.generator import heaviest_quark
from pipeline.simulate.pythia.jets import BOTTOM

COLLECTIONS = {
    "Tower": (400, ("pt", "eta", "phi")),
    "Hadron": (50, ("pt", "eta", "phi", "pdg")),
}  # at most so many
JET_ETA = 2.4
BTAG = 0.5
JET_ENERGY_SCALE_UP = 1.03
RADII = (0.3, 0.6, 0.9)  # of the jets that tell the generator what an event looks like
LEADING = 6  # of these jets
LEAST_INPUT = 5.0  # GeV, where an event has fewer
RANDOM = 4  # numbers of the generator
INPUTS = tuple(f"log_pt_{i}_{int(10 * radius)}" for radius in RADII for i in range(LEADING))
COUNTS = ("jets", "tags", "ht")


class JetDefinition(Analysis):
    """Jets, b-tags and H_T of an event by the towers, clustered anew for each value of the parameters.

    Outputs ``..._up`` are changes by a jet energy scale 3 % higher.
    """

    reads = FlatTree(
        tree="Events",
        branches=(
            "leptons",
            *(f"{kind}_{name}" for kind, (_, names) in COLLECTIONS.items() for name in names),
        ),
        event="event",
    )
    parameters: Mapping[str, Free] = {
        "radius": Free(0.8, bounds=(0.2, 1.0)),
        "jet_pt": Free(45.0, bounds=(20.0, 60.0), unit="GeV"),
    }
    simulated = Simulated(
        parameters=("radius", "jet_pt"),
        inputs=(*INPUTS, "bottoms"),
        outputs=(*COUNTS, *(f"{name}_up" for name in COUNTS)),
        noise=RANDOM,
    )

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return events with one lepton; their towers and heavy hadrons, and what jets of fixed radii are like."""
        del dataset
        events = events[events.leptons == 1]
        kept = {
            f"{kind.lower()}_{name}": pad(events[f"{kind}_{name}"], size)
            for kind, (size, names) in COLLECTIONS.items()
            for name in names
        }
        return {
            "weight": np.ones(len(events)),
            "event_number": events.event,
            "noise": noise(events.event, RANDOM),
            **kept,
            **_inputs(kept),
        }

    def simulate(
        self, p: Mapping[str, float], c: Mapping[str, np.ndarray], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Return numbers of jets and b-tags, and H_T [GeV]."""
        found = towers.clustered(c, p["radius"], rng)
        nominal, up = (
            _counted(found, found.pt * scale > p["jet_pt"], scale, len(c["weight"]))
            for scale in (1.0, JET_ENERGY_SCALE_UP)
        )
        return {**nominal, **{f"{name}_up": up[name] - nominal[name] for name in COUNTS}}

    def variations(self) -> Mapping[str, Transform]:
        """Return the jet energy scale."""
        return {
            "pt_scale_up": Transform(
                lambda c: {name: c.arrays[name] + c.arrays[f"{name}_up"] for name in COUNTS}
            )
        }

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Select events with at least four jets; observe H_T with one b-tag, and with two or more."""
        del p
        four, one, two = (
            relax.greater(numbers, least - 0.5, width="count")
            for numbers, least in ((c.jets, 4), (c.tags, 1), (c.tags, 2))
        )
        return {
            "4j1b": Observation(weight=c.weight * four * (one - two), value=c.ht),
            "4j2b": Observation(weight=c.weight * four * two, value=c.ht),
        }


def _counted(
    found: towers.Jets, above: Bool[np.ndarray, " jets"], scale: float, events: int
) -> dict[str, Float[np.ndarray, " events"]]:
    chosen = above & (np.abs(found.eta) < JET_ETA)
    of_jets = {"jets": np.ones_like(found.pt), "tags": 1.0 * (found.btag > BTAG), "ht": scale * found.pt}
    return {
        name: np.bincount(found.event[chosen], weights=values[chosen], minlength=events)
        for name, values in of_jets.items()
    }


def _inputs(c: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return logarithms of the leading jets' momenta, and the number of bottom hadrons.

    The jets are those before the detector, made with fixed radii.
    """
    found, hadrons = towers.particles(c, "tower"), towers.particles(c, "hadron")
    made = [towers.leading(found, radius, LEADING, JET_ETA, LEAST_INPUT) for radius in RADII]
    bottoms = np.bincount(hadrons.event[heaviest_quark(hadrons.pdg) == BOTTOM], minlength=hadrons.events)
    rows = np.concatenate([np.log(np.concatenate(made, axis=1)).T, bottoms[None]]).astype(np.float32)
    return dict(zip((*INPUTS, "bottoms"), rows, strict=True))
