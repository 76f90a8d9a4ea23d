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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process:
    """One physics process: what Pythia is told, and the cross-section [pb] of the phase space generated.

    ``associated_top`` adds g b -> W t, which Pythia lacks (``pipeline.simulate.associated_top``).
    """

    description: str
    cross_section_pb: float
    cross_section_source: str
    settings: tuple[str, ...] = ()
    associated_top: bool = False


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

PROCESSES: Mapping[str, Process] = MappingProxyType(  # a variation is `process__variation`, as in the AGC
    {
        "ttbar": TTBAR,
        "single_top_t_chan": Process(
            description="single top quark by W exchange, q b -> q' t, all decays",
            settings=("Top:qq2tq(t:W) = on",),
            cross_section_pb=(36.993 + 22.175) / 0.252,
            cross_section_source="AGC, utils/file_input.py",
        ),
        "single_top_tW": Process(
            description="single top quark with a W boson, g b -> W t at leading order, all decays",
            associated_top=True,
            cross_section_pb=37.936 + 37.906,
            cross_section_source="AGC, utils/file_input.py",
        ),
        "wjets": Process(
            description="W boson with at least one parton of transverse momentum above 100 GeV, to leptons",
            settings=(
                "WeakBosonAndParton:qqbar2Wg = on",
                "WeakBosonAndParton:qg2Wq = on",
                "PhaseSpace:pTHatMin = 100.",  # lower ones hardly ever make four jets: docs/simulation.md
                "24:onMode = off",
                "24:onIfAny = 11 13 15",
            ),
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
    }
)
