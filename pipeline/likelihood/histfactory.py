"""HistFactory's log-density in JAX, with the templates as arguments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pipeline.containers import Specification
from pipeline.likelihood.interpolation import FACTORS, SHIFTS, code4_coefficients
from pipeline.likelihood.layout import (
    ConstraintLayout,
    DenseAxes,
    TemplateLayout,
    build_constraints,
    build_layout,
    flat_templates,
)
from pipeline.likelihood.paramsets import Parameter, bins_of, parameters_of
from pipeline.likelihood.terms import normal_logpdf, poisson_logpdf, relative_uncertainty
from pipeline.likelihood.workspace import (
    Workspace,
    codes_of,
    measurement_of,
    observations_of,
    read_workspace,
    templates_from_workspace,
    validate,
)


class DenseTemplates(eqx.Module):
    """The templates as the arrays of the likelihood: gathered once, then used by every step of a fit.

    ``up`` and ``down`` are the histosys differences to the nominal; ``factors`` the normsys hi and lo and
    ``coefficients`` their code-4 polynomials; ``width`` the Gaussian sigma or Poisson factor of each
    constraint; ``valid`` whether a bin-by-bin uncertainty is above zero.
    """

    nominal: Float[Array, "samples bins"]
    up: Float[Array, "histosys samples bins"]
    down: Float[Array, "histosys samples bins"]
    factors: Float[Array, "sides normsys samples channels"]
    coefficients: Float[Array, "powers normsys samples channels"]
    width: Float[Array, " auxdata"]
    auxdata: Float[Array, " auxdata"]
    valid: Bool[Array, " auxdata"]


class HistFactory(eqx.Module):
    """The density of data given parameters and templates: HistFactory (CERN-OPEN-2012-016) as in pyhf.

    ``L = prod_b Pois(n_b | sum_s F_sb (T_sb + Delta_sb)) prod_j c_j(a_j | theta_j)`` with the product F of
    all multiplying modifiers and the sum Delta of the histosys (eq. 1 of the pyhf documentation). Parameters
    and data are flat vectors in pyhf's order, data = bins of the channels (sorted by name), then auxdata.
    ``templates`` arguments default to the workspace's values and may be traced; a gradient reaches every
    number in them.

    The structure (names, order, which modifier acts where) is that of the workspace. Which bin-by-bin
    parameters are fixed because their uncertainty is zero follows the templates instead, see
    `fixed_parameters`, so a model always equals the pyhf model rebuilt from the same numbers; ``fixed`` is
    the mask of the default templates.
    """

    initial: Float[Array, " params"]
    bounds: Float[Array, "params 2"]
    fixed: Bool[Array, " params"]
    templates: Specification
    observations: Float[Array, " bins"] | None
    layout: TemplateLayout
    constraints: ConstraintLayout
    configured_fixed: Bool[Array, " params"]
    parameter_names: tuple[str, ...] = eqx.field(static=True)
    channels: tuple[str, ...] = eqx.field(static=True)
    samples: tuple[str, ...] = eqx.field(static=True)
    bins: tuple[int, ...] = eqx.field(static=True)
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
        """The model of a measurement (None: the first) of a pyhf workspace, given as mapping or path.

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
        config = measurement_of(content, measurement)["config"]
        templates = templates_from_workspace(content)
        parameters = parameters_of(templates, config.get("parameters", []), constraint_widths or {})
        axes = DenseAxes(templates, parameters)
        named = config["poi"] if poi is None else poi
        layout = build_layout(templates, axes, named or None)
        constraints = build_constraints(templates, axes, parameters)
        configured = jnp.asarray(np.asarray([f for p in parameters for f in p.fixed], dtype=bool))
        # NumPy here: eager JAX would compile a concatenation of hundreds of arrays
        numbers = np.concatenate([[0.0, 1.0], *(np.ravel(leaf) for leaf in jax.tree.leaves(templates))])
        _, valid = relative_uncertainty(constraints, jnp.asarray(numbers))
        return cls(
            initial=_values([p.inits for p in parameters]),
            bounds=_values([p.bounds for p in parameters]),
            fixed=_with_fixed_bins(configured, constraints, valid),
            templates=templates,
            observations=observations_of(content, {c: bins_of(templates, c) for c in axes.channels}),
            layout=layout,
            constraints=constraints,
            configured_fixed=configured,
            parameter_names=tuple(label for p in parameters for label in p.labels),
            channels=tuple(axes.channels),
            samples=tuple(axes.samples),
            bins=tuple(bins_of(templates, channel) for channel in axes.channels),
            poi_index=_poi_index(named, parameters, axes),
            codes=codes_of(modifier_settings or {}),
        )

    def dense(self, templates: Specification | DenseTemplates | None = None) -> DenseTemplates:
        """The arrays of the likelihood; already dense templates pass through."""
        if isinstance(templates, DenseTemplates):
            return templates
        templates = self.templates if templates is None else templates
        self._check(templates)
        flat = flat_templates(templates, self.initial.dtype)
        nominal, (up, down) = flat[self.layout.nominal], flat[self.layout.histosys]
        factors = flat[self.layout.normsys]
        width, auxdata, valid = self._constraint_terms(flat)
        return DenseTemplates(
            nominal=nominal,
            up=up - nominal[None],
            down=nominal[None] - down,
            factors=factors,
            coefficients=code4_coefficients(factors[0], factors[1]),
            width=width,
            auxdata=auxdata,
            valid=valid,
        )

    def _check(self, templates: Specification) -> None:
        """Refuse templates of another structure than the workspace's."""
        theirs: Any = jax.tree.structure(templates)
        if theirs == jax.tree.structure(self.templates):
            shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(templates)]
            if shapes == [jnp.shape(leaf) for leaf in jax.tree.leaves(self.templates)]:
                return
        different = sorted(_places_of(self.templates) ^ _places_of(templates))
        raise ValueError(
            f"templates: {len(different)} entries differ from the workspace in name or shape, first "
            f"{different[:4]}; give the numbers of the same channels, samples, modifiers and bins"
        )

    def _constraint_terms(
        self, flat: Float[Array, " numbers"]
    ) -> tuple[Float[Array, " auxdata"], Float[Array, " auxdata"], Bool[Array, " auxdata"]]:
        """Width (sigma, or Poisson factor 1 / sigma^2), auxdata and validity of every constraint."""
        terms = self.constraints
        relative, valid = relative_uncertainty(terms, flat)
        from_templates = jnp.where(terms.is_poisson, 1.0 / relative**2, relative)
        width = jnp.where(terms.follows_width, from_templates, terms.width)
        auxdata = jnp.where(terms.follows_auxdata, from_templates, terms.auxdata)
        return width, auxdata, valid

    def fixed_parameters(
        self, templates: Specification | DenseTemplates | None = None
    ) -> Bool[Array, " params"]:
        """Parameters that a fit leaves alone: configured so, or bin-by-bin with an uncertainty of zero."""
        return _with_fixed_bins(self.configured_fixed, self.constraints, self.dense(templates).valid)

    def auxdata(self, templates: Specification | DenseTemplates | None = None) -> Float[Array, " auxdata"]:
        """Auxiliary measurements; those of a shapesys, ``(n / u)^2``, follow the templates."""
        return self.dense(templates).auxdata

    def data(self, templates: Specification | DenseTemplates | None = None) -> Float[Array, " data"]:
        """The workspace's observed yields, then the auxiliary measurements."""
        if self.observations is None:
            raise ValueError(
                f"model: no observations for channels {self.channels}; add them to the workspace"
            )
        return jnp.concatenate([self.observations, self.auxdata(templates)])

    def expected_by_sample(
        self, parameters: Float[Array, " params"], templates: Specification | DenseTemplates | None = None
    ) -> Float[Array, "samples bins"]:
        """Expected yields of every sample, ``F_sb (T_sb + Delta_sb)``."""
        dense = self.dense(templates)
        factors = jnp.prod(self.factors(parameters[self.layout.normsys_parameter], dense), axis=0)
        shifts = jnp.sum(self.shifts(parameters[self.layout.histosys_parameter], dense), axis=0)
        multipliers = jnp.prod(self.multipliers(parameters), axis=0)
        return factors[:, self.layout.channel] * multipliers * (dense.nominal + shifts)

    def factors(
        self, alpha: Float[Array, " normsys"], dense: DenseTemplates
    ) -> Float[Array, "normsys samples channels"]:
        """Factors of the normsys."""
        code = FACTORS[self.codes[0]]
        return code(alpha[:, None, None], dense.factors[0], dense.factors[1], dense.coefficients)

    def shifts(
        self, alpha: Float[Array, " histosys"], dense: DenseTemplates
    ) -> Float[Array, "histosys samples bins"]:
        """Additions of the histosys."""
        return SHIFTS[self.codes[1]](alpha[:, None, None], dense.up, dense.down)

    def multipliers(self, parameters: Float[Array, " params"]) -> Float[Array, "factors samples bins"]:
        """Parameters that multiply each bin of each sample; 1 where there are fewer."""
        one = jnp.ones(1, dtype=parameters.dtype)
        return jnp.concatenate([parameters, one])[self.layout.multipliers]

    def expected_data(
        self,
        parameters: Float[Array, " params"],
        templates: Specification | DenseTemplates | None = None,
        include_auxdata: bool = True,
    ) -> Float[Array, " data"]:
        """Expected yields of all bins, then expected auxiliary measurements (pyhf's ``expected_data``)."""
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
        templates: Specification | DenseTemplates | None = None,
    ) -> Float[Array, ""]:
        """``ln L``: Poisson terms of the bins, then the constraint terms (pyhf's ``Model.logpdf``).

        At the edge: ``-inf`` where a bin with observed events has no expected ones, see `poisson_logpdf`.
        """
        dense = self.dense(templates)
        rates = self.expected_data(parameters, dense, include_auxdata=False)
        main = jnp.sum(poisson_logpdf(data[: rates.size], rates))
        return main + jnp.sum(self.constraint_logpdf(parameters, data[rates.size :], dense))

    def constraint_logpdf(
        self, parameters: Float[Array, " params"], auxdata: Float[Array, " auxdata"], dense: DenseTemplates
    ) -> Float[Array, " auxdata"]:
        """``ln c_j(a_j | theta_j)`` of every constraint term; 0 for one that is switched off."""
        terms, values = self.constraints, parameters[self.constraints.parameter]
        sigma = jnp.where(terms.is_poisson, 1.0, dense.width)
        where = terms.poisson
        poisson = poisson_logpdf(auxdata[where], (values * dense.width)[where])
        both = normal_logpdf(auxdata, values, sigma).at[where].set(poisson)
        return jnp.where(terms.is_on, both, 0.0)


def _values(groups: list[Any]) -> Float[Array, "..."]:
    """One row per parameter component."""
    return jnp.asarray(np.asarray([value for group in groups for value in group], dtype=np.float64))


def _with_fixed_bins(
    configured: Bool[Array, " params"], terms: ConstraintLayout, valid: Bool[Array, " auxdata"]
) -> Bool[Array, " params"]:
    """The configured mask, plus bin-by-bin parameters without a valid uncertainty (pyhf's ``fixed``)."""
    return configured.at[terms.parameter].set(configured[terms.parameter] | (terms.follows_fixed & ~valid))


def _poi_index(name: str, parameters: tuple[Parameter, ...], axes: DenseAxes) -> int | None:
    """Place of the POI; None when the measurement names none."""
    if not name:
        return None
    sizes = {p.name: p.size for p in parameters}
    if sizes.get(name) != 1:
        raise ValueError(
            f"measurement: POI '{name}' has {sizes.get(name, 0)} components in the model, allowed is "
            f"exactly 1; name one of {sorted(n for n, size in sizes.items() if size == 1)}"
        )
    return axes.first[name]


def _places_of(templates: Specification) -> set[tuple[str, str]]:
    """Path and shape of every entry, for error messages."""
    leaves = jax.tree.leaves_with_path(templates)
    return {(jax.tree_util.keystr(path), str(jnp.shape(leaf))) for path, leaf in leaves}
