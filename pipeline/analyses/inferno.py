"""INFERNO's synthetic problem: 50 signal events on 1000 of background, whose shape depends on unknown parameters.

P. de Castro, T. Dorigo, arXiv:1806.04743, section 5.1. Signal: (x0, x1) ~ N((0, 0), 1), x2 ~ Exp(rate 2); the
paper's text prints (1, 1) for the means, its code and its table use (0, 0). Background: (x0, x1) ~
N((2 + r, 0), diag(5, 9)), x2 ~ Exp(rate lambda), nominally r = 0 and lambda = 3. docs/inferno.md has the benchmarks.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import awkward as ak
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analyses import networks
from pipeline.analysis import Analysis, Changed, FlatTree, Free, Made, Shift, ShiftSize
from pipeline.containers import AnyArray, Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed

S, B = 50.0, 1000.0  # expected events
SIGNAL_RATE = 2.0
RATE = 3.0  # nominal lambda
STEPS = {"r": 0.2, "lambda": 0.5}  # of the templates of the published evaluation
PRIORS = {"r": 0.4, "lambda": 1.0}  # widths of the constraints of benchmarks 3 and 4
FEATURES = 3


def events(sample: str, number: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return branches of generated events of ``signal`` or ``background``."""
    plane = rng.standard_normal((2, number))
    waiting = rng.standard_exponential(number)
    if sample == "signal":
        return {"x0": plane[0], "x1": plane[1], "x2": waiting / SIGNAL_RATE}
    if sample == "background":
        return {"x0": 2.0 + np.sqrt(5.0) * plane[0], "x1": 3.0 * plane[1], "x2": waiting / RATE}
    raise ValueError(f"sample {sample!r} is not 'signal' or 'background'")


def log_densities(
    x0: Float[AnyArray, " events"], x1: Float[AnyArray, " events"], x2: Float[AnyArray, " events"]
) -> tuple[Float[AnyArray, " events"], Float[AnyArray, " events"]]:
    """Return logarithms of the probability densities of signal and nominal background."""
    signal = math.log(SIGNAL_RATE / (2 * math.pi)) - (x0**2 + x1**2) / 2 - SIGNAL_RATE * x2
    normalisation = math.log(RATE / (2 * math.pi * math.sqrt(45.0)))
    return signal, normalisation - (x0 - 2.0) ** 2 / 10 - x1**2 / 18 - RATE * x2


def floor(number: int, seed: int) -> list[float]:
    """Return the smallest possible uncertainty on s in benchmarks 0 to 4.

    It is found by the Fisher matrix of the densities themselves: ``I_ij = int d_i rho d_j rho / rho`` over x,
    with the expected density of events ``rho = s f_s + b f_b(r, lambda)``. The integral is done by Monte
    Carlo over ``number`` events of each class. Constraints add the inverse of their variances.
    """
    rng = np.random.default_rng(seed)
    made = [events(sample, number, rng) for sample in ("signal", "background")]
    x0, x1, x2 = (np.concatenate([branches[name] for branches in made]) for name in ("x0", "x1", "x2"))
    signal, background = (np.exp(logarithm) for logarithm in log_densities(x0, x1, x2))
    slopes = np.stack(
        [signal, B * background * (x0 - 2.0) / 5.0, B * background * (1 / RATE - x2), background]
    )
    expected = S * signal + B * background
    drawn_from = (signal + background) / 2
    information = (slopes / (expected * drawn_from)) @ slopes.T / (2 * number)
    constraints = np.diag([0.0, PRIORS["r"] ** -2, PRIORS["lambda"] ** -2, (0.1 * B) ** -2])
    cases = [([0], 0), ([0, 1], 0), ([0, 1, 2], 0), ([0, 1, 2], 1), ([0, 1, 2, 3], 1)]
    return [
        float(np.sqrt(np.linalg.inv((information + known * constraints)[np.ix_(free, free)])[0, 0]))
        for free, known in cases
    ]


def shift_r(c: Columns, size: ShiftSize) -> Changed:
    """Return the background's mean x0 moves by ``size``."""
    return {"x0": c.x0 + size}


def shift_rate(c: Columns, size: ShiftSize) -> Changed:
    """Return the background's rate lambda changes by ``size``."""
    return {"x2": c.x2 * (RATE / (RATE + size))}


def _in_units(
    shift: Callable[[Columns, ShiftSize], Changed], unit: float
) -> Callable[[Columns, ShiftSize], Changed]:
    return lambda c, size: shift(c, unit * size)


class Inferno(Analysis):
    """Bins of a network's softmax: 3-100-100-10, ReLU, He's start values, no cut anywhere.

    Shifts ``r`` and ``lambda`` are in units of the published template steps, ``r_prior`` and ``lambda_prior`` in those
    of the constraints of benchmarks 3 and 4.
    """

    reads = FlatTree(tree="Events", branches=("x0", "x1", "x2"), event="event")
    parameters: Mapping[str, Free] = {}

    def __init__(self, hidden: Sequence[int] = (100, 100), outputs: int = 10) -> None:
        self.sizes = (FEATURES, *hidden, outputs)

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return every event."""
        del dataset
        features = {name: getattr(events, name) for name in ("x0", "x1", "x2")}
        return {"weight": np.ones(len(events.x0)), **features}

    def variations(self) -> Mapping[str, Shift]:
        """Return the background's unknown mean and rate, up and down."""
        shifts = {
            "r": _in_units(shift_r, STEPS["r"]),
            "lambda": _in_units(shift_rate, STEPS["lambda"]),
            "r_prior": _in_units(shift_r, PRIORS["r"]),
            "lambda_prior": _in_units(shift_rate, PRIORS["lambda"]),
        }
        ends = {"up": +1.0, "down": -1.0}
        return {f"{n}_{end}": Shift(shift, size) for n, shift in shifts.items() for end, size in ends.items()}

    def init(self, key: jax.Array) -> Mapping[str, jax.Array]:
        """Start values of the network."""
        return networks.start(key, self.sizes)

    def outputs(self, p: Parameters, c: Columns) -> Float[Array, "events outputs"]:
        """Return the output of the network for every event."""
        return networks.outputs(p, jnp.stack([c.x0, c.x1, c.x2], axis=1))

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return the event's shares in the bins."""
        return {
            "bins": Observation(weight=c.weight, shares=relax.assign(self.outputs(p, c), width="softmax"))
        }


class InfernoSummary(Inferno):
    """One output, the sigmoid of the network's, as the observable; ``loss`` is a classifier's, event by event."""

    def __init__(self, hidden: Sequence[int] = (100, 100)) -> None:
        super().__init__(hidden, outputs=1)

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return every event, and whether it is signal."""
        made = super().columns(events, dataset)
        return {**made, "label": np.full(len(events.x0), float(dataset == "signal"))}

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return the output's histogram, and the cross-entropy with equal weights of signal and background."""
        del relax
        output = self.outputs(p, c)[:, 0]
        return networks.observed(c, output, signal=1.0, background=B)  # the signal is normalised to 1 event


class OptimalClassifier(Inferno):
    """The probability of signal by the densities themselves as the observable: what no trained classifier beats.

    There is nothing to optimise in it.
    """

    def init(self, key: jax.Array) -> Mapping[str, jax.Array]:
        """Return no arrays: none is free."""
        del key
        return {}

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return f_s / (f_s + f_b), as for as many events of one as of the other."""
        del p, relax
        signal, background = log_densities(c.x0, c.x1, c.x2)
        return {"output": Observation(weight=c.weight, value=jax.nn.sigmoid(signal - background))}
