"""What the analysis can discover or exclude, expected from Asimov data."""

import numpy as np
from jax.scipy.special import log_ndtr

from pipeline.config.quantities import Cls, Discovery, DiscoveryPValue, ExpectedLimit
from pipeline.fit.hypotest import expected_upper_limit, poi_of, q_asimov, root
from pipeline.objective.signature import Inputs, value_of
from pipeline.objective.value import ObjectiveValue, with_fit, without_fit


@value_of.register
def discovery(options: Discovery | DiscoveryPValue, inputs: Inputs) -> ObjectiveValue:
    """Return expected significance with which the background-only hypothesis is rejected, ``Z = sqrt(q0)``.

    ``q0 = -2 ln L(0, theta_hat_hat) + 2 ln L(mu, theta_0)`` on the Asimov data of POI = ``mu`` (arXiv:1007.1727,
    eq. 12 and 52); the free fit to Asimov data is its own truth, so one conditional fit is enough. Z does not
    underflow, the p-value of ten sigma would. At the edge: without signal Z = 0 with derivative 0.
    """
    model, templates = inputs.fit
    poi = poi_of(model, f"objective {options.kind!r}")
    dense = model.dense(templates)
    q0, conditional = q_asimov(model, model.initial.at[poi].set(options.mu), 0.0, dense)
    return with_fit(root(q0), conditional)


@value_of.register
def discovery_p_value(options: DiscoveryPValue, inputs: Inputs) -> ObjectiveValue:
    """Return ``ln p0`` with which background alone would look like the Asimov data of POI = ``mu``.

    ``p0 = Phi(-Z)`` (arXiv:1007.1727, section 3.5) with the Z of ``discovery``; its logarithm, because p0 itself is 0
    to a computer beyond 38 sigma and has no derivative long before. At the edge: ``-ln 2`` with derivative 0
    without signal.
    """
    found = discovery(options, inputs)
    return ObjectiveValue(
        log_ndtr(-found.value), found.converged, found.edm, found.gradient_norm, found.steps
    )


@value_of.register
def cls(options: Cls, inputs: Inputs) -> ObjectiveValue:
    """Return ``ln CLs`` with which the signal strength ``mu`` is expected to be excluded when there is no signal.

    ``CLs = 2 Phi(-sqrt(q_mu))`` on the Asimov data of POI = 0, whose CLb is 1/2 (arXiv:1007.1727,
    section 3.6; for other data see ``hypotest``). The logarithm, because CLs of 1e-300 has no derivative. At the
    edge: 0 with derivative 0 for a POI without effect.
    """
    model, templates = inputs.fit
    poi = poi_of(model, "objective 'cls'")
    dense = model.dense(templates)
    q, conditional = q_asimov(model, model.initial.at[poi].set(0.0), options.mu, dense)
    return with_fit(log_ndtr(-root(q)) + np.log(2.0), conditional)


@value_of.register
def upper_limit(options: ExpectedLimit, inputs: Inputs) -> ObjectiveValue:
    """Return upper limit on the POI expected without signal, at CLs = ``level`` (``expected_upper_limit``).

    ``band``: edge of the expected band in sigma, 0 the median, 2 the weakest limit that 2 sigma of background may
    give. At the edge: not converged where the limit is beyond the POI's bounds.
    """
    model, templates = inputs.fit
    poi_of(model, "objective 'upper_limit'")
    bands = np.array([-float(options.band)])
    limit = expected_upper_limit(model, templates, level=options.level, bands=bands)
    return without_fit(limit.value[0], limit.converged[0])
