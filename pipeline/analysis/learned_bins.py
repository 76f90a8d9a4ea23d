"""Bins of several features at once that are learned: by the components of a Gaussian mixture, or by a network.

Each of K bins has a score for an event; its shares are the softmax of the scores, of temperature ``width``, while
optimising, and 1 in the bin of the largest score with exact cuts (``relax.assign``). An analysis makes one of them,
starts its arrays in ``init``, and returns ``Observation(weight, shares=...)`` for a channel with ``shares: K``. Named
in ``Analysis.learned``, by channel, the bins are numbered by their purity in what is evaluated, and exported by the
verb ``bins``. (Bins by a mixture: J. Erdmann, N. Kasaraguppe, F. Mausolf, arXiv:2601.07756; by a network:
P. de Castro, T. Dorigo, arXiv:1806.04743.)
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analysis.assign import GAUSSIAN, NETWORK, below
from pipeline.analysis.clusters import clusters_of
from pipeline.containers import AnyArray, Parameters
from pipeline.relax import Exact, Relaxed

BinArrays = Mapping[str, AnyArray]
Features = Sequence[Float[AnyArray, " events"]]


def gains(log_ratios: Features) -> list[Float[Array, " events"]]:
    """Return ``ln(1 + r)`` of each ratio r of probabilities or densities, a signal's to the background's.

    Of order 1 where a signal is, and 0 for all that cannot be it, so that few clusters and borders are spent there.
    ``1 + r`` is signal and background over background: its logarithm is the weight of an event in a likelihood ratio.
    At the edge: ``ln r`` where r is large, without overflow.

    Args:
        log_ratios: ``ln r`` of each signal, an array [events]: as differences of logits or of logarithms of densities.
    """
    return [jax.nn.softplus(jnp.asarray(own)) for own in log_ratios]


@dataclasses.dataclass(frozen=True)
class LearnedBins:
    """What both kinds of bins share.

    Args:
        features: what they are called; an event has one number of each.
        bins: how many, 2 at least.
        name: of its arrays, before an underscore, and of its width in the configuration.

    Raises:
        ValueError: fewer than two bins, or no feature.
    """

    features: tuple[str, ...]
    bins: int
    name: str = "bins"

    def __post_init__(self) -> None:
        given: object = self.features
        if isinstance(given, str) or not given:
            raise ValueError(
                f"{type(self).__name__}: features {self.features!r}; allowed: a name or more, as in ('x', 'y')"
            )
        if self.bins < 2:
            raise ValueError(f"{type(self).__name__}: bins {self.bins}; allowed: 2 or more")

    @property
    def parts(self) -> tuple[str, ...]:
        """Short names of its arrays."""
        raise NotImplementedError

    def shares(
        self, p: Parameters, features: Features, relax: Relaxed | Exact
    ) -> Float[Array, "events bins"]:
        """Return the shares of each event in the bins; exact ones are decided in double precision.

        Args:
            features: an array [events] of each, in the order of their names.

        Raises:
            ValueError: there are not as many as names.
        """
        if len(features) != len(self.features):
            raise ValueError(
                f"{type(self).__name__}: {len(features)} features are given; allowed: {len(self.features)}, "
                f"{', '.join(self.features)}"
            )
        values, arrays = jnp.stack([jnp.asarray(own) for own in features], axis=1), self.own(p.arrays)
        precision = jnp.float64 if isinstance(relax, Exact) else values.dtype
        typed = {name: jnp.asarray(array).astype(precision) for name, array in arrays.items()}
        return relax.assign(self.scores(typed, values.astype(precision)), width=self.name)

    def scores(
        self, arrays: Mapping[str, Array], values: Float[Array, "events features"]
    ) -> Float[Array, "events bins"]:
        """Return the score of each event in each bin, of its own arrays by their short names."""
        raise NotImplementedError

    def ordered(self, arrays: BinArrays, order: Sequence[int]) -> dict[str, AnyArray]:
        """Return all arrays with these bins in another order; ``order`` has the old number of each new bin."""
        raise NotImplementedError

    def exported(self, arrays: BinArrays) -> dict[str, Any]:
        """Return what ``pipeline.analysis.assign`` needs of the arrays, for a JSON file."""
        raise NotImplementedError

    @property
    def array_names(self) -> set[str]:
        """The names that its arrays have among the free parameters."""
        return {f"{self.name}_{part}" for part in self.parts}

    def own(self, arrays: BinArrays) -> dict[str, AnyArray]:
        """Return its arrays by their short names."""
        return {part: arrays[f"{self.name}_{part}"] for part in self.parts}

    def named(self, arrays: BinArrays) -> dict[str, AnyArray]:
        """Return its arrays by the names that free parameters have."""
        return {f"{self.name}_{name}": array for name, array in arrays.items()}


@dataclasses.dataclass(frozen=True)
class GaussianBins(LearnedBins):
    """Bins by the components of a Gaussian mixture with free means, covariances and mixing weights.

    ``score_k = ln w_k - sum_j (ln s_kj + (d_kj / s_kj)^2 / 2)``, ``d_kj = x_j - m_kj + sum_(i<j) t_kji (x_i - m_ki)``:
    the logarithm of weight times density, so that a bin is where its component is the most probable one and its borders
    are conics. Scales s and tilts t are a Cholesky decomposition of the inverse covariance. Features should be of order
    1, as one learning rate moves all.

    Args:
        covariances: whether there are tilts; without them the components lie along the features.
    """

    covariances: bool = True

    @property
    def parts(self) -> tuple[str, ...]:
        """Short names of its arrays; a single feature has no tilts."""
        is_tilted = self.covariances and len(self.features) > 1
        return ("means", "log_scales", "logits", *(("tilts",) if is_tilted else ()))

    def start(
        self,
        key: jax.Array,
        events: Float[AnyArray, "events features"],
        weights: Float[AnyArray, " events"] | None = None,
    ) -> dict[str, AnyArray]:
        """Return start values: the clusters of some events, by seeded k-means (``clusters_of``), without tilts.

        Args:
            weights: of the events; give signal as much as background, or no bin starts at the signal.

        Raises:
            ValueError: the events have another number of features, or are fewer than the bins.
        """
        if np.ndim(events) != 2 or np.shape(events)[1] != len(self.features):
            raise ValueError(
                f"GaussianBins: events of shape {np.shape(events)}; allowed: [events, {len(self.features)}], the "
                f"features {', '.join(self.features)}"
            )
        seed = int(jax.random.bits(key, dtype=jnp.uint32))
        found = clusters_of(
            np.asarray(events), self.bins, seed, None if weights is None else np.asarray(weights)
        )
        logs = {"log_scales": np.log(found.scales), "logits": np.log(found.shares)}
        tilts = {"tilts": np.zeros((self.bins, len(below(len(self.features))[0])))}
        made = {"means": found.means, **logs, **tilts}
        return self.named({part: made[part] for part in self.parts})

    def scores(
        self, arrays: Mapping[str, Array], values: Float[Array, "events features"]
    ) -> Float[Array, "events bins"]:
        """Return the logarithm of weight times density, without what all bins have in common."""
        means, log_scales = arrays["means"], arrays["log_scales"]
        away = values[:, None, :] - means[None]
        entries = zip(*below(len(self.features)), strict=True) if "tilts" in self.parts else ()
        for number, (row, column) in enumerate(entries):
            tilt = arrays["tilts"][None, :, number] * (values[:, column, None] - means[None, :, column])
            away = away.at[:, :, row].add(tilt)
        pulls = away * jnp.exp(-log_scales)[None]
        return arrays["logits"][None] - jnp.sum(log_scales[None] + pulls**2 / 2, axis=2)

    def ordered(self, arrays: BinArrays, order: Sequence[int]) -> dict[str, AnyArray]:
        """Return all arrays with the components in another order."""
        own = {name: array[np.asarray(order)] for name, array in self.own(arrays).items()}
        return {**arrays, **self.named(own)}

    def exported(self, arrays: BinArrays) -> dict[str, Any]:
        """Return means, logarithms of scales, logits of the mixing weights, tilts."""
        own = {name: np.asarray(array, dtype=np.float64).tolist() for name, array in self.own(arrays).items()}
        return {"kind": GAUSSIAN, "features": list(self.features), **own}


@dataclasses.dataclass(frozen=True)
class NetworkBins(LearnedBins):
    """Bins by the outputs of a fully connected network, one for each bin, ReLU between layers.

    Args:
        hidden: outputs of the layers before the last.
    """

    hidden: tuple[int, ...] = (32, 32)

    @property
    def parts(self) -> tuple[str, ...]:
        """Short names of the arrays of all layers."""
        return tuple(f"{part}_{n}" for n in range(len(self.hidden) + 1) for part in ("weights", "biases"))

    def start(self, key: jax.Array) -> dict[str, AnyArray]:
        """Return start values: normal, variance 2 / inputs (K. He et al., arXiv:1502.01852), biases 0."""
        made: dict[str, Array] = {}
        sizes = (len(self.features), *self.hidden, self.bins)
        for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            key, own = jax.random.split(key)
            made[f"weights_{layer}"] = jax.random.normal(own, (inputs, outputs)) * (2.0 / inputs) ** 0.5
            made[f"biases_{layer}"] = jnp.zeros(outputs)
        return self.named(made)

    def scores(
        self, arrays: Mapping[str, Array], values: Float[Array, "events features"]
    ) -> Float[Array, "events bins"]:
        """Return the outputs of the last layer."""
        for layer in range(len(self.hidden) + 1):
            values = jax.nn.relu(values) if layer else values
            values = values @ arrays[f"weights_{layer}"] + arrays[f"biases_{layer}"][None]
        return values

    def ordered(self, arrays: BinArrays, order: Sequence[int]) -> dict[str, AnyArray]:
        """Return all arrays with the outputs in another order."""
        last = len(self.hidden)
        names = [f"{self.name}_{part}_{last}" for part in ("weights", "biases")]
        return {**arrays, **{name: arrays[name][..., np.asarray(order)] for name in names}}

    def exported(self, arrays: BinArrays) -> dict[str, Any]:
        """Return weights and biases, layer by layer."""
        own = self.own(arrays)
        layers = {
            part: [
                np.asarray(own[f"{part}_{n}"], dtype=np.float64).tolist() for n in range(len(self.hidden) + 1)
            ]
            for part in ("weights", "biases")
        }
        return {"kind": NETWORK, "features": list(self.features), **layers}
