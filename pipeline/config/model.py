"""Sections of the statistical model: normalisations, systematic uncertainties."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from pipeline.config.section import Name, Section

LUMINOSITY = "lumi"
"""The parameter of the luminosity, in pyhf's vocabulary."""
GROUP = "the group whose part of the uncertainty it is in the breakdown; absent: one of its own name"


class NormFactor(Section):
    """A free normalisation of some samples."""

    name: str = Field(min_length=1, description="name of the parameter")
    samples: tuple[Name, ...] = Field(min_length=1, description="samples it scales")
    nominal: float = Field(
        default=1.0, description="start value, and the value in Asimov data; inside `bounds`"
    )
    bounds: tuple[float, float] = Field(default=(0.0, 10.0), description="bounds of the fit, lower first")
    group: str | None = Field(default=None, min_length=1, description=GROUP)

    @pydantic.model_validator(mode="after")
    def _inside(self) -> "NormFactor":
        low, high = self.bounds
        if not low < high:
            raise ValueError(f"bounds {list(self.bounds)} must be two ascending numbers")
        if not low <= self.nominal <= high:
            raise ValueError(f"nominal {self.nominal} is outside its bounds {list(self.bounds)}")
        return self


class _Systematic(Section):
    """What systematic uncertainties have in common."""

    name: str = Field(min_length=1, description="name of the nuisance parameter")
    samples: tuple[Name, ...] | None = Field(
        default=None, min_length=1, description="affected samples; absent: all"
    )
    group: str | None = Field(default=None, min_length=1, description=GROUP)
    constraint_width: float | Literal["none"] = Field(
        default=1.0,
        description="standard deviation of its constraint term, `none` for no such term; pyhf knows 1 only: "
        "with anything else the result has no number of pyhf's and no workspace",
    )

    @pydantic.model_validator(mode="after")
    def _positive(self) -> "_Systematic":
        if self.constraint_width != "none" and not self.constraint_width > 0:
            raise ValueError(
                f"constraint_width {self.constraint_width}, allowed is a positive number or 'none'"
            )
        return self


class NormalizationSystematic(_Systematic):
    """A systematic uncertainty that scales samples (pyhf: normsys)."""

    type: Literal["Normalization"] = Field(description="a relative change of the yield")
    up: float = Field(gt=-1, description="relative change at +1 sigma")
    down: float = Field(gt=-1, description="relative change at -1 sigma, of the other sign")
    one_sided: bool = Field(
        default=False,
        description="true: `up` and `down` change the yield to one side, or one of them not at all, and that is meant",
    )

    @pydantic.model_validator(mode="after")
    def _two_sided(self) -> "NormalizationSystematic":
        if self.is_one_sided and not self.one_sided:
            raise ValueError(
                f"up {self.up} and down {self.down} do not change the yield to opposite sides, so that little or "
                "nothing of the uncertainty is left at its nominal value, where fits of Asimov data are; a decrease is "
                "negative, as in up: 0.1, down: -0.1; if it is meant, add one_sided: true"
            )
        if self.one_sided and not self.is_one_sided:
            raise ValueError(
                f"one_sided: true, but up {self.up} and down {self.down} are not on one side; remove it"
            )
        return self

    @property
    def is_one_sided(self) -> bool:
        """Whether the yield changes, but not to both sides."""
        return (self.up, self.down) != (0.0, 0.0) and (
            min(self.up, self.down) >= 0 or max(self.up, self.down) <= 0
        )


class Smoothing(Section):
    """How the noise of simulated events in varied templates is averaged over neighbouring bins."""

    algorithm: Literal["gaussian"] = Field(
        description="the relative change of a bin becomes the mean of those around it, by a Gaussian of their distance"
    )
    width: float = Field(gt=0, le=100, description="standard deviation of the Gaussian, in bins")


class NormPlusShapeSystematic(_Systematic):
    """A systematic uncertainty with templates of its own (pyhf: normsys and histosys of one parameter)."""

    type: Literal["NormPlusShape"] = Field(description="up and down templates")
    up: Name = Field(description="variation of the analysis, or of the manifest, at +1 sigma")
    down: Name | None = Field(
        default=None, description="the same at -1 sigma; absent: `up` mirrored at the nominal"
    )
    symmetrise: Literal["average", "largest", "mirror_up", "mirror_down"] | None = Field(
        default=None,
        description="what takes the place of the two templates, in each bin: nominal plus and minus half of up - down, "
        "the larger of the two changes, that of `up`, that of `down`; absent: they stay as they are",
    )

    smoothing: Smoothing | None = Field(
        default=None,
        description="of the two templates, before `symmetrise`; yields of a channel stay. Absent: none",
    )

    @pydantic.model_validator(mode="after")
    def _two_templates(self) -> "NormPlusShapeSystematic":
        if self.down is None and self.symmetrise not in (None, "mirror_up"):
            raise ValueError(
                f"symmetrise: {self.symmetrise} needs down; without it `up` is mirrored: add down or remove symmetrise"
            )
        if self.down == self.up:
            raise ValueError(
                f"up and down are the same variation {self.up!r}, an uncertainty that vanishes at its nominal value; "
                "remove down, and `up` is mirrored, or correct one of the two"
            )
        return self


Systematic = Annotated[NormalizationSystematic | NormPlusShapeSystematic, Field(discriminator="type")]


class Model(Section):
    """The statistical model, in cabinetry's vocabulary. A run without one has an objective that needs no fit."""

    poi: str = Field(default="", description="parameter of interest: one of the norm factors")
    further_pois: tuple[str, ...] = Field(
        default=(),
        description="other norm factors of interest: evaluation and report have the uncertainty of each, and contours "
        "of each pair; pyhf knows `poi` alone",
    )
    normfactors: tuple[NormFactor, ...] = Field(default=(), description="free normalisations, at least one")
    systematics: tuple[Systematic, ...] = Field(default=(), description="constrained nuisance parameters")
    luminosity_uncertainty: float | None = Field(
        default=None, ge=1e-6, description="relative; adds pyhf's `lumi` modifier to every sample"
    )
    luminosity_group: str | None = Field(
        default=None, min_length=1, description="the `group` of that parameter"
    )
    mc_statistics: bool = Field(
        default=True, description="one `staterror` parameter per bin, in the group `mc_statistics`"
    )
    pseudodata: dict[str, float] = Field(
        default={},
        description="data for a fit of all events: factor on each sample, `process` or `process__variation`; the "
        "optimisation never sees them. Absent: no such fit",
    )

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "Model":
        names = [n.name for n in self.normfactors] + [s.name for s in self.systematics]
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            raise ValueError(f"parameter names must differ; repeated: {repeated}")
        reserved = [n for n in names if n == LUMINOSITY or n.startswith("staterror_")]
        if reserved:
            raise ValueError(
                f"parameter name {reserved[0]!r} is taken by luminosity and MC statistics; choose another"
            )
        if not self.model_fields_set:
            return self
        if self.poi not in names[: len(self.normfactors)]:
            raise ValueError(
                f"poi {self.poi!r} is not one of the normfactors {names[: len(self.normfactors)]}"
            )
        return self

    @pydantic.field_validator("pseudodata", mode="before")
    @classmethod
    def _factors(cls, pseudodata: object) -> object:
        for name, factor in pseudodata.items() if isinstance(pseudodata, dict) else ():
            if isinstance(factor, int | float) and factor < 0:
                raise ValueError(f"factor {factor} of {name!r} must be a number of at least 0")
        if isinstance(pseudodata, dict) and pseudodata and not any(pseudodata.values()):
            raise ValueError(
                "all factors are 0: there would be no data; give one above 0, or leave the key out"
            )
        return pseudodata

    @property
    def is_fitted(self) -> bool:
        """Whether there is a model at all."""
        return bool(self.poi)

    @property
    def pois(self) -> tuple[str, ...]:
        """All parameters of interest, pyhf's first."""
        return (self.poi, *self.further_pois)

    @property
    def has_workspace(self) -> bool:
        """Whether a pyhf workspace can say what it is."""
        return self.is_fitted and not self.constraint_widths

    @property
    def parameter_names(self) -> set[str]:
        """Names of the parameters of the fit but those of single bins."""
        named = {n.name for n in self.normfactors} | {s.name for s in self.systematics}
        return named | ({LUMINOSITY} if self.luminosity_uncertainty is not None else set())

    @property
    def constraint_widths(self) -> dict[str, float | None]:
        """Widths of the constraint terms that are not pyhf's; None for one that is switched off."""
        changed = {s.name: s.constraint_width for s in self.systematics if s.constraint_width != 1.0}
        return {name: None if width == "none" else float(width) for name, width in changed.items()}

    @property
    def constrained_names(self) -> set[str]:
        """Names of the nuisance parameters with a Gaussian constraint term, but those of single bins."""
        free = {s.name for s in self.systematics if s.constraint_width == "none"}
        return self.parameter_names - {n.name for n in self.normfactors} - free
