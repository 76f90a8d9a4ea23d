"""Systematic uncertainties that are partly correlated, as effects of independent parameters.

A correlated systematic is ``sum_j c_j alpha_j``, with independent parameters alpha (``model.correlations``). Its effect
is divided among them so that a pyhf workspace can say it. With r_hi and r_lo the factors of a normsys and n the nominal
template, the parameter j has, for c_j > 0,

    normsys:   r_hi^c_j and r_lo^c_j             histosys:   n + c_j (hi - n) and n + c_j (lo - n)

with the two sides changed and ``|c_j|`` for c_j < 0. Effects of one parameter on one sample multiply and add up. It is
exact where a histosys is linear, ``hi - n = n - lo``, and a normsys exponential, ``r_hi r_lo = 1``; elsewhere a product
of bent functions takes the place of one that bends at the sum (docs/model.md has the size of that).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pipeline.config import Model, NormPlusShapeSystematic
from pipeline.config.fit.theory import whole
from pipeline.likelihood.layout import Rows
from pipeline.templates.axes import affecting

EffectRows = Mapping[tuple[str, str], int]  # of samples with the names of systematics, or of parameters


class Effects(NamedTuple):
    """Rows of the effects of systematics on samples, and in which channels and bins each is one."""

    norms: EffectRows
    shapes: EffectRows
    norm_acts: Bool[np.ndarray, "norms channels"]
    shape_acts: Bool[np.ndarray, "shapes bins"]

    @classmethod
    def of(cls, model: Model, samples: Sequence[str], sizes: Mapping[str, int]) -> "Effects":
        """Return the effects of a model.

        Args:
            sizes: number of bins by channel.
        """
        where: dict[tuple[str, str], list[bool]] = {}
        shaped = set()
        for sample in samples:
            for systematic in affecting(model, whole(sample)):
                acts = [model.affects(systematic, whole(sample), channel) for channel in sizes]
                if any(acts):
                    where[sample, systematic.name] = acts
                    shaped |= (
                        {(sample, systematic.name)}
                        if isinstance(systematic, NormPlusShapeSystematic)
                        else set()
                    )
        norms, shapes = sorted(where), sorted(shaped)
        table = np.array([where[key] for key in norms], dtype=bool).reshape(-1, len(sizes))
        own = np.array([where[key] for key in shapes], dtype=bool).reshape(-1, len(sizes))
        return cls(
            {key: row for row, key in enumerate(norms)},
            {key: row for row, key in enumerate(shapes)},
            table,
            np.repeat(own, list(sizes.values()), axis=1),
        )


class Mixing(NamedTuple):
    """Which rows of effects make which rows of parameters: an entry for each pair, sorted by the latter."""

    effect: Int[np.ndarray, " entries"]
    parameter: Int[np.ndarray, " entries"]
    coefficient: Float[np.ndarray, " entries"]
    acts: Bool[np.ndarray, "effects columns"]
    rows: int

    @classmethod
    def of(
        cls,
        effects: EffectRows,
        parameters: EffectRows,
        loadings: Mapping[str, Mapping[str, float]],
        acts: Bool[np.ndarray, "effects columns"],
    ) -> "Mixing":
        """Return the entries.

        Args:
            acts: in which channels, or bins, an effect is one.
        """
        entries = [
            (parameters[sample, name], row, coefficient)
            for (sample, systematic), row in effects.items()
            for name, coefficient in loadings.get(
                systematic, {systematic: 1.0}
            ).items()  # of a closure, itself
        ]
        table: Sequence[tuple[int, int, float]] = sorted(entries)
        return cls(
            effect=np.array([row for _, row, _ in table], dtype=int),
            parameter=np.array([row for row, _, _ in table], dtype=int),
            coefficient=np.array([coefficient for *_, coefficient in table]),
            acts=acts,
            rows=len(parameters),
        )

    def mixed(
        self, above: Float[Array, "effects columns"], below: Float[Array, "effects columns"]
    ) -> tuple[Float[Array, "rows columns"], Float[Array, "rows columns"]]:
        """Return the changes at +1 and -1 standard deviations of each parameter, from those of each effect."""
        up, down = (jnp.where(jnp.asarray(self.acts), side, 0.0)[self.effect] for side in (above, below))
        positive, size = self.coefficient[:, None] > 0, jnp.asarray(np.abs(self.coefficient), dtype=up.dtype)
        ends = jnp.where(positive, up, down), jnp.where(positive, down, up)
        high, low = (
            jax.ops.segment_sum(size[:, None] * end, self.parameter, self.rows, indices_are_sorted=True)
            for end in ends
        )
        return high, low

    def factors(self, factors: Float[Array, "sides effects columns"]) -> Float[Array, "sides rows columns"]:
        """Return the factors of each parameter, from those of each effect."""
        logarithm = jnp.log(factors)
        return jnp.exp(jnp.stack(self.mixed(logarithm[0], logarithm[1])))

    def templates(
        self,
        high: Float[Array, "effects bins"],
        low: Float[Array, "effects bins"],
        nominal: Float[Array, "effects bins"],
    ) -> tuple[Float[Array, "rows bins"], Float[Array, "rows bins"]]:
        """Return the templates of each parameter, from those of each effect and the nominal ones of their samples."""
        up, down = self.mixed(high - nominal, low - nominal)
        own = nominal[self.effect[np.unique(self.parameter, return_index=True)[1]]]
        return own + up, own + down


class Correlated(NamedTuple):
    """How the rows of a model's likelihood are made of the effects of its systematics."""

    norms: Mixing
    shapes: Mixing

    @classmethod
    def of(cls, model: Model, effects: Effects, names: Rows) -> "Correlated | None":
        """Return it; None for a model without correlations, whose rows are those of the effects."""
        if not model.correlations:
            return None
        return cls(
            Mixing.of(effects.norms, names.norms, model.loadings, effects.norm_acts),
            Mixing.of(effects.shapes, names.shapes, model.loadings, effects.shape_acts),
        )
