"""Made-up events of a search for H->tautau with a muon and a hadronic tau: seven classes, their densities known.

Of an event with n jets (0, 1, or 2 for more) the logarithms of its features have a normal distribution, whose means and
widths are the class's; correlations are those of two common factors, how hard the event is and how heavy its pair. The
numbers are made up, of the order of those of such an analysis, so that classes overlap as they do there.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

MOST_JETS = 2  # 2 stands for more, too


class Feature(NamedTuple):
    """A feature: jets that it needs, what one more jet adds to its logarithm, loadings on hardness and mass."""

    jets: int
    per_jet: float
    loadings: tuple[float, float]


FEATURES = {
    "muon_pt": Feature(0, 0.03, (0.30, 0.40)),  # GeV, as all momenta and masses
    "tau_pt": Feature(0, 0.05, (0.40, 0.40)),
    "met": Feature(0, 0.15, (0.50, 0.10)),
    "mt": Feature(0, 0.00, (0.10, 0.20)),  # of muon and missing momentum
    "m_vis": Feature(0, 0.00, (0.05, 0.85)),
    "m_tautau": Feature(0, 0.00, (0.10, 0.90)),
    "pt_tautau": Feature(0, 0.55, (0.85, 0.00)),
    "delta_r": Feature(0, -0.08, (-0.70, 0.20)),
    "jet_pt": Feature(1, 0.10, (0.85, 0.05)),
    "btag": Feature(1, 0.00, (0.00, 0.00)),  # odds of the leading jet's discriminant
    "m_jj": Feature(2, 0.00, (0.50, 0.00)),
    "deta_jj": Feature(2, 0.00, (0.05, 0.00)),
}
CLASSES = ("ggH", "qqH", "ztt", "zll", "ttbar", "diboson", "jet_fakes")
YIELDS = {  # expected events
    "ggH": 200.0,
    "qqH": 40.0,
    "ztt": 3000.0,
    "zll": 400.0,
    "ttbar": 500.0,
    "diboson": 200.0,
    "jet_fakes": 1500.0,
}
MEDIANS = {  # of the features without a jet, or with the jets that it needs, by class
    "muon_pt": (38, 40, 31, 42, 48, 45, 33),
    "tau_pt": (48, 50, 40, 44, 52, 50, 40),
    "met": (30, 34, 22, 18, 60, 45, 28),
    "mt": (28, 28, 24, 30, 55, 50, 45),
    "m_vis": (80, 80, 60, 88, 85, 85, 75),
    "m_tautau": (122, 122, 92, 105, 140, 130, 115),
    "pt_tautau": (28, 45, 18, 18, 50, 40, 25),
    "delta_r": (2.8, 2.6, 3.0, 3.1, 2.6, 2.7, 3.0),
    "jet_pt": (55, 75, 50, 50, 75, 55, 52),
    "btag": (0.05, 0.05, 0.05, 0.05, 0.80, 0.07, 0.06),
    "m_jj": (200, 480, 180, 180, 200, 190, 180),
    "deta_jj": (1.7, 3.6, 1.5, 1.5, 1.3, 1.5, 1.5),
}
WIDTHS = {  # standard deviations of the logarithms
    "muon_pt": (0.35, 0.38, 0.28, 0.25, 0.45, 0.42, 0.35),
    "tau_pt": (0.35, 0.38, 0.28, 0.30, 0.45, 0.42, 0.32),
    "met": (0.60, 0.60, 0.60, 0.55, 0.55, 0.65, 0.60),
    "mt": (0.75, 0.75, 0.70, 0.70, 0.65, 0.65, 0.70),
    "m_vis": (0.22, 0.22, 0.20, 0.10, 0.48, 0.46, 0.44),
    "m_tautau": (0.16, 0.16, 0.15, 0.15, 0.48, 0.46, 0.44),
    "pt_tautau": (0.70, 0.65, 0.75, 0.75, 0.55, 0.65, 0.70),
    "delta_r": (0.20, 0.25, 0.15, 0.12, 0.30, 0.25, 0.20),
    "jet_pt": (0.45, 0.45, 0.42, 0.42, 0.45, 0.45, 0.42),
    "btag": (1.0, 1.0, 1.0, 1.0, 1.4, 1.1, 1.0),
    "m_jj": (0.70, 0.60, 0.70, 0.70, 0.65, 0.65, 0.70),
    "deta_jj": (0.70, 0.40, 0.70, 0.70, 0.65, 0.70, 0.70),
}
JETS = {  # probabilities of 0, 1, 2 jets
    "ggH": (0.50, 0.30, 0.20),
    "qqH": (0.08, 0.32, 0.60),
    "ztt": (0.65, 0.25, 0.10),
    "zll": (0.65, 0.25, 0.10),
    "ttbar": (0.05, 0.25, 0.70),
    "diboson": (0.45, 0.33, 0.22),
    "jet_fakes": (0.60, 0.28, 0.12),
}
DECAY_MODES = (0.25, 0.50, 0.25)  # of the tau: one prong, with neutral pions, three prongs
LOADINGS = np.array([feature.loadings for feature in FEATURES.values()])
NEEDED = np.array([feature.jets for feature in FEATURES.values()])
PER_JET = np.array([feature.per_jet for feature in FEATURES.values()])
CORRELATIONS = LOADINGS @ LOADINGS.T + np.diag(1 - np.sum(LOADINGS**2, axis=1))


def events(sample: str, number: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return branches of events of a class: number of jets, features, the tau's decay mode, and two normal numbers.

    A feature whose jets are not there is 0. The normal numbers are what resolutions are smeared by.
    """
    if sample not in CLASSES:
        raise ValueError(f"sample {sample!r} is none of {', '.join(CLASSES)}")
    jets = rng.choice(MOST_JETS + 1, size=number, p=JETS[sample])
    common, own = rng.standard_normal((number, 2)), rng.standard_normal((number, len(FEATURES)))
    unit = common @ LOADINGS.T + own * np.sqrt(1 - np.sum(LOADINGS**2, axis=1))
    shape = _Shape.of(CLASSES.index(sample))
    values = np.exp(shape.means(jets) + shape.widths * unit)
    present = np.where(jets[:, None] >= NEEDED, values, 0.0).astype(np.float32)
    return {
        "jets": jets.astype(np.int8),
        "decay_mode": rng.choice(len(DECAY_MODES), size=number, p=DECAY_MODES).astype(np.int8),
        "jet_smearing": rng.standard_normal(number).astype(np.float32),
        "met_smearing": rng.standard_normal(number).astype(np.float32),
        **dict(zip(FEATURES, present.T, strict=True)),
    }


def log_densities(branches: Mapping[str, np.ndarray]) -> Float[np.ndarray, "events classes"]:
    """Return logarithms of the classes' probability densities, in the logarithms of the features that are there."""
    jets = np.asarray(branches["jets"]).astype(int)
    features = np.stack([np.asarray(branches[name], dtype=float) for name in FEATURES], axis=1)
    found = np.empty((len(jets), len(CLASSES)))
    for number in range(MOST_JETS + 1):
        chosen, there = jets == number, number >= NEEDED
        logarithms = np.log(features[np.ix_(chosen, there)])
        correlations = CORRELATIONS[np.ix_(there, there)]
        precision, (_, log_det) = np.linalg.inv(correlations), np.linalg.slogdet(correlations)
        for place, name in enumerate(CLASSES):
            shape = _Shape.of(place)
            away = (logarithms - shape.means(np.array([number]))[0, there]) / shape.widths[there]
            scale = np.log(shape.widths[there]).sum() + (log_det + there.sum() * np.log(2 * np.pi)) / 2
            square = np.einsum("ei,ij,ej->e", away, precision, away)
            found[chosen, place] = np.log(JETS[name][number]) - square / 2 - scale
    return found


def floor(number: int, seed: int) -> dict[str, float]:
    """Return the smallest possible uncertainties on the strengths of ggH and qqH, nothing else being unknown.

    By the Fisher matrix of the densities, ``I_ij = int s_i s_j / rho`` over the features, with s_i the expected events
    of a signal and rho of everything; by Monte Carlo over ``number`` events of each class.
    """
    rng = np.random.default_rng(seed)
    expected = np.array(list(YIELDS.values()))
    made = [np.exp(log_densities(events(name, number, rng))) for name in CLASSES]
    densities = np.concatenate(made)
    drawn_from, rho = densities.mean(axis=1), densities @ expected
    slopes = (densities * expected)[:, :2]
    information = (slopes / (rho * drawn_from)[:, None]).T @ slopes / len(densities)
    return dict(zip(CLASSES[:2], np.sqrt(np.diag(np.linalg.inv(information))).tolist(), strict=True))


class _Shape(NamedTuple):
    """Of a class: medians and widths of the logarithms of the features."""

    base: Float[np.ndarray, " features"]
    widths: Float[np.ndarray, " features"]

    @classmethod
    def of(cls, place: int) -> "_Shape":
        base = np.log(np.array([MEDIANS[name][place] for name in FEATURES], dtype=float))
        return cls(base, np.array([WIDTHS[name][place] for name in FEATURES]))

    def means(self, jets: Int[np.ndarray, " events"]) -> Float[np.ndarray, "events features"]:
        return np.asarray(self.base + PER_JET * (jets[:, None] - NEEDED))
