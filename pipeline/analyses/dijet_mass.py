"""The mean dijet mass as a function of a shift of the jets' pt: the notebook of iris-hep/agc-autodiff.

The jets are the first two of the file, uncalibrated and without a cut; their pt moves by 25 GeV times alpha, eta, phi
and mass stay. docs/dijet_mass.md.
"""

from collections.abc import Mapping

import awkward as ak
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analysis import Analysis, Free, Made, NanoAOD
from pipeline.columns import pad
from pipeline.containers import Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed

PT_STEP = 25.0  # GeV per unit of alpha
FIELDS = ("pt", "eta", "phi", "mass")


class DijetMass(Analysis):
    """Channel ``dijet_mass`` for the histogram; ``masses`` and ``events`` count what the mean is made of."""

    reads = NanoAOD(branches=tuple(f"Jet_{name}" for name in FIELDS))
    parameters: Mapping[str, Free] = {"alpha": Free(-2.0, bounds=(-5.0, 5.0))}

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return the first two jets of the events that have two."""
        del dataset
        events = events[ak.num(events.Jet.pt) >= 2]
        jets = events.Jet[:, :2]
        return {
            "weight": np.ones(len(jets)),
            "event_number": events.event,
            **{f"jet_{name}": pad(jets[name], 2) for name in FIELDS},
        }

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return every event, whatever alpha is."""
        del relax
        c = c.widened()
        mass = _invariant_mass(c.jet_pt + PT_STEP * p.alpha, c.jet_eta, c.jet_phi, c.jet_mass)
        return {
            "dijet_mass": Observation(weight=c.weight, value=mass),
            "masses": Observation(weight=c.weight * mass),
            "events": Observation(weight=c.weight),
        }


def _invariant_mass(
    pt: Float[Array, "events objects"],
    eta: Float[Array, "events objects"],
    phi: Float[Array, "events objects"],
    mass: Float[Array, "events objects"],
) -> Float[Array, " events"]:
    """Return the mass [GeV] of all objects of each event together; a negative pt turns its momentum round."""
    px, py, pz = pt * jnp.cos(phi), pt * jnp.sin(phi), pt * jnp.sinh(eta)
    energy = jnp.sqrt(px**2 + py**2 + pz**2 + mass**2)
    x, y, z, total = (component.sum(axis=1) for component in (px, py, pz, energy))
    square = total**2 - x**2 - y**2 - z**2
    massive = square > 0  # not so for padding; the square root has no derivative at 0
    return jnp.where(massive, jnp.sqrt(jnp.where(massive, square, 1.0)), 0.0)
