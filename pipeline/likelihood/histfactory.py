"""HistFactory's log-density in JAX, with the templates as arguments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pipeline.likelihood.checks import validate
from pipeline.likelihood.interpolation import FACTORS, SHIFTS, code4_coefficients
from pipeline.likelihood.layout import ConstraintLayout, Rows, TemplateLayout, build_constraints, build_layout
from pipeline.likelihood.multipliers import Multipliers, build_multipliers
from pipeline.likelihood.paramsets import Modifiers, parameters_of
from pipeline.likelihood.stacked import DenseTemplates, StackedTemplates, Stacking
from pipeline.likelihood.terms import (
    constraint_logpdf,
    constraint_values,
    poisson_logpdf,
    relative_uncertainty,
    with_fixed_bins,
)
from pipeline.likelihood.workspace import (
    JsonObject,
    Specification,
    Workspace,
    codes_of,
    measurement_of,
    observations_of,
    read_workspace,
    templates_from_workspace,
)

AnyTemplates = StackedTemplates | DenseTemplates | Specification  # the last keyed by names


class HistFactory(eqx.Module):
    """The density of data given parameters and templates: HistFactory (CERN-OPEN-2012-016) as in pyhf.

    ``L = prod_b Pois(n_b | sum_s F_sb (T_sb + Delta_sb)) prod_j c_j(a_j | theta_j)`` with the product F of
    all multiplying modifiers and the sum Delta of the histosys (eq. 1 of the pyhf documentation). Parameters
    and data are flat vectors in pyhf's order, data = bins of the channels (sorted by name), then auxdata.
    ``templates`` arguments default to the workspace's values and may be traced; a gradient reaches every
    number in them. They are stacked arrays, or the same numbers keyed by the names of the specification.

    The structure (names, order, which modifier acts where) is that of the workspace. Which bin-by-bin
    parameters are fixed because their uncertainty is zero follows the templates instead, see
    ``fixed_parameters``, so a model always equals the pyhf model rebuilt from the same numbers; ``fixed`` is
    the mask of the default templates.
    """

    initial: Float[Array, " params"]
    bounds: Float[Array, "params 2"]
    fixed: Bool[Array, " params"]
    templates: StackedTemplates | None
    observations: Float[Array, " bins"] | None
    layout: TemplateLayout
    multiplying: Multipliers
    constraints: ConstraintLayout
    configured_fixed: Bool[Array, " params"]
    parameter_names: tuple[str, ...] = eqx.field(static=True)
    kinds: tuple[str, ...] = eqx.field(static=True)
    bins: tuple[int, ...] = eqx.field(static=True)
    stacking: Stacking = eqx.field(static=True)
    poi_index: int | None = eqx.field(static=True)
    codes: tuple[str, str] = eqx.field(static=True)

    @classmethod
    def from_workspace(
        cls,
        workspace: Workspace | str | Path,
        measurement: str | None = None,
        *,
        poi: str | None = None,
        modifier_settings: Mapping[str, Mapping[str, str]] | None = None,
        constraint_widths: Mapping[str, float | None] | None = None,
        check: bool = True,
    ) -> "HistFactory":
        """Return the model of a measurement (None: the first) of a pyhf workspace, given as mapping or path.

        ``poi`` replaces the measurement's own. ``modifier_settings`` are pyhf's, the interpolation codes of normsys
        (``code1``, ``code4``) and histosys (``code0``, ``code2``, ``code4p``): absent, the last of each.
        ``constraint_widths`` changes Gaussian constraint terms, by the parameter's name: another width in the
        parameter's own units, or None for no constraint at all. pyhf has no such thing; data keep the auxiliary
        measurements of pyhf's order, a switched-off one is ignored. ``check``: by pyhf's schema; for a workspace that
        is known to be right, False saves the time.
        """
        content = read_workspace(workspace)
        if check:
            validate(content)
        templates = templates_from_workspace(content)
        return cls.from_templates(
            templates,
            measurement_of(content, measurement)["config"],
            poi=poi,
            observations=observations_of(
                content,
                {
                    channel: len(next(iter(own.values()))["data"])
                    for channel, own in sorted(templates.items())
                },
            ),
            modifier_settings=modifier_settings,
            constraint_widths=constraint_widths,
        )

    @classmethod
    def from_templates(
        cls,
        templates: Specification,
        measurement: JsonObject,
        *,
        poi: str | None = None,
        observations: Float[Array, " bins"] | None = None,
        modifier_settings: Mapping[str, Mapping[str, str]] | None = None,
        constraint_widths: Mapping[str, float | None] | None = None,
        is_structure: bool = False,
    ) -> "HistFactory":
        """Return the model of templates keyed by names (``templates_from_workspace``) and a measurement's ``config``.

        ``is_structure``: only names and shapes mean something; the model then has no templates of its own.
        """
        modifiers = Modifiers(templates)
        parameters = parameters_of(modifiers, measurement.get("parameters", []), constraint_widths or {})
        names = Rows(modifiers, parameters)
        named = measurement["poi"] if poi is None else poi
        with jax.ensure_compile_time_eval():  # structure, also where the templates are traced
            constraints = build_constraints(modifiers, names, parameters)
        configured = jnp.asarray(np.asarray([f for p in parameters for f in p.fixed], dtype=bool))
        stacking, stacked, fixed = Stacking(modifiers, names), None, configured
        initial = _values([p.inits for p in parameters])
        if not is_structure:
            stacked = stacking.stacked(templates)
            _, valid = relative_uncertainty(constraints, stacked.uncertainties, stacked.nominal)
            fixed = with_fixed_bins(configured, constraints, valid)
        return cls(
            initial=initial,
            bounds=_values([p.bounds for p in parameters]),
            fixed=fixed,
            templates=stacked,
            observations=observations,
            layout=build_layout(modifiers, names, named or None),
            multiplying=build_multipliers(modifiers, names, np.asarray(constraints.parameter), initial),
            constraints=constraints,
            configured_fixed=configured,
            parameter_names=tuple(label for p in parameters for label in p.labels),
            kinds=modifiers.kinds,
            bins=tuple(modifiers.bins.values()),
            stacking=stacking,
            poi_index=names.poi_index(named, parameters),
            codes=codes_of(modifier_settings or {}),
        )

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in the order of the bins."""
        return self.stacking.names.channels

    @property
    def samples(self) -> tuple[str, ...]:
        """Names of the samples, in the order of the rows."""
        return self.stacking.names.samples

    def dense(self, templates: AnyTemplates | None = None) -> DenseTemplates:
        """Return the arrays that the likelihood needs; dense templates pass through."""
        if isinstance(templates, DenseTemplates):
            return templates
        found, layout = self.stacked(templates), self.layout
        rows = found.nominal[layout.shape_sample]
        factors = jnp.where(layout.norm_acts[None], found.factors, 1.0)
        width, auxdata, valid = constraint_values(self.constraints, found)
        return DenseTemplates(
            nominal=found.nominal,
            mean=jnp.where(layout.shape_acts, 0.5 * (found.high - found.low), 0.0),
            bend=jnp.where(layout.shape_acts, 0.5 * (found.high + found.low) - rows, 0.0),
            factors=factors,
            coefficients=code4_coefficients(factors[0], factors[1]),
            width=width,
            auxdata=auxdata,
            valid=valid,
        )

    def stacked(self, templates: StackedTemplates | Specification | None = None) -> StackedTemplates:
        """Return templates as stacked arrays, the model's own where none are given."""
        if isinstance(templates, StackedTemplates):
            return templates
        if templates is not None:
            return self.stacking.stacked(templates)
        if self.templates is None:
            raise ValueError("model: it has no templates of its own; give some")
        return self.templates

    def fixed_parameters(self, templates: AnyTemplates | None = None) -> Bool[Array, " params"]:
        """Return parameters that a fit leaves alone: configured so, or bin-by-bin with an uncertainty of zero."""
        return with_fixed_bins(self.configured_fixed, self.constraints, self.dense(templates).valid)

    def auxdata(self, templates: AnyTemplates | None = None) -> Float[Array, " auxdata"]:
        """Return auxiliary measurements; those of a shapesys, ``(n / u)^2``, follow the templates."""
        return self.dense(templates).auxdata

    def data(self, templates: AnyTemplates | None = None) -> Float[Array, " data"]:
        """Return the workspace's observed yields, then the auxiliary measurements."""
        if self.observations is None:
            raise ValueError(
                f"model: no observations for channels {self.channels}; add them to the workspace"
            )
        return jnp.concatenate([self.observations, self.auxdata(templates)])

    def expected_by_sample(
        self, parameters: Float[Array, " params"], templates: AnyTemplates | None = None
    ) -> Float[Array, "samples bins"]:
        """Return expected yields of every sample, ``F_sb (T_sb + Delta_sb)``."""
        dense = self.dense(templates)
        factors = self.product(self.factors(parameters, dense))[:, self.layout.channel]
        content = dense.nominal + self.sum(self.shifts(parameters[self.layout.shape_parameter], dense))
        return factors * self.multipliers(parameters) * content

    def factors(
        self, parameters: Float[Array, " params"], dense: DenseTemplates
    ) -> Float[Array, "rows channels"]:
        """Return the channel-wide factors: rows of the normsys, then of lumi and normfactor, then of coefficients."""
        values = parameters[self.multiplying.factor_parameter][:, None]
        norms = dense.factors.shape[1]
        of_norms = FACTORS[self.codes[0]](values[:norms], *dense.factors, dense.coefficients)
        return jnp.concatenate([of_norms, self.multiplying.others(values[norms:])])

    def product(self, factors: Float[Array, "rows channels"]) -> Float[Array, "samples channels"]:
        """Return the product of the rows of each sample; 1 without any."""
        one = jnp.ones((1, factors.shape[1]), dtype=factors.dtype)
        return jnp.prod(jnp.concatenate([factors, one])[self.multiplying.factor_rows], axis=1)

    def coefficients(
        self, alpha: Float[Array, "*shapes"]
    ) -> tuple[Float[Array, "*shapes"], Float[Array, "*shapes"]]:
        """Return the factors of a histosys' ``mean`` and ``bend``, ``alpha`` the parameter of each row."""
        code, one = SHIFTS[self.codes[1]], jnp.ones_like(alpha)
        return code(alpha, one, one), code(alpha, one, -one)

    def shifts(self, alpha: Float[Array, " shapes"], dense: DenseTemplates) -> Float[Array, "shapes bins"]:
        """Return additions of the histosys, ``alpha`` the parameter of each row."""
        return dense.shifts(*self.coefficients(alpha))

    def sum(self, shifts: Float[Array, "shapes bins"]) -> Float[Array, "samples bins"]:
        """Return the sum of the rows of each sample."""
        found: Float[Array, "samples bins"] = jax.ops.segment_sum(
            shifts, self.layout.shape_sample, self.layout.signal.shape[0], indices_are_sorted=True
        )
        return found

    def multipliers(self, parameters: Float[Array, " params"]) -> Float[Array, "samples bins"]:
        """Return the product of the bin-by-bin factors of each sample."""
        padded = jnp.concatenate([parameters, jnp.ones(1, dtype=parameters.dtype)])
        gammas = jnp.where(self.multiplying.gamma_acts, padded[self.multiplying.gamma][:, None], 1.0)
        return jnp.prod(jnp.concatenate([padded[self.multiplying.free], gammas]), axis=0)

    def expected_data(
        self,
        parameters: Float[Array, " params"],
        templates: AnyTemplates | None = None,
        include_auxdata: bool = True,
    ) -> Float[Array, " data"]:
        """Return expected yields of all bins, then expected auxiliary measurements (pyhf's ``expected_data``)."""
        dense = self.dense(templates)
        main = jnp.sum(self.expected_by_sample(parameters, dense), axis=0)
        if not include_auxdata:
            return main
        constrained = parameters[self.constraints.parameter]
        auxiliary = jnp.where(self.constraints.is_poisson, constrained * dense.width, constrained)
        return jnp.concatenate([main, auxiliary])

    def logpdf(
        self,
        parameters: Float[Array, " params"],
        data: Float[Array, " data"],
        templates: AnyTemplates | None = None,
    ) -> Float[Array, ""]:
        """Return ``ln L``: Poisson terms of the bins, then the constraint terms (pyhf's ``Model.logpdf``).

        At the edge: ``-inf`` where a bin with observed events has no expected ones, see ``poisson_logpdf``.
        """
        dense = self.dense(templates)
        rates = self.expected_data(parameters, dense, include_auxdata=False)
        main = jnp.sum(poisson_logpdf(data[: rates.size], rates))
        return main + jnp.sum(self.constraint_logpdf(parameters, data[rates.size :], dense))

    def constraint_logpdf(
        self, parameters: Float[Array, " params"], auxdata: Float[Array, " auxdata"], dense: DenseTemplates
    ) -> Float[Array, " auxdata"]:
        """Return ``ln c_j(a_j | theta_j)`` of every constraint term; 0 for one that is switched off."""
        values = parameters[self.constraints.parameter]
        return constraint_logpdf(self.constraints, values, auxdata, dense.width)


def _values(groups: list[Any]) -> Float[Array, "..."]:
    """Return one row per parameter component."""
    return jnp.asarray(np.asarray([value for group in groups for value in group], dtype=np.float64))
