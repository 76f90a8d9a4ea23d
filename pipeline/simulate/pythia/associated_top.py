"""The hard process g b -> W t, which Pythia 8 does not have, given to it as a process of its own.

Pythia samples the phase space, the parton densities and the Breit-Wigner masses, and it showers, decays and
hadronises as for its own processes. Stated here: the squared matrix element, the colour flow, and the
angles of the top decay.
"""

import math
from typing import Any

import pythia8mc

BOTTOM, TOP, GLUON, W_BOSON = 5, 6, 21, 24
PROCESS_CODE = 10001  # Pythia reserves codes from 10000 on for processes given by the user


def squared_amplitude(s: float, u: float, w_mass_squared: float, top_mass_squared: float) -> float:
    """Return spin-summed |M|^2 of g b -> W t at leading order, massless b, without couplings and colour.

    The s-channel b and the u-channel t diagrams; u = (p_g - p_t)^2, v = u - m_t^2, w = m_W^2, m = m_t^2:

        |M|^2 = 2 N / (s v^2 w)
        N = -4 v w^3 + (4 v^2 + 6 m v + 4 s v + 4 s m) w^2 - 2 [(v + m)(v^2 + s m) + s^2 v] w
            - m [v (v^2 + 2 v m + 2 m^2 + s^2) + 2 s (v^2 + v m + m^2)]

    The test rebuilds it from the Dirac traces. For m = 0 it is 4 (s^2 + u^2 + 2 t w) / (-s u) of q g -> W q'.
    """
    w, m, v = w_mass_squared, top_mass_squared, u - top_mass_squared
    cubic = -4 * v * w**3
    quadratic = (4 * v**2 + 6 * m * v + 4 * s * v + 4 * s * m) * w**2
    linear = -2 * ((v + m) * (v**2 + s * m) + s**2 * v) * w
    constant = -m * (v * (v**2 + 2 * v * m + 2 * m**2 + s**2) + 2 * s * (v**2 + v * m + m**2))
    return 2 * (cubic + quadratic + linear + constant) / (s * v**2 * w)


class AssociatedTop(pythia8mc.Sigma2Process):  # type: ignore[misc]  # pythia8mc has no type information
    """g b -> W- t and g bbar -> W+ tbar, with the method names Pythia's ``Sigma2Process`` prescribes.

    d sigma / dt = pi alpha_em alpha_s |V_tb|^2 / (48 sin^2 theta_W s^2) |M|^2: mean over spins, colours.
    The t and W of the top decay follow Pythia's matrix element; the W made with the top decays isotropically.
    """

    def name(self) -> str:
        """Return the name of the process in Pythia's listings."""
        return "g b -> W t"

    def code(self) -> int:
        """Return the number of the process in Pythia's listings."""
        return PROCESS_CODE

    def inFlux(self) -> str:
        """Return the kind of incoming beams, quark and gluon; all quarks but b get no cross-section in ``sigmaHat``."""
        return "qg"

    def id3Mass(self) -> int:
        """Return the particle of the first outgoing mass: W."""
        return W_BOSON

    def id4Mass(self) -> int:
        """Return the particle of the second outgoing mass: t."""
        return TOP

    def convert2mb(self) -> bool:
        """Return whether Pythia must convert to mb: ``sigmaHat`` is in GeV^-2."""
        return True

    def initProc(self) -> None:
        """Set the couplings, which do not run."""
        self.coupling = math.pi * self.parm("StandardModel:Vtb") ** 2
        self.coupling /= 48 * self.parm("StandardModel:sin2thetaW")

    def sigmaKin(self) -> None:
        """Compute d sigma / dt at the present phase-space point, for gluon first and quark second."""
        amplitude = squared_amplitude(self.sH, self.uH, self.s3, self.s4)
        self.sigma = self.coupling * self.alpEM * self.alpS / self.sH**2 * amplitude

    def sigmaHat(self) -> float:
        """Return the cross-section for the present incoming partons."""
        return self.sigma if BOTTOM in (abs(self.id1), abs(self.id2)) else 0.0

    def setIdColAcol(self) -> None:
        """Set outgoing flavours and the one colour flow: the gluon takes the b's colour, the t the gluon's."""
        quark_first = self.id2 == GLUON
        sign = 1 if (self.id1 if quark_first else self.id2) > 0 else -1
        self.setId(self.id1, self.id2, -sign * W_BOSON, sign * TOP)
        self.swapTU = quark_first
        self.setColAcol(*((1, 0, 2, 1) if quark_first else (2, 1, 1, 0)), 0, 0, 2, 0)
        if sign < 0:
            self.swapColAcol()

    def weightDecay(self, process: Any, first: int, last: int) -> float:
        """Return the angular weight of the top decay, t -> b W -> b f f'."""
        from_top = abs(process[process[first].mother1()].id()) == TOP
        return float(self.weightTopDecay(process, first, last)) if from_top else 1.0
