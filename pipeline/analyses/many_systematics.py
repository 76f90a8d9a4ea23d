"""The AGC's selection with the systematic uncertainties of a full analysis: 150 with templates, in families.

What the families are is usual; their sizes are made up, of the order that experiments publish.
"""

import itertools
from collections.abc import Mapping
from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analyses.agc_ttbar import AgcTtbar
from pipeline.analysis import Transform, WeightFactor
from pipeline.analysis.systematics import Variation
from pipeline.containers import Columns, Parameters
from pipeline.relax import Exact, Relaxed

PT_BINS = (0.0, 30.0, 45.0, 65.0, 100.0, np.inf)  # GeV; of jets
ETA_BINS = (0.0, 0.8, 1.3, 1.9, np.inf)  # |eta|
SOURCES = 20  # of the jet energy scale, correlated over all jets
SCALE, RESOLUTION = 0.02, 0.06  # in a bin; most jets are in the first ones
SOURCE_SCALE = 0.015  # of the first source; the k-th has 1/sqrt(k) of it
LEPTON_PT_BINS = (0.0, 30.0, 35.0, 40.0, 45.0, 50.0, 60.0, 70.0, 80.0, 100.0, np.inf)  # GeV
LEPTON_SCALE, LEPTON_EFFICIENCY = 0.004, 0.01
TAGGING = 0.04  # of a b-tagged jet in a bin
PDF_VECTORS = 50
PDF_SIZE = 0.02  # of the first eigenvector; the k-th has 1/k of it
HARDEST = 1000.0  # GeV; the scale that the event's energy is measured in
BINS = tuple((i, j) for i in range(len(PT_BINS) - 1) for j in range(len(ETA_BINS) - 1))
MOST_SMEARED = 3.0  # standard deviations
Bin = tuple[int, int]  # number in pt, in |eta|
PerJet = Float[Array, "events objects"]


class ManySystematics(AgcTtbar):
    """Cuts on lepton pt, jet pt and b-tag discriminant are free, as in the AGC's selection."""

    def variations(self) -> Mapping[str, Variation]:
        """One template for each uncertainty, mirrored at the nominal.

        Jet energy scale in bins and by sources, resolution in bins, lepton scale: of columns, 70. Lepton and b-tag
        efficiencies, eigenvectors of parton densities: of the weight, 80.
        """
        leptons = range(len(LEPTON_PT_BINS) - 1)
        return {
            **{f"jes_{_name(b)}": Transform(partial(_scaled_in_bin, b)) for b in BINS},
            **{f"jes_source{k}": Transform(partial(_scaled_by_source, k)) for k in range(SOURCES)},
            **{f"jer_{_name(b)}": Transform(partial(_smeared_in_bin, b)) for b in BINS},
            **{f"lepton_scale{i}": Transform(partial(_lepton_scaled, i)) for i in leptons},
            **{f"lepton_efficiency{i}": WeightFactor(self.lepton_factors, str(i)) for i in leptons},
            **{f"btag_{_name(b)}": WeightFactor(self.tag_factors, _name(b)) for b in BINS},
            **{f"pdf{k}": WeightFactor(parton_densities, str(k)) for k in range(PDF_VECTORS)},
        }

    def lepton_factors(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Array]:
        """Efficiency of the selected leptons in each bin of pt."""
        leptons = relax.greater(c.lepton_pt, p.lepton_pt, mask=c.lepton)
        steps = itertools.pairwise(LEPTON_PT_BINS)
        counts = [jnp.sum(leptons * _between(c.lepton_pt, *step), axis=1) for step in steps]
        return {str(i): 1 + LEPTON_EFFICIENCY * count for i, count in enumerate(counts)}

    def tag_factors(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Array]:
        """Efficiency of the b-tag in each bin of the jets' pt and |eta|."""
        _, _, tags = self.decisions(p, c, relax)
        return {_name(b): 1 + TAGGING * jnp.sum(tags * _inside(c, b), axis=1) for b in BINS}


def parton_densities(p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Array]:
    """Eigenvectors: slow and fast waves in the momentum fractions of the partons, from the jets' energy and boost."""
    del p, relax
    pt = jnp.where(c.jet, c.jet_pt, 0.0).astype(c.weight.dtype)
    eta = c.jet_eta.astype(c.weight.dtype)
    energy, along = jnp.sum(pt * jnp.cosh(eta), axis=1), jnp.sum(pt * jnp.sinh(eta), axis=1)
    boost, hardness = jnp.arctanh(0.999 * along / jnp.maximum(energy, 1.0)), jnp.log1p(energy / HARDEST)
    waves = {
        k: jnp.cos(np.pi * (0.3 * (k % 7) * boost + 0.5 * (k // 7) * hardness)) for k in range(PDF_VECTORS)
    }
    return {str(k): 1 + PDF_SIZE / (1 + k) * wave for k, wave in waves.items()}


def _name(of: Bin) -> str:
    return f"pt{of[0]}_eta{of[1]}"


def _between(values: Array, low: float, high: float) -> Array:
    """1 inside a fixed bin of a column, which no parameter moves."""
    found: Array = ((values >= low) & (values < high)).astype(jnp.result_type(values, jnp.float32))
    return found


def _inside(c: Columns, of: Bin) -> PerJet:
    """1 for the jets in a bin of pt and |eta|."""
    i, j = of
    in_pt = _between(c.jet_pt, PT_BINS[i], PT_BINS[i + 1])
    return in_pt * _between(jnp.abs(c.jet_eta), ETA_BINS[j], ETA_BINS[j + 1])


def _scaled(c: Columns, change: PerJet) -> dict[str, Array]:
    return {"jet_pt": ((1 + change) * c.jet_pt).astype(c.jet_pt.dtype)}


def _scaled_in_bin(of: Bin, c: Columns) -> dict[str, Array]:
    return _scaled(c, SCALE * _inside(c, of))


def _scaled_by_source(k: int, c: Columns) -> dict[str, Array]:
    """A source of the scale: a wave in log pt and |eta|, slower and larger for the first ones."""
    phase = 0.5 * (k % 5) * jnp.log(jnp.maximum(c.jet_pt, 10.0) / 10) + 0.6 * (k // 5) * jnp.abs(c.jet_eta)
    return _scaled(c, SOURCE_SCALE / np.sqrt(1 + k) * jnp.cos(phase))


def _smeared_in_bin(of: Bin, c: Columns) -> dict[str, Array]:
    return _scaled(c, RESOLUTION * jnp.clip(c.jet_resolution, -MOST_SMEARED, MOST_SMEARED) * _inside(c, of))


def _lepton_scaled(i: int, c: Columns) -> dict[str, Array]:
    inside = _between(c.lepton_pt, LEPTON_PT_BINS[i], LEPTON_PT_BINS[i + 1])
    return {"lepton_pt": ((1 + LEPTON_SCALE * inside) * c.lepton_pt).astype(c.lepton_pt.dtype)}
