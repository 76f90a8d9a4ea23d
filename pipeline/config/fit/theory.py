"""Section of the coefficients of a theory: parameters of the fit in which templates are polynomials of degree 2.

With c the coefficients less their nominal values, ``T(c) = T_0 + sum_i c_i T_i + sum_(i<=j) c_i c_j T_ij``. The index
of T names its monomial, ``c_w`` or ``c_w*c_b``; the templates of all but T_0 are further rows, named with an ``@``.
"""

import itertools
from collections.abc import Iterable, Sequence

import pydantic
from pydantic import Field

from pipeline.config.fit.factors import GROUP, require_inside
from pipeline.config.fit.systematics import NormPlusShapeSystematic, Systematic
from pipeline.config.section import Name, Section

Monomial = tuple[str, ...]  # the coefficients that are multiplied, one of them twice for its square
OF = "@"  # between the name of a sample or a variation and that of a monomial


class TheoryCoefficient(Section):
    """A coefficient of the theory, in which the templates of some samples are polynomials of degree 2."""

    name: Name = Field(description="name of the parameter: one of the analysis's `theory`")
    samples: tuple[Name, ...] = Field(min_length=1, description="samples whose events depend on it")
    nominal: float = Field(
        default=0.0,
        description="start value, the value in Asimov data and the one where weights are those of the events; inside "
        "`bounds`, and the analysis's own",
    )
    bounds: tuple[float, float] = Field(
        description="bounds of the fit, lower first; inside the range in which the analysis says the polynomial holds"
    )
    group: str | None = Field(default=None, min_length=1, description=GROUP)

    @pydantic.model_validator(mode="after")
    def _inside(self) -> "TheoryCoefficient":
        require_inside(self.nominal, self.bounds)
        return self


def monomials(coefficients: Iterable[str]) -> tuple[Monomial, ...]:
    """Return the monomials of degree 1 and 2 of some coefficients, in the order of their names."""
    names = sorted(coefficients)
    return tuple(m for degree in (1, 2) for m in itertools.combinations_with_replacement(names, degree))


def component(name: str, monomial: Monomial) -> str:
    """Return the name of the templates that a monomial multiplies, of a sample or a variation."""
    return f"{name}{OF}{'*'.join(monomial)}"


def whole(name: str) -> str:
    """Return the sample, or variation, that something is a component of, or is itself."""
    return name.partition(OF)[0]


def is_component(name: str) -> bool:
    """Return whether a name is that of a component."""
    return OF in name


def coefficients_of(theory: Sequence[TheoryCoefficient], sample: str) -> tuple[str, ...]:
    """Return the coefficients on which a sample depends."""
    return tuple(entry.name for entry in theory if sample in entry.samples)


def require_linear(theory: Sequence[TheoryCoefficient], systematics: Sequence[Systematic]) -> None:
    """Raise where the templates of a systematic are made in a way that is not linear in the events' weights.

    Raises:
        ValueError: which, and what to do.
    """
    touched = sorted({sample for entry in theory for sample in entry.samples})
    for own in systematics:
        shared = [sample for sample in touched if own.acts_on(sample)]
        if isinstance(own, NormPlusShapeSystematic) and shared:
            bent = "smoothing" if own.smoothing is not None else "symmetrise: largest"
            if own.smoothing is not None or own.symmetrise == "largest":
                raise ValueError(
                    f"systematic {own.name!r} has {bent}, and sample {shared[0]!r} depends on model.theory "
                    f"{coefficients_of(theory, shared[0])[0]!r}: its templates are polynomials only where they are "
                    "linear in the weights; remove it, or take symmetrise: average"
                )
