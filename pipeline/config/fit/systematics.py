"""Sections of systematic uncertainties: of a yield, or with templates of their own."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from pipeline.config.fit.factors import CHANNELS, GROUP, acts
from pipeline.config.section import Name, Section


class Pruning(Section):
    """Parts of systematics that are left out because they hardly change anything, relative to what they act on."""

    normalisation: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="the change of a sample's yield in a channel is left out where it is below this on both sides; "
        "absent: 0, or of a systematic that of the model; 0: none is left out",
    )
    shape: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="the same of the shape, where in every bin the change relative to the nominal is below this",
    )


class _Systematic(Section):
    """What systematic uncertainties have in common."""

    name: str = Field(min_length=1, description="name of the nuisance parameter")
    samples: tuple[Name, ...] | None = Field(
        default=None, min_length=1, description="affected samples; absent: all but those of `model.abcd`"
    )
    channels: tuple[Name, ...] | None = CHANNELS
    group: str | None = Field(default=None, min_length=1, description=GROUP)
    constraint_width: float | Literal["none"] = Field(
        default=1.0,
        description="standard deviation of its constraint term, `none` for no such term; pyhf knows 1 only: "
        "with anything else the result has no number of pyhf's and no workspace",
    )
    pruning: Pruning | None = Field(
        default=None, description="its own thresholds; what is absent is that of `model.pruning`"
    )

    @pydantic.model_validator(mode="after")
    def _positive(self) -> "_Systematic":
        if self.constraint_width != "none" and not self.constraint_width > 0:
            raise ValueError(
                f"constraint_width {self.constraint_width}, allowed is a positive number or 'none'"
            )
        if self.constraint_width != 1.0 and self.pruning is not None:
            raise ValueError(
                f"pruning with constraint_width {self.constraint_width}: effects are compared with the thresholds at "
                "one standard deviation of width 1, so it is never pruned; remove pruning"
            )
        return self

    def acts_on(self, sample: str, channel: str | None = None) -> bool:
        """Return whether it affects a sample, in a channel or (None) in any."""
        return acts(self.samples, sample) and (channel is None or self.acts_in(channel))

    def acts_in(self, channel: str) -> bool:
        """Return whether it affects a channel."""
        return acts(self.channels, channel)


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
        if self.pruning is not None and self.pruning.shape is not None:
            raise ValueError(
                f"pruning: shape {self.pruning.shape} of a Normalization, which has no shape; give normalisation"
            )
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


class MedianSmoothing(Section):
    """How the noise of simulated events in varied templates is removed by running medians, as in ROOT and cabinetry."""

    algorithm: Literal["353QH"] = Field(
        description="the ratio to the nominal by medians of 3, 5 and 3 bins, parabolas and running means, twice "
        "(TH1::Smooth); channels of 1 or 2 bins stay"
    )


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

    smoothing: Annotated[Smoothing | MedianSmoothing, Field(discriminator="algorithm")] | None = Field(
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
