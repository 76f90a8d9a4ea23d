"""Derived quantities and shifts of the FAIR Universe HiggsML Uncertainty challenge, on its primary quantities.

W. Bhimji et al., arXiv:2410.02867. Momenta are in GeV. Columns have the challenge's names, but the missing transverse
momentum is ``met_x`` and ``met_y``; ``soft_x`` and ``soft_y`` are an event's own standard normal numbers.
docs/fair_universe.md
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pipeline.analysis import ShiftSize
from pipeline.containers import Columns

PRIMARY = (
    *(f"PRI_{what}_{of}" for what in ("lep", "had") for of in ("pt", "eta", "phi")),
    *(f"PRI_jet_{which}_{of}" for which in ("leading", "subleading") for of in ("pt", "eta", "phi")),
    *("PRI_n_jets", "PRI_jet_all_pt", "PRI_met", "PRI_met_phi"),
)
JETS = ("leading", "subleading")
LEAST_PT = 26.0  # GeV, of the hadronic tau and of jets, after the shifts
ABSENT = -25.0  # what has no meaning for want of jets
_PerEvent = Float[Array, " events"]


def tau_energy_scale(c: Columns, factor: ShiftSize) -> dict[str, Array]:
    """Return the hadronic tau's momentum times a factor; the missing momentum balances the change."""
    pt, phi = c.PRI_had_pt, c.PRI_had_phi
    lost = (1.0 - factor) * pt
    return {
        "PRI_had_pt": factor * pt,
        "met_x": c.met_x + lost * jnp.cos(phi),
        "met_y": c.met_y + lost * jnp.sin(phi),
    }


def jet_energy_scale(c: Columns, factor: ShiftSize) -> dict[str, Array]:
    """Return the jets' momenta times a factor; the missing momentum balances the change of the two hardest."""
    changed = {"PRI_jet_all_pt": factor * c.PRI_jet_all_pt}
    x, y = c.met_x, c.met_y
    for number, name in enumerate(JETS):
        there = c.PRI_n_jets > number
        pt, phi = c.arrays[f"PRI_jet_{name}_pt"], c.arrays[f"PRI_jet_{name}_phi"]
        lost = jnp.where(there, (1.0 - factor) * pt, 0.0)
        changed[f"PRI_jet_{name}_pt"] = jnp.where(there, factor * pt, pt)
        x, y = x + lost * jnp.cos(phi), y + lost * jnp.sin(phi)
    return {**changed, "met_x": x, "met_y": y}


def soft_missing_momentum(c: Columns, added: ShiftSize) -> dict[str, Array]:
    """Return the missing momentum with normal random numbers of this standard deviation [GeV] on each component."""
    return {"met_x": c.met_x + added * c.soft_x, "met_y": c.met_y + added * c.soft_y}


def above_thresholds(c: Columns) -> tuple[Bool[Array, " events"], Columns]:
    """Return which events keep their hadronic tau, and columns in which the soft ones of the two jets are absent.

    A third jet that was there stays in number and sum, as in the challenge, also where the second is gone.
    """
    number, total = c.PRI_n_jets, c.PRI_jet_all_pt
    changed = {}
    for name in JETS:
        pt = c.arrays[f"PRI_jet_{name}_pt"]
        soft = (pt >= 0.0) & (pt <= LEAST_PT)
        number, total = number - soft.astype(number.dtype), total - jnp.where(soft, pt, 0.0)
        for of in ("pt", "eta", "phi"):
            own = c.arrays[f"PRI_jet_{name}_{of}"]
            changed[f"PRI_jet_{name}_{of}"] = jnp.where(soft, ABSENT, own).astype(own.dtype)
    return c.PRI_had_pt >= LEAST_PT, c.replace(**changed, PRI_n_jets=number, PRI_jet_all_pt=total)


def has_jets(c: Columns) -> tuple[Bool[Array, " events"], Bool[Array, " events"]]:
    """Return which events have the leading jet, and which the subleading one too."""
    return c.PRI_jet_leading_pt > 0.0, c.PRI_jet_subleading_pt > 0.0


def derived(c: Columns) -> Mapping[str, _PerEvent]:
    """Return the challenge's derived quantities by its names.

    Where the second jet is missing those of two jets are -25; squares that rounding makes negative are 0.
    """
    first, second = has_jets(c)
    lep, had = _of(c, "lep"), _of(c, "had")
    leading, subleading = (_of(c, f"jet_{name}") for name in JETS)
    leading, subleading = _masked(leading, first), _masked(subleading, second)
    x = c.met_x + lep["x"] + had["x"]
    y = c.met_y + lep["y"] + had["y"]
    met = jnp.hypot(c.met_x, c.met_y)
    jets_eta = leading["eta"] - subleading["eta"]
    transverse = (met + lep["pt"]) ** 2 - (c.met_x + lep["x"]) ** 2 - (c.met_y + lep["y"]) ** 2
    return {
        "DER_mass_transverse_met_lep": _root(transverse),
        "DER_mass_vis": _mass(lep, had),
        "DER_pt_h": _root(x**2 + y**2),
        "DER_deltaeta_jet_jet": _where(second, jnp.abs(jets_eta)),
        "DER_mass_jet_jet": _where(second, _mass(leading, subleading)),
        "DER_prodeta_jet_jet": _where(second, leading["eta"] * subleading["eta"]),
        "DER_deltar_had_lep": _root((lep["eta"] - had["eta"]) ** 2 + _turned(lep["phi"] - had["phi"]) ** 2),
        "DER_pt_tot": _root(
            (x + leading["x"] + subleading["x"]) ** 2 + (y + leading["y"] + subleading["y"]) ** 2
        ),
        "DER_sum_pt": had["pt"] + lep["pt"] + c.PRI_jet_all_pt,
        "DER_pt_ratio_lep_had": lep["pt"] / had["pt"],
        "DER_met_phi_centrality": _met_centrality(jnp.arctan2(c.met_y, c.met_x), lep["phi"], had["phi"]),
        "DER_lep_eta_centrality": _where(
            second, _lep_centrality(lep["eta"], leading["eta"], subleading["eta"])
        ),
    }


def _of(c: Columns, name: str) -> dict[str, _PerEvent]:
    pt, eta, phi = (c.arrays[f"PRI_{name}_{of}"] for of in ("pt", "eta", "phi"))
    return {"pt": pt, "eta": eta, "phi": phi, "x": pt * jnp.cos(phi), "y": pt * jnp.sin(phi)}


def _masked(found: Mapping[str, _PerEvent], there: Bool[Array, " events"]) -> dict[str, _PerEvent]:
    return {name: jnp.where(there, array, 0.0).astype(array.dtype) for name, array in found.items()}


def _where(there: Bool[Array, " events"], values: _PerEvent) -> _PerEvent:
    return jnp.where(there, values, ABSENT).astype(values.dtype)


def _root(square: _PerEvent) -> _PerEvent:
    return jnp.sqrt(jnp.maximum(square, 0.0))


def _mass(one: Mapping[str, _PerEvent], other: Mapping[str, _PerEvent]) -> _PerEvent:
    """Return the mass of two massless objects, ``m^2 = 2 pt pt' (cosh(d eta) - cos(d phi))``: exact in few digits."""
    opening = jnp.cosh(one["eta"] - other["eta"]) - jnp.cos(one["phi"] - other["phi"])
    return _root(2.0 * one["pt"] * other["pt"] * opening)


def _turned(angle: _PerEvent) -> _PerEvent:
    return jnp.remainder(angle + 3 * jnp.pi, 2 * jnp.pi) - jnp.pi


def _met_centrality(met: _PerEvent, lep: _PerEvent, had: _PerEvent) -> _PerEvent:
    """Return (A + B) / sqrt(A^2 + B^2): sqrt(2) where the missing momentum halves the angle of the two."""
    side = jnp.sign(jnp.sin(had - lep))
    one, other = jnp.sin(met - lep) * side, jnp.sin(had - met) * side
    size = jnp.hypot(one, other)
    return jnp.where(size > 0, (one + other) / jnp.where(size > 0, size, 1.0), ABSENT).astype(met.dtype)


def _lep_centrality(lep: _PerEvent, leading: _PerEvent, subleading: _PerEvent) -> _PerEvent:
    """Return 1 for a lepton halfway between the jets in pseudorapidity, 1/e at either of them."""
    square = (leading - subleading) ** 2
    least = 1e-4  # the challenge's, where the two are equal
    return jnp.exp(-4.0 * (lep - (leading + subleading) / 2) ** 2 / jnp.where(square > 0, square, least))
