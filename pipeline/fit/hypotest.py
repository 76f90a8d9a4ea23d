"""Asymptotic tests of a signal hypothesis: p-values, CLs and upper limits, in logarithms and differentiable.

The test statistic ``q~_mu`` and the asymptotic distributions of it are those of G. Cowan, K. Cranmer, E. Gross,
O. Vitells, Eur. Phys. J. C71 (2011) 1554, arXiv:1007.1727 (sections 2.4, 3.6), with CLs as in pyhf's
``calctype="asymptotics"``. p-values are natural logarithms of normal tails: ten sigma do not underflow, and
their derivatives stay alive.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, ndtri
from jaxtyping import Array, Bool, Float

from pipeline.fit.crossing import falling_root
from pipeline.fit.fits import FitResult, fit, profile
from pipeline.likelihood import AnyTemplates, DenseTemplates, HistFactory

BANDS = np.array([2.0, 1.0, 0.0, -1.0, -2.0])
"""Fluctuations of the background, in sigma, of expected results: pyhf's order, from the smallest CLs on."""


class HypoTest(eqx.Module):
    """The test of one hypothesis, all p-values as natural logarithms.

    ``log_cls_expected`` are of background-only data at the ``BANDS``; ``sqrt_q`` and ``sqrt_q_asimov`` the roots
    of the test statistic on the data and on their background-only Asimov data.
    """

    log_cls: Float[Array, ""]
    log_clsb: Float[Array, ""]
    log_clb: Float[Array, ""]
    log_cls_expected: Float[Array, " bands"]
    sqrt_q: Float[Array, ""]
    sqrt_q_asimov: Float[Array, ""]
    converged: Bool[Array, ""]


def root(q: Float[Array, ""]) -> Float[Array, ""]:
    """Return ``sqrt(q)``; 0 with derivative 0 where q is 0 or, by rounding, below; NaN stays NaN."""
    positive = ~(q <= 0)
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, q, 1.0)), 0.0)


def poi_of(model: HistFactory, what: str) -> int:
    """Place of the POI, which tests need."""
    if model.poi_index is None:
        raise ValueError(f"{what}: the measurement has no POI; name a parameter under 'poi'")
    return model.poi_index


def conditional_fit(
    model: HistFactory,
    data: Float[Array, " data"],
    poi: Float[Array, ""] | float,
    templates: DenseTemplates,
    *,
    init: Float[Array, " params"] | None = None,
    method: Callable[..., FitResult] = fit,
) -> FitResult:
    """Return the fit with the POI held at a value.

    ``method`` is ``fit``, or ``profile`` where only ``twice_nll`` is used.
    """
    index = poi_of(model, "conditional fit")
    start = model.initial if init is None else init
    fixed = model.fixed_parameters(templates).at[index].set(True)
    return method(model, data, templates=templates, init=start.at[index].set(poi), fixed=fixed)


def q_tilde(
    model: HistFactory, data: Float[Array, " data"], mu: Float[Array, ""] | float, templates: DenseTemplates
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """Return ``q~_mu`` and whether its fits converged (arXiv:1007.1727, eq. 16).

    ``-2 ln L(mu, theta_hat_hat) + 2 ln L(mu_hat, theta_hat)`` with mu_hat within the POI's bounds, the lower of
    which is 0 for the tilde to mean what it does; 0 where the data prefer more signal than ``mu``. Both fits are one
    loop, so that the program holds a fit once.
    """
    index = poi_of(model, "q_tilde")
    fixed = model.fixed_parameters(templates)

    def fitted(of: tuple[Float[Array, ""], Bool[Array, ""]]) -> tuple[Array, Array, Array]:
        value, is_held = of
        start, held = model.initial.at[index].set(value), fixed.at[index].set(is_held)
        found = profile(model, data, templates=templates, init=start, fixed=held)
        return found.twice_nll, found.parameters[index], found.converged

    values = jnp.stack([model.initial[index], jnp.asarray(mu, dtype=model.initial.dtype)])
    is_held = jnp.stack([fixed[index], jnp.ones((), dtype=bool)])
    (free, held), best, converged = jax.lax.map(fitted, (values, is_held))
    return jnp.where(best[0] > mu, 0.0, held - free), jnp.all(converged)


def q_asimov(
    model: HistFactory,
    truth: Float[Array, " params"],
    mu: Float[Array, ""] | float,
    templates: DenseTemplates,
) -> tuple[Float[Array, ""], FitResult]:
    """Return ``q~_mu`` on the Asimov data of ``truth``, and the one fit that it takes.

    The free fit to these data is ``truth`` itself.
    """
    asimov = model.expected_data(truth, templates)
    held = conditional_fit(model, asimov, mu, templates, init=truth, method=profile)
    return held.twice_nll + 2.0 * model.logpdf(truth, asimov, templates), held


def hypotest(
    model: HistFactory,
    data: Float[Array, " data"],
    mu: Float[Array, ""] | float,
    templates: AnyTemplates | None = None,
) -> HypoTest:
    """Test the hypothesis POI = ``mu`` on data, with ``q~_mu`` and the true CLb.

    With ``a = sqrt(q_A)`` on the Asimov data of the background-only fit to the data and ``t = sqrt(q) - a``, or
    ``(q - q_A) / (2 a)`` for q > q_A (arXiv:1007.1727, section 3.6, shifted as in pyhf), ``CLsb = Phi(-t - a)``,
    ``CLb = Phi(-t)``, ``CLs = CLsb / CLb``. At the edge: a POI without effect has CLs = 1 and derivative 0.
    """
    dense = model.dense(templates)
    q, converged = q_tilde(model, data, mu, dense)
    background = conditional_fit(model, data, 0.0, dense)
    q_a, held = q_asimov(model, background.parameters, mu, dense)
    sqrt_q, a = root(q), root(q_a)
    beyond = (q > q_a) & (a > 0)
    t = jnp.where(beyond, (q - q_a) / (2.0 * jnp.where(beyond, a, 1.0)), sqrt_q - a)
    log_clsb, log_clb = log_ndtr(-t - a), log_ndtr(-t)
    bands = jnp.asarray(BANDS, dtype=a.dtype)
    return HypoTest(
        log_cls=log_clsb - log_clb,
        log_clsb=log_clsb,
        log_clb=log_clb,
        log_cls_expected=log_ndtr(-bands - a) - log_ndtr(-bands),
        sqrt_q=sqrt_q,
        sqrt_q_asimov=a,
        converged=converged & background.converged & held.converged,
    )


class UpperLimit(eqx.Module):
    """An upper limit on the POI; ``converged`` also says that it lies inside the POI's bounds."""

    value: Float[Array, "..."]
    converged: Bool[Array, "..."]


def expected_upper_limit(
    model: HistFactory,
    templates: AnyTemplates | None = None,
    *,
    level: float = 0.05,
    bands: Float[np.ndarray, " bands"] = BANDS,
) -> UpperLimit:
    """Return upper limits on the POI at CLs = ``level`` expected without signal, for fluctuations of ``bands`` sigma.

    On the Asimov data of the initial parameters at POI = 0, ``CLs(mu) = Phi(-n - a(mu)) / Phi(-n)`` for a
    fluctuation of n, so the limit is where ``a(mu) = sqrt(q_A) = -n - Phi^-1(level Phi(-n))`` (arXiv:1007.1727,
    section 4.3, without its Gaussian approximation of a). pyhf's ``upper_limits`` of the same data.
    """
    index = poi_of(model, "expected_upper_limit")
    dense = model.dense(templates)
    truth = model.initial.at[index].set(0.0)
    n = jnp.asarray(bands, dtype=truth.dtype)
    target = -n - ndtri(level * jnp.exp(log_ndtr(-n)))
    low, high = (model.bounds[index, side].astype(truth.dtype) for side in (0, 1))
    low = jnp.maximum(low, 0.0)  # below 0 the test statistic rises again

    def limit(wanted: Float[Array, ""]) -> tuple[Float[Array, ""], Bool[Array, ""]]:
        def left(mu: Float[Array, ""]) -> tuple[Float[Array, ""], Bool[Array, ""]]:
            q, held = q_asimov(model, truth, mu, dense)
            return wanted - root(q), held.converged

        return falling_root(left, low, high)

    return UpperLimit(*jax.lax.map(limit, target))
