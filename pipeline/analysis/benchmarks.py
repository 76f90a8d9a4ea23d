"""Weights at points of a theory's coefficients, as a generator's reweighting gives them, as a polynomial: morphing.

J. Brehmer et al., "A guide to constraining effective field theories with machine learning", arXiv:1805.00020; ATLAS,
ATL-PHYS-PUB-2015-047.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analysis.theory import ROUNDING, Theory
from pipeline.config.fit.theory import Monomial, monomials
from pipeline.containers import Columns, Parameters
from pipeline.errors import ConfigError, nearest

WORST_CONDITION = 1e8  # of benchmark points: half of the digits of weights in double precision are lost


class Benchmarks:
    """Weights of each event at points of the coefficients, as a generator's reweighting gives them, as a polynomial.

    Points are as many as the polynomial has numbers, or more, which then are fitted: 3 for one coefficient, 6 for two.
    """

    def __init__(self, theory: Mapping[str, Theory], points: Mapping[str, Mapping[str, float]]):
        """Find the polynomials that are 1 at one point and 0 at the others.

        Args:
            theory: the coefficients.
            points: by the name of the column that holds the weights [events], a point {coefficient: value}; a
                coefficient that is left out has its nominal value.

        Raises:
            ConfigError: an unknown coefficient, or points that do not determine the polynomial.
        """
        self._names = sorted(theory)
        self._columns = tuple(points)
        for column, point in points.items():
            for name in point:
                if name not in theory:
                    raise ConfigError(
                        f"Benchmarks: column {column!r} has a coefficient {name!r}; {nearest(name, theory)}"
                    )
        nominal = np.array([theory[name].nominal for name in self._names], dtype=float)
        self._nominal = nominal
        self._scale = np.array(
            [max(abs(v - theory[n].nominal) for v in theory[n].valid) for n in self._names]
        )
        at = [[point.get(n, theory[n].nominal) for n in self._names] for point in points.values()]
        matrix = self._powers(np.array(at, dtype=float).reshape(-1, len(nominal)))
        _require_spanned(matrix, ((), *monomials(self._names)), points)
        self._inverse = np.linalg.pinv(matrix)  # [monomials, points]
        self._condition = float(np.linalg.cond(matrix))

    def _powers(self, at: Any) -> Any:
        """Return the monomials [..., monomials] of points [..., coefficients], in units of the allowed ranges."""
        away = (at - self._nominal) / self._scale
        place = {name: number for number, name in enumerate(self._names)}
        rows = [away[..., 0] * 0 + 1.0] if self._names else []
        for monomial in monomials(self._names):
            rows.append(math.prod(away[..., place[name]] for name in monomial))
        return (np if isinstance(at, np.ndarray) else jnp).stack(rows, axis=-1)

    def factor(self, t: Parameters, c: Columns) -> Float[Array, " events"]:
        """Return the weight at coefficients over that at the nominal ones: what ``theory_weight`` is to return.

        At the edge: 0 for an event whose nominal weight is 0, whatever it is elsewhere.

        Raises:
            ConfigError: so close to one another are the points that half of the weights' digits would be lost.
        """
        weights = jnp.stack([getattr(c, name) for name in self._columns])
        if self._condition > (allowed := float(np.finfo(np.dtype(weights.dtype)).eps) ** -0.5):
            raise ConfigError(
                f"Benchmarks: the points {', '.join(map(repr, self._columns))} are so close to one another, in units "
                f"of the valid ranges, that {weights.dtype} weights lose half of their digits (condition "
                f"{self._condition:.3g}, allowed {allowed:.3g}); narrow `valid`, give points farther apart, or "
                "cluster.precision: float64"
            )
        made = jnp.asarray(self._inverse, dtype=weights.dtype) @ weights
        at = jnp.stack([jnp.asarray(getattr(t, name), dtype=weights.dtype) for name in self._names])
        own = self._powers(at) @ made
        there = jnp.abs(made[0]) > ROUNDING[np.dtype(weights.dtype)] * jnp.max(jnp.abs(weights), axis=0)
        return jnp.where(there, own / jnp.where(there, made[0], 1.0), 0.0)


def _require_spanned(
    matrix: Float[np.ndarray, "points monomials"], names: tuple[Monomial, ...], points: Mapping[str, object]
) -> None:
    values = np.linalg.svd(matrix, compute_uv=False)
    rank = int(np.sum(values > values.max(initial=0.0) / WORST_CONDITION))
    if rank < len(names):
        wanted = ", ".join("*".join(name) or "1" for name in names)
        raise ConfigError(
            f"Benchmarks: the {len(points)} points {', '.join(map(repr, points))} determine {rank} of the {len(names)} "
            f"numbers of the polynomial ({wanted}); give weights at {len(names) - rank} more points, none of them on a "
            "conic of the others"
        )
