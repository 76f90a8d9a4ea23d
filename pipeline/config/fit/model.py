"""Section of the statistical model: what it is made of, and what follows from that."""

from pathlib import Path

import pydantic
from pydantic import Field

from pipeline.config import targets
from pipeline.config.fit.abcd import Abcd
from pipeline.config.fit.correlations import Correlation, loadings
from pipeline.config.fit.factors import NormFactor, ShapeFactor, ShapeUncertainty
from pipeline.config.fit.systematics import (
    NormalizationSystematic,
    NormPlusShapeSystematic,
    Pruning,
    Systematic,
)
from pipeline.config.fit.theory import TheoryCoefficient, require_linear
from pipeline.config.section import Section

LUMINOSITY = "lumi"
"""The parameter of the luminosity, in pyhf's vocabulary."""
DATA_STATISTICS = "data_statistics"
"""The group of the data themselves: of the counts in the bins."""
MC_STATISTICS = "mc_statistics"
"""The group of the simulated events: of ``staterror``."""
RESERVED = (LUMINOSITY, DATA_STATISTICS, MC_STATISTICS, "staterror")


class Model(Section):
    """The statistical model, in words of cabinetry and pyhf. A run without one has an objective that needs no fit."""

    poi: str = Field(default="", description="parameter of interest: one of the norm factors, or of `theory`")
    further_pois: tuple[str, ...] = Field(
        default=(),
        description="other norm factors, or coefficients of `theory`, of interest: evaluation and report have the "
        "uncertainty of each, and contours of each pair; pyhf knows `poi` alone",
    )
    normfactors: tuple[NormFactor, ...] = Field(default=(), description="free normalisations, at least one")
    theory: tuple[TheoryCoefficient, ...] = Field(
        default=(),
        description="coefficients of the analysis's `theory`, free parameters in which templates are polynomials; pyhf "
        "cannot say them: the project's own likelihood judges, and pyhf is compared at fixed coefficients",
    )
    systematics: tuple[Systematic, ...] = Field(default=(), description="constrained nuisance parameters")
    shapefactors: tuple[ShapeFactor, ...] = Field(default=(), description="free factors of every bin")
    shape_uncertainties: tuple[ShapeUncertainty, ...] = Field(
        default=(), description="uncertainties of every bin, none correlated with another"
    )
    abcd: tuple[Abcd, ...] = Field(default=(), description="backgrounds estimated from data in four channels")
    correlations: tuple[Correlation, ...] = Field(
        default=(),
        description="between systematics; pyhf has the independent parameters that these are sums of",
    )
    pruning: Pruning = Field(
        default=Pruning(),
        description="which parts of the systematics are too small to be kept (docs/model.md)",
    )
    luminosity_uncertainty: float | None = Field(
        default=None,
        ge=1e-6,
        description="relative; adds pyhf's `lumi` modifier to every sample, but not to those of `abcd` in its channels",
    )
    luminosity_group: str | None = Field(
        default=None, min_length=1, description="the `group` of that parameter"
    )
    mc_statistics: bool = Field(
        default=True, description="one `staterror` parameter per bin, in the group `mc_statistics`"
    )
    joined: Path | None = Field(
        default=None,
        alias="with",
        description="JSON of a pyhf workspace whose channels join the fit as they are, their parameters shared by "
        "name with the run's; relative to the working directory, else to this file",
    )
    pseudodata: dict[str, float] = Field(
        default={},
        description="data for a fit of all events: factor on each sample, `process` or `process__variation`; the "
        "optimisation never sees them. Absent: no such fit",
    )

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "Model":
        words = (*self.systematics, *self.shapefactors, *self.shape_uncertainties)
        names = (
            [own.name for own in self.may_be_poi]
            + [word.name for word in words]
            + [name for own in self.abcd for name in own.names]
        )
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            raise ValueError(f"parameter names must differ; repeated: {repeated}")
        reserved = [n for n in names if n in RESERVED or n.startswith("staterror_")]
        if reserved:
            raise ValueError(
                f"parameter name {reserved[0]!r} is taken by luminosity, MC statistics and the groups of events; "
                "choose another"
            )
        if not self.model_fields_set:
            return self
        of_theory = [own.name for own in self.theory]
        if self.poi not in names[: len(self.may_be_poi)]:
            raise ValueError(
                f"poi {self.poi!r} is not one of the normfactors {names[: len(self.normfactors)]}"
                + (f" and of theory {of_theory}" if self.theory else "")
            )
        require_linear(self.theory, self.systematics)
        if self.theory and self.is_pruned:
            raise ValueError(
                f"pruning with theory {self.theory[0].name!r}: a part of a systematic may be small at the nominal "
                "coefficients and large at others; remove the thresholds"
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
    def joined_digest(self) -> str | None:
        """Fingerprint of the workspace that joins the fit, None without one.

        Raises:
            ConfigError: there is no such file.
        """
        return None if self.joined is None else targets.digest_of_file(self.joined, "model.with")

    @property
    def pois(self) -> tuple[str, ...]:
        """All parameters of interest, pyhf's first."""
        return (self.poi, *self.further_pois)

    @property
    def has_workspace(self) -> bool:
        """Whether a pyhf workspace can say what it is."""
        return self.is_fitted and not self.constraint_widths and not self.theory

    @property
    def parameter_names(self) -> set[str]:
        """Names of the parameters of the fit but those of single bins."""
        named = {n.name for n in self.free_parameters} | {s.name for s in self.every_systematic}
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
        return self.parameter_names - {n.name for n in self.free_parameters} - free

    @property
    def loadings(self) -> dict[str, dict[str, float]]:
        """The coefficients of the parameters that each systematic is the sum of; none where none are correlated."""
        return loadings([s.name for s in self.systematics], self.correlations) if self.correlations else {}

    @property
    def free_factors(self) -> tuple[NormFactor, ...]:
        """The norm factors, and those of `abcd`."""
        return (*self.normfactors, *(factor for own in self.abcd for factor in own.normfactors))

    @property
    def free_parameters(self) -> tuple[NormFactor | TheoryCoefficient, ...]:
        """The norm factors, those of `abcd` too, and the coefficients of the theory."""
        return (*self.free_factors, *self.theory)

    @property
    def may_be_poi(self) -> tuple[NormFactor | TheoryCoefficient, ...]:
        """The norm factors that the configuration names, and the coefficients of the theory."""
        return (*self.normfactors, *self.theory)

    @property
    def is_of_theory(self) -> bool:
        """Whether the parameter of interest is a coefficient of the theory, which is no signal strength."""
        return self.poi in {entry.name for entry in self.theory}

    @property
    def free_shapes(self) -> tuple[ShapeFactor, ...]:
        """The factors of bins, and those of `abcd`."""
        return (*self.shapefactors, *(factor for own in self.abcd for factor in own.shapefactors))

    @property
    def every_systematic(self) -> tuple[NormalizationSystematic | NormPlusShapeSystematic, ...]:
        """The systematic uncertainties, and those of the closure of `abcd`."""
        return (*self.systematics, *(_closure(own) for own in self.abcd if own.closure_uncertainty))

    def affects(
        self,
        systematic: NormalizationSystematic | NormPlusShapeSystematic,
        sample: str,
        channel: str | None = None,
    ) -> bool:
        """Return whether a systematic affects a sample, in a channel or (None) in any.

        A sample that is estimated from data must be named by it.
        """
        named = systematic.samples is not None or not self.estimate_of(sample, channel)
        return named and systematic.acts_on(sample, channel)

    def thresholds(
        self, systematic: NormalizationSystematic | NormPlusShapeSystematic
    ) -> tuple[float, float]:
        """Return below which relative change yield and shape of a systematic are left out; 0: they never are.

        That of the closure of `abcd`, and one whose constraint term has another width than 1, is never.
        """
        if systematic.constraint_width != 1.0:
            return 0.0, 0.0
        own, common = systematic.pruning or Pruning(), self.pruning
        chosen = (
            (common.normalisation if own.normalisation is None else own.normalisation),
            (common.shape if own.shape is None else own.shape),
        )
        return chosen[0] or 0.0, chosen[1] or 0.0

    @property
    def is_pruned(self) -> bool:
        """Whether any part of a systematic may be left out."""
        return any(limit > 0 for own in self.systematics for limit in self.thresholds(own))

    def estimate_of(self, sample: str, channel: str | None) -> Abcd | None:
        """Return what estimates a sample in a channel from data, if anything does."""
        return next(
            (own for own in self.abcd if channel is not None and own.estimates(sample, channel)), None
        )

    def is_simulated(self, sample: str, channel: str) -> bool:
        """Return whether the MC statistics of a sample in a channel are in `staterror`."""
        estimate = self.estimate_of(sample, channel)
        own = [u for u in self.shape_uncertainties if u.is_statistical and u.acts_on(sample, channel)]
        return self.mc_statistics and not own and (estimate is None or estimate.needs_simulation)


def _closure(own: Abcd) -> NormalizationSystematic:
    """Return the uncertainty of an estimate in the signal region."""
    size = own.closure_uncertainty or 0.0
    return NormalizationSystematic(
        name=own.closure,
        type="Normalization",
        up=size,
        down=-size,
        samples=own.samples,
        channels=(own.signal,),
        group=own.name,
        pruning=Pruning(normalisation=0.0),
    )
