"""The Analysis Grand Challenge on CMS Open Data: ttbar in lepton + jets, version 2 as its code does it, with free cuts.

One electron or muon and at least four jets. Channel 4j1b, exactly one b-tag, observes H_T; channel 4j2b, two or
more, the mass of the three jets with the largest summed pt of which at least one is b-tagged.
"""

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import awkward as ak
import correctionlib
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analyses.generator_weights import BRANCHES, shower_variations, weight_columns
from pipeline.analysis import Analysis, Free, Made, NanoAOD, Transform, Variation, WeightFactor
from pipeline.columns import mask, normal, pad
from pipeline.columns.preselection import Requirement, fulfilled, requirements
from pipeline.containers import Columns, Observation, Parameters
from pipeline.data.event_random import LARGEST_NORMAL
from pipeline.errors import ConfigError
from pipeline.relax import Exact, Relaxed

LOOSE_PT = 20.0  # GeV; below every allowed cut, with room for the relaxed ones
JET_ENERGY_SCALE_UP = 1.03
JET_RESOLUTION_UP = 0.05
# Of a jet that a variation of its pt can lift above that.
LEAST_PT = LOOSE_PT / (1 + JET_RESOLUTION_UP * LARGEST_NORMAL)
WJETS_SCALE = 0.025
BTAG_VARIATION = 0.075 / 50  # per GeV of jet pt
VARIED_JETS = 4  # selected ones, in the order of the file
ELECTRON = ("abs(eta) < 2.1", "cutBased == 4", "sip3d < 4")
MUON = ("abs(eta) < 2.1", "tightId == 1", "sip3d < 4", "pfRelIso04_all < 0.15")
JET = ("abs(eta) < 2.4", "jetId & 4")  # bit 2: tight with lepton veto, as in jetId 6
BTAG_NAMES = tuple(f"btag_var_{i}_{direction}" for i in range(VARIED_JETS) for direction in ("up", "down"))
SCALE_NAMES = ("scale_var_up", "scale_var_down")
WEIGHTS = (*BTAG_NAMES, *SCALE_NAMES)
JetDecisions = Float[Array, "events objects"]


class AgcTtbar(Analysis):
    """Cuts on lepton pt, jet pt and b-tag discriminant are free.

    Options name what differs between versions of NanoAOD: ``tagger``, a field of Jet, and what electrons, muons and
    jets must fulfil besides the cut on their pt. ``corrections`` is the challenge's correctionlib file: exact weights
    are then what it evaluates to, and it must agree with the formula that the relaxed ones are made with. ``weighted``
    events have the generator's weight, and its showers are variations of it.
    """

    parameters: Mapping[str, Free] = {
        "lepton_pt": Free(30.0, bounds=(25.0, 60.0), unit="GeV"),
        "jet_pt": Free(30.0, bounds=(25.0, 60.0), unit="GeV"),
        "btag": Free(0.5, bounds=(0.05, 0.95)),
    }
    collections: Mapping[str, tuple[str, ...]] = {
        "jet": ("jet_pt", "jet_eta", "jet_phi", "jet_mass", "jet_btag", "jet_resolution")
    }

    def __init__(
        self,
        jets: int = 20,
        leptons: int = 6,
        tagger: str = "btagCSVV2",
        electron: Sequence[str] = ELECTRON,
        muon: Sequence[str] = MUON,
        jet: Sequence[str] = JET,
        corrections: str | None = None,
        weighted: bool = False,
    ) -> None:
        self.jets = _number("jets", jets, VARIED_JETS)
        self.leptons = _number("leptons", leptons, 1)
        self.tagger = tagger
        self.electron = requirements(electron, "analysis.options.electron")
        self.muon = requirements(muon, "analysis.options.muon")
        self.jet = requirements(jet, "analysis.options.jet")
        self.corrections = None if corrections is None else _corrections(corrections)
        self.weighted = weighted
        self.reads = NanoAOD(
            branches=(
                *(BRANCHES if weighted else ()),
                *_branches("Electron", ("pt", "eta", "phi", "mass", "charge"), self.electron),
                *_branches("Muon", ("pt", "eta", "phi", "mass", "charge"), self.muon),
                *_branches("Jet", ("pt", "eta", "phi", "mass", tagger), self.jet),
            )
        )

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return events with a lepton and four jets above 20 GeV, also of the varied pt; their leptons and jets."""
        some = ak.num(events.Electron.pt) + ak.num(events.Muon.pt) >= 1
        events = events[some & (ak.num(events.Jet.pt) >= 4)]
        leptons = self.loose_leptons(events)
        identified = fulfilled(events.Jet, self.jet, events.Jet.pt > LEAST_PT)
        possible = (ak.num(leptons.pt) >= 1) & (ak.sum(identified, axis=1) >= 4)
        jets, identified = events.Jet[possible], identified[possible]
        resolution = ak.values_astype(normal(events.event[possible], jets.pt, "pt_res_up"), np.float32)
        highest = jets.pt * np.maximum(JET_ENERGY_SCALE_UP, 1 + JET_RESOLUTION_UP * resolution)
        loose = identified & (highest > LOOSE_PT)
        selected = ak.sum(loose, axis=1) >= 4
        loose = loose[selected]
        kept_events, leptons = events[possible][selected], leptons[possible][selected]
        kept = {name: jets[name][selected][loose] for name in ("pt", "eta", "phi", "mass", self.tagger)}
        return {
            **(weight_columns(kept_events) if self.weighted else {"weight": np.ones(len(leptons))}),
            "event_number": kept_events.event,
            "lepton": mask(leptons.pt, self.leptons),
            **{f"lepton_{name}": pad(leptons[name], self.leptons) for name in leptons.fields},
            "jet": mask(kept["pt"], self.jets),
            "jet_btag": pad(kept.pop(self.tagger), self.jets),
            "jet_resolution": pad(resolution[selected][loose], self.jets),
            **{f"jet_{name}": pad(array, self.jets) for name, array in kept.items()},
        }

    def loose_leptons(self, events: ak.Array) -> ak.Array:
        """Return electrons, then muons, that fulfil the options, above 20 GeV: records of their fields."""
        kinds = ((events.Electron, self.electron, False), (events.Muon, self.muon, True))
        return passing(
            ((o, required, self.lepton_fields(o, muon=muon)) for o, required, muon in kinds), LOOSE_PT
        )

    def lepton_fields(self, objects: ak.Array, *, muon: bool) -> Mapping[str, ak.Array]:
        """Return the lepton columns, by their name behind ``lepton_``, of electrons or muons."""
        del muon
        return {"pt": objects.pt}

    def decisions(
        self, p: Parameters, c: Columns, relax: Relaxed | Exact
    ) -> tuple[Float[Array, "events _"], JetDecisions, JetDecisions]:
        """Return which leptons, jets and b-tagged jets pass the cuts."""
        leptons = relax.greater(c.lepton_pt, p.lepton_pt, mask=c.lepton)
        jets = relax.greater(c.jet_pt, p.jet_pt, mask=c.jet)
        return leptons, jets, jets * relax.greater(c.jet_btag, p.btag, mask=c.jet)

    def variations(self) -> Mapping[str, Variation]:
        """Return the variations of jet energy scale and resolution, b-tagging and the W+jets scale.

        Those of jet energy scale and resolution leave the mass of a jet as it is.
        """
        return {
            "pt_scale_up": Transform(lambda c: {"jet_pt": JET_ENERGY_SCALE_UP * c.jet_pt}),
            "pt_res_up": Transform(
                lambda c: {"jet_pt": (1 + JET_RESOLUTION_UP * c.jet_resolution) * c.jet_pt}
            ),
            **{name: WeightFactor(self.factors, name) for name in WEIGHTS},
            **(shower_variations() if self.weighted else {}),
        }

    def factors(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Array]:
        """Return b-tagging tied to each of the first four selected jets, and the W+jets scale."""
        _, jets, _ = self.decisions(p, c, relax)
        jet_pt = c.jet_pt.astype(c.weight.dtype)
        pt = jnp.stack([relax.sum(relax.nth_passing(jets, i + 1) * jet_pt) for i in range(VARIED_JETS)])
        if isinstance(relax, Exact) and self.corrections is not None:
            shape = jax.ShapeDtypeStruct((len(WEIGHTS), pt.shape[1]), pt.dtype)
            evaluate = functools.partial(_evaluated, self.corrections)
            factors = jax.pure_callback(evaluate, shape, pt, vmap_method="sequential")
        else:
            factors = _formula(pt)
        return dict(zip(WEIGHTS, factors, strict=True))

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Select one lepton and at least four jets; observe H_T with one b-tag, the triplet mass with two or more."""
        leptons, jets, tags = self.decisions(p, c, relax)
        selected = c.weight * relax.exactly(leptons, 1) * relax.at_least(jets, 4)
        return {
            "4j1b": Observation(
                weight=selected * relax.exactly(tags, 1),
                value=relax.sum(jets * c.jet_pt.astype(c.weight.dtype)),
            ),
            "4j2b": Observation(
                weight=selected * relax.at_least(tags, 2), value=_triplet_mass(c, jets, tags, relax)
            ),
        }


def passing(
    kinds: Iterable[tuple[ak.Array, Sequence[Requirement], Mapping[str, ak.Array]]], least: float
) -> ak.Array:
    """Return the objects of all kinds that fulfil their requirements, above ``least`` [GeV]: records of fields."""
    kept = [ak.zip(dict(fields))[fulfilled(o, required, o.pt > least)] for o, required, fields in kinds]
    return ak.concatenate(kept, axis=1)


def _triplet_mass(
    c: Columns,
    jets: Float[Array, "events objects"],
    tags: Float[Array, "events objects"],
    relax: Relaxed | Exact,
) -> Float[Array, " events"]:
    """Return the mass [GeV] of the selected jets' triplet with the largest pt among those with a b-tag.

    In the weights' precision: energy^2 - momentum^2 is a small difference.
    """
    pt, eta, phi, jet_mass = (
        array.astype(c.weight.dtype) for array in (c.jet_pt, c.jet_eta, c.jet_phi, c.jet_mass)
    )
    px, py = pt * jnp.cos(phi), pt * jnp.sin(phi)
    pz = pt * jnp.sinh(eta)
    energy = jnp.sqrt(px**2 + py**2 + pz**2 + jet_mass**2)
    corners = _triplets(pt.shape[1]).astype(pt.dtype)
    px, py, pz, energy = (x @ corners.sum(axis=0) for x in (px, py, pz, energy))
    real = _all_three(c.jet, c.jet, c.jet, corners)
    tagged = _tagged(jets, tags, corners)
    best = relax.choose(jnp.hypot(px, py), width="triplet_pt", mask=real, eligible=tagged)
    mass_squared = energy**2 - px**2 - py**2 - pz**2
    massive = mass_squared > 0  # not so for padding; the square root has no derivative at 0
    mass = jnp.where(massive, jnp.sqrt(jnp.where(massive, mass_squared, 1.0)), 0.0)
    return relax.take(mass, best)


def _triplets(jets: int) -> Float[np.ndarray, "3 objects triplets"]:
    """Return 0/1 matrices that pick the first, second and third jet of every triplet.

    Products with them are exact and transpose fast.
    """
    corners = np.array(list(itertools.combinations(range(jets), 3))).T
    return np.asarray(np.eye(jets)[corners].swapaxes(1, 2))


def _all_three(
    first: Float[Array, "events objects"],
    second: Float[Array, "events objects"],
    third: Float[Array, "events objects"],
    corners: Float[np.ndarray, "3 objects triplets"],
) -> Float[Array, "events triplets"]:
    """Return the product of a number of a triplet's first jet, one of its second, and one of its third."""
    one, two, three = (jnp.matmul(*pair) for pair in zip((first, second, third), corners, strict=True))
    return one * two * three


def _tagged(
    jets: Float[Array, "events objects"],
    tags: Float[Array, "events objects"],
    corners: Float[np.ndarray, "3 objects triplets"],
) -> Float[Array, "events triplets"]:
    """Return the decision that all jets of a triplet are selected and that at least one has a b-tag.

    It is a sum of three cases: the first jet that has a b-tag is the first, the second or the third of the
    triplet.

    "All selected" less "all selected without a b-tag" would be the same but for rounding, which is all that
    is left of it where no jet looks like a b-jet.
    """
    without = jets - tags
    return (
        _all_three(tags, jets, jets, corners)
        + _all_three(without, tags, jets, corners)
        + _all_three(without, without, tags, corners)
    )


def _formula(pt: Any) -> Any:
    """Return weight factors, in the order of ``WEIGHTS``: 1 +- 7.5 % per 50 GeV of the n-th jet's pt, 1 +- 2.5 %."""
    btag = [1 + sign * BTAG_VARIATION * of_jet for of_jet in pt for sign in (+1, -1)]
    scale = [jnp.full_like(pt[0], 1 + sign * WJETS_SCALE) for sign in (+1, -1)]
    return jnp.stack([*btag, *scale])


def _evaluated(corrections: correctionlib.Correction, pt: Any) -> np.ndarray:
    """Return the same by the challenge's corrections."""
    pt = np.asarray(pt)
    btag = [
        corrections.evaluate("btag_var", direction, of_jet) for of_jet in pt for direction in ("up", "down")
    ]
    scale = [corrections.evaluate("scale_var", direction, pt[0]) for direction in ("up", "down")]
    return np.stack([*btag, *(np.broadcast_to(factor, pt[0].shape) for factor in scale)]).astype(pt.dtype)


def _number(name: str, value: object, least: int) -> int:
    """Return an option that is a number of objects."""
    if type(value) is not int or value < least:
        raise ConfigError(f"analysis.options.{name}: {value!r} is no whole number of at least {least}")
    return value


def _corrections(path: str) -> correctionlib.Correction:
    """Return the challenge's ``event_systematics``, once it is known to be the formula."""
    try:
        found = correctionlib.CorrectionSet.from_file(path)["event_systematics"]
        probe = np.tile(np.linspace(0.0, 1000.0, 101), (VARIED_JETS, 1))
        apart = np.max(np.abs(_evaluated(found, probe) - np.asarray(_formula(probe))))
    except (AttributeError, IndexError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"analysis.files.corrections: {path} is not the challenge's correctionlib file: {error}"
        ) from error
    if not apart < 1e-6:
        raise ConfigError(
            f"analysis.files.corrections: event_systematics of {path} differ by up to {apart:.3g} from the formula "
            f"1 +- {BTAG_VARIATION:g} pt/GeV and 1 +- {WJETS_SCALE:g} of the relaxed weights; correct either"
        )
    return found


def _branches(collection: str, always: Sequence[str], required: Sequence[Requirement]) -> list[str]:
    names = dict.fromkeys([*always, *(requirement.field for requirement in required)])
    return [f"{collection}_{name}" for name in names]
