"""What is generated: Pythia's settings, and the cross-section that normalises each process."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

COMMON_SETTINGS = (
    "Print:quiet = on",
    "Beams:idA = 2212",
    "Beams:idB = 2212",
    "Beams:eCM = 13000.",
    "PartonLevel:MPI = off",  # for speed: the detector's noise terms stand for the underlying event
    "ParticleDecays:limitTau0 = on",  # what flies farther than 10 mm is stable, CMS's own setting
    "ParticleDecays:tau0Max = 10.",
    "6:m0 = 172.5",  # GeV, the top-quark mass of the AGC's samples
)


# Radiation of the nominal events with other renormalisation scales, as weights: NanoAOD's order of ``PSWeight``.
SHOWER_VARIATIONS = ("isr:muRfac=0.5", "fsr:muRfac=0.7071", "isr:muRfac=2.0", "fsr:muRfac=1.4142")
SHOWER_WEIGHTS = (
    "UncertaintyBands:doVariations = on",
    f"UncertaintyBands:List = {{{','.join(f'v{i} {what}' for i, what in enumerate(SHOWER_VARIATIONS))}}}",
    # Pythia's defaults make weights above 100, at half the speed: docs/simulation.md
    "UncertaintyBands:overSampleFSR = 1",
    "UncertaintyBands:overSampleISR = 1",
    "UncertaintyBands:FSRpTmin2Fac = 100",
)
LEPTONS = ("24:onMode = off", "24:onIfAny = 11 13 15")  # of every W
LEPTONS_OF_ONE = (*LEPTONS, "24:onNegIfAny = 1 2 3 4 5")  # of the W+; the W- decays to anything
W_TO_LEPTONS = 0.3257  # Pythia's share, with tau
OF_TWO_TO_LEPTONS = 2 * W_TO_LEPTONS - W_TO_LEPTONS**2  # of two W, at least one


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bias:
    """Generation in favour of large transverse momenta: by (pt / reference)^power, and weights that undo it."""

    reference: float  # GeV
    power: float

    @property
    def settings(self) -> tuple[str, ...]:
        """Those of Pythia."""
        return (
            "PhaseSpace:bias2Selection = on",
            f"PhaseSpace:bias2SelectionPow = {self.power}",
            f"PhaseSpace:bias2SelectionRef = {self.reference}",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process:
    """One physics process: what Pythia is told, and the cross-section [pb] of the phase space generated.

    ``associated_top`` adds g b -> W t, which Pythia lacks (``pipeline.simulate.associated_top``).
    ``one_counts_twice``: of two W bosons the positive one goes to leptons, so that an event with one lepton stands for
    two. ``shower_weights`` asks for the weights of ``SHOWER_VARIATIONS``.
    """

    description: str
    cross_section_pb: float
    cross_section_source: str
    settings: tuple[str, ...] = ()
    associated_top: bool = False
    one_counts_twice: bool = False
    bias: Bias | None = None
    shower_weights: bool = False

    @property
    def all_settings(self) -> tuple[str, ...]:
        """Every setting of Pythia, in the order in which it reads them."""
        biased = self.bias.settings if self.bias else ()
        return (*COMMON_SETTINGS, *self.settings, *biased, *(SHOWER_WEIGHTS if self.shower_weights else ()))


def variation(nominal: Process, what: str, settings: tuple[str, ...]) -> Process:
    """Return the nominal process with more settings, read after its own; the cross-section stays."""
    return dataclasses.replace(
        nominal, description=f"{nominal.description}; {what}", settings=nominal.settings + settings
    )


def showers(*settings: str) -> tuple[str, ...]:
    """Return the settings for final-state and initial-state radiation alike."""
    return tuple(f"{shower}:{setting}" for shower in ("TimeShower", "SpaceShower") for setting in settings)


def scales(factor: float) -> tuple[str, ...]:
    """Return renormalisation and factorisation scale, of the hard process and both showers, times ``factor``.

    Pythia multiplies the squares of the scales.
    """
    both = tuple(f"{scale}MultFac = {factor**2}" for scale in ("renorm", "factor"))
    return tuple(f"SigmaProcess:{setting}" for setting in both) + showers(*both)


TTBAR = Process(
    description="top-quark pairs, all decays",
    settings=("Top:gg2ttbar = on", "Top:qqbar2ttbar = on"),
    cross_section_pb=396.87 + 332.97,
    cross_section_source="AGC, utils/file_input.py",
)

T_CHANNEL = ("Top:qq2tq(t:W) = on",)
T_CHANNEL_PB, TW_PB = (36.993 + 22.175) / 0.252, 37.936 + 37.906
WJETS = (
    "WeakBosonAndParton:qqbar2Wg = on",
    "WeakBosonAndParton:qg2Wq = on",
    "PhaseSpace:pTHatMin = 100.",  # lower ones hardly ever make four jets: docs/simulation.md
    *LEPTONS,
)

PROCESSES: Mapping[str, Process] = MappingProxyType(  # a variation is `process__variation`, as in the AGC
    {
        "ttbar": TTBAR,
        "single_top_t_chan": Process(
            description="single top quark by W exchange, q b -> q' t, all decays",
            settings=T_CHANNEL,
            cross_section_pb=T_CHANNEL_PB,
            cross_section_source="AGC, utils/file_input.py",
        ),
        "single_top_tW": Process(
            description="single top quark with a W boson, g b -> W t at leading order, all decays",
            associated_top=True,
            cross_section_pb=TW_PB,
            cross_section_source="AGC, utils/file_input.py",
        ),
        "wjets": Process(
            description="W boson with at least one parton of transverse momentum above 100 GeV, to leptons",
            settings=WJETS,
            cross_section_pb=475.8,
            cross_section_source="Pythia 8.317, leading order, this phase space and leptonic decays only",
        ),
        # what each stands in for, and what it does to the selected events: docs/simulation.md
        "ttbar__scaledown": variation(TTBAR, "all scales halved", scales(0.5)),
        "ttbar__scaleup": variation(TTBAR, "all scales doubled", scales(2.0)),
        "ttbar__ME_var": variation(
            TTBAR,
            "no matrix-element corrections, hard radiation dampened from a scale 1.5 times as high",
            (*showers("MEcorrections = off"), "SpaceShower:pTdampFudge = 1.5"),
        ),
        "ttbar__PS_var": variation(
            TTBAR,
            "initial-state dipole recoil, two-loop coupling 0.118 in the CMW scheme in the showers",
            (
                *showers("alphaSorder = 2", "alphaSuseCMW = on", "alphaSvalue = 0.118"),
                "SpaceShower:dipoleRecoil = on",
            ),
        ),
        # events where an analysis of one lepton and jets selects them, weighted: docs/simulation.md
        "ttbar_leptonic": Process(
            description="top-quark pairs with at least one lepton",
            settings=(*TTBAR.settings, *LEPTONS_OF_ONE),
            cross_section_pb=round(TTBAR.cross_section_pb * OF_TWO_TO_LEPTONS, 1),
            cross_section_source="AGC, utils/file_input.py, times the share of these decays",
            one_counts_twice=True,
            shower_weights=True,
        ),
        "single_top_t_leptonic": Process(
            description="single top quark by W exchange, to a lepton",
            settings=(*T_CHANNEL, *LEPTONS),
            cross_section_pb=round(T_CHANNEL_PB * W_TO_LEPTONS, 2),
            cross_section_source="AGC, utils/file_input.py, times the share of these decays",
            shower_weights=True,
        ),
        "single_top_tW_leptonic": Process(
            description="single top quark with a W boson at leading order, with at least one lepton",
            settings=LEPTONS_OF_ONE,
            associated_top=True,
            cross_section_pb=round(TW_PB * OF_TWO_TO_LEPTONS, 2),
            cross_section_source="AGC, utils/file_input.py, times the share of these decays",
            one_counts_twice=True,
            shower_weights=True,
        ),
        "wjets_weighted": Process(
            description="W boson to leptons with at least one parton above 100 GeV, more of the hard ones",
            settings=WJETS,
            bias=Bias(reference=100.0, power=1.0),
            cross_section_pb=8000.0,
            cross_section_source="by hand: Pythia, 475.8 pb, has too few with four jets",
        ),
        "zprime_ttbar": Process(
            description="a Z' boson of 750 GeV with the couplings of the Z boson, to top-quark pairs with a lepton",
            settings=(
                "NewGaugeBoson:ffbar2gmZZprime = on",
                "Zprime:gmZmode = 3",
                "32:m0 = 750.",
                "32:onMode = off",
                "32:onIfAny = 6",
                *LEPTONS_OF_ONE,
            ),
            cross_section_pb=1.0,
            cross_section_source="by convention: the signal strength is the cross-section of these decays in pb",
            one_counts_twice=True,
            shower_weights=True,
        ),
    }
)
