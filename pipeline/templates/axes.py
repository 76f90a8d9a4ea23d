"""The rows of the templates: the samples, and the variations of each that the model uses."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pipeline.config import (
    Channel,
    Config,
    Model,
    NormalizationSystematic,
    NormPlusShapeSystematic,
)
from pipeline.config.fit.theory import TheoryCoefficient, coefficients_of, component, is_component, monomials
from pipeline.containers import Templates
from pipeline.data.datasets import NOMINAL, sample_names


@dataclasses.dataclass(frozen=True)
class Axes:
    """What the rows of the templates are: samples, and variations of which the first is the nominal."""

    samples: tuple[str, ...]
    variations: tuple[str, ...]

    def row(self, sample: str, variation: str) -> tuple[int, int]:
        """Return where the templates hold a variation of a sample: a sample of its own, else made by the analysis.

        Decided for each sample: one may have from the manifest what the analysis makes for another.
        """
        own = f"{sample}__{variation}"
        if own in self.samples:
            return self.samples.index(own), 0
        return self.samples.index(sample), self.variations.index(variation)

    @property
    def process_of(self) -> Int[np.ndarray, " samples"]:
        """Place of the process that each sample is a variation of, or is itself."""
        return np.array([self.samples.index(name.partition("__")[0]) for name in self.samples])

    @property
    def processes(self) -> tuple[str, ...]:
        """The samples that are no variation of another."""
        return tuple(name for name in self.samples if "__" not in name)

    def every_variation(self, sample: str) -> tuple[str, ...]:
        """Return every variation that the templates may hold of a sample, by whomever made."""
        own = tuple(
            name.removeprefix(f"{sample}__") for name in self.samples if name.startswith(f"{sample}__")
        )
        return tuple(dict.fromkeys((*own, *self.variations[1:])))


def axes_of(config: Config, analysis_variations: tuple[str, ...]) -> Axes:
    """Return every sample, and those of the analysis's variations that the model uses, in the analysis's order."""
    used = {name for process in config.data.samples for name in variations_of(config, process)}
    return Axes(
        tuple(sample_names(config)), (NOMINAL, *(name for name in analysis_variations if name in used))
    )


def variations_of(config: Config, sample: str) -> tuple[str, ...]:
    """Return the variations made by the analysis that the model uses for a sample.

    Those that the sample's manifest entry has are not among them. Of a sample that depends on a theory's coefficients
    they are followed by the components of the nominal and of each, see ``pipeline.config.fit.theory``.
    """
    if sample not in config.data.samples:
        return ()
    own = config.data.samples[sample].variations
    wanted = [
        name
        for systematic in affecting_in_fit(config, sample)
        if isinstance(systematic, NormPlusShapeSystematic)
        for name in (systematic.up, systematic.down)
        if name is not None and name not in own
    ]
    found = dict.fromkeys(wanted)
    parts = monomials(coefficients_of(config.model.theory, sample))
    return (*found, *(component(name, monomial) for name in (NOMINAL, *found) for monomial in parts))


def with_all_variations(config: Config) -> Config:
    """Return the run with the systematic uncertainties of its further models too.

    It is for templates that serve all of the models.
    """
    everything = tuple(systematic for model in config.models for systematic in model.systematics)
    theory: dict[str, TheoryCoefficient] = {}
    for own in (entry for model in config.models for entry in model.theory):
        first = theory.get(own.name, own)
        samples = tuple(dict.fromkeys((*first.samples, *own.samples)))
        theory[own.name] = first.model_copy(update={"samples": samples})
    combined = config.model.model_copy(  # without `abcd`, which exempts its samples
        update={"systematics": everything, "abcd": (), "theory": tuple(theory.values())}
    )
    return config.model_copy(update={"model": combined})


def affecting(
    model: Model, sample: str, channel: str | None = None
) -> list[NormalizationSystematic | NormPlusShapeSystematic]:
    """Return the systematic uncertainties of a sample, in a channel or (None) in any."""
    return [s for s in model.every_systematic if model.affects(s, sample, channel)]


def affecting_in_fit(config: Config, sample: str) -> list[NormalizationSystematic | NormPlusShapeSystematic]:
    """Return the systematic uncertainties of a sample in at least one channel of the fit."""
    return [
        s
        for s in affecting(config.model, sample)
        if any(config.model.affects(s, sample, channel) for channel in config.regions)
    ]


def sums(templates: Templates, axes: Axes, config: Config) -> dict[str, Float[Array, " bins"]]:
    """Return channels that are not in the fit: the bins of each, all samples added up; differentiable."""
    rows = {name: _summed(axes, config, own) for name, own in config.channels.items() if not own.in_fit}
    return {name: jnp.sum(templates.yields[name][own[0], own[1]], axis=0) for name, own in rows.items()}


def _summed(axes: Axes, config: Config, channel: Channel) -> Int[np.ndarray, "2 rows"]:
    """Return the rows of the templates that are in the sum of a channel.

    They are every sample's nominal, and its variations where the channel counts these.
    """
    rows = [axes.row(sample, NOMINAL) for sample in config.data.samples]
    if channel.variations:
        for sample, section in config.data.samples.items():
            made = (name for name in variations_of(config, sample) if not is_component(name))
            names = (*section.variations, *made)
            rows += [axes.row(sample, name) for name in names]
    return np.array(rows).T
