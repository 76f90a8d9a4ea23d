"""The contract a physicist implements: one class says what to read, what is free, what is observed."""

import functools
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import awkward as ak
import jax
import numpy as np

from pipeline.analysis.declarations import FlatTree, Free, NanoAOD, Simulated, check, short
from pipeline.analysis.learned_bins import LearnedBins
from pipeline.analysis.systematics import Variation, check_hooks, declared
from pipeline.analysis.theory import Theory, check_coefficient, check_theory
from pipeline.config import Config, targets
from pipeline.containers import AnyArray, Columns, Observation, Parameters
from pipeline.errors import ConfigError, Noting, nearest
from pipeline.relax import Exact, Relaxed

KEPT = 32  # analyses that a process remembers; in one Python session every edit makes a new one

Made: TypeAlias = ak.Array | np.ndarray  # what a column may be made as: rectangular, numbers


class Analysis:
    """Base of every analysis.

    ``reads`` names the tree and its branches, ``parameters`` the free parameters. Arrays that are no cut, such as the
    weights of a network, come from ``init``. ``collections`` may name the columns that hold the objects of one kind,
    by the column that says which are there (``mask``): chunks are then trimmed to the objects their events have.
    ``theory`` names coefficients of the theory on which the weights of events depend, by ``theory_weight``.
    ``merit_label`` and ``merit_unit`` say what ``merit`` is. ``simulated`` declares columns that a stage without a
    derivative makes, ``simulate``. ``learned`` names the bins of several features that are learned, by channel.
    """

    reads: NanoAOD | FlatTree
    parameters: Mapping[str, Free]
    collections: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    merit_label: str = "figure of merit"
    merit_unit: str = ""
    simulated: Simulated | None = None
    learned: Mapping[str, LearnedBins] = MappingProxyType({})
    theory: Mapping[str, Theory] = MappingProxyType({})

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return rectangular arrays of the preselected ones among awkward events; called once per ROOT file.

        The result holds [events] and [events, objects] arrays (see ``pipeline.columns.pad``), one of them ``weight``.
        They keep their types, of numbers or booleans; ``weight`` is kept in float64. A column ``event_number`` is for
        the bootstrap alone: the events' field of that name, of the events that were kept. The preselection must keep
        every event that any allowed value of the parameters could select.

        Without a method of your own: all events of a ``FlatTree`` and the branches that it names, each with one number
        per event, as they are; the weight is the branch ``weight``, or 1.
        """
        del dataset
        if not isinstance(self.reads, FlatTree) or any(events[name].ndim > 1 for name in self.reads.branches):
            raise TypeError(
                f"{type(self).__name__} defines no method columns(events, dataset), which is needed where an event has "
                "more than one number of a kind"
            )
        found = {name: events[name] for name in self.reads.branches}
        return {"weight": np.ones(len(events)), **found}

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return one observation per channel from columns; every decision goes through ``relax``."""
        raise TypeError(f"{type(self).__name__} defines no method observe(p, c, relax)")

    def simulate(
        self, p: Mapping[str, float], c: Mapping[str, np.ndarray], rng: np.random.Generator
    ) -> Mapping[str, np.ndarray]:
        """Return the columns ``simulated.outputs`` of some events, at one point, by a program that has no derivative.

        Events are added up, so what it makes of one must not depend on which others there are.

        Args:
            p: the parameters in ``simulated.parameters``.
            c: columns of the events, as NumPy arrays.
            rng: random numbers, fixed by the events of the group and the seed.
        """
        del p, c, rng
        raise TypeError(
            f"{type(self).__name__} declares `simulated` but defines no method simulate(p, c, rng)"
        )

    def variations(self) -> Mapping[str, Variation]:
        """Return systematic variations by name, each with templates of its own.

        A variation is a ``Transform``, a ``Shift`` or a ``WeightFactor``.
        """
        return {}

    def theory_weight(self, t: Parameters, c: Columns) -> jax.Array:
        """Return the factor on the weight of each event at coefficients of the theory: 1 at their nominal values.

        A polynomial of degree 2 in the coefficients ``t``, of which derivatives are taken; see ``Benchmarks.factor``
        for weights that a generator gives.
        """
        del t, c
        raise TypeError(f"{type(self).__name__} has a `theory` but defines no method theory_weight(t, c)")

    def merit(self, p: Parameters, sums: Mapping[str, jax.Array]) -> jax.Array:
        """Return the number that ``objective.kind: merit`` minimises, for an analysis without a fit.

        Args:
            sums: the channels with ``in_fit: false``, their bins [bins] added up over all events and samples.
        """
        del p, sums
        raise TypeError(
            f"{type(self).__name__} defines no method merit(p, sums), which objective.kind: merit needs"
        )

    @property
    def variation_names(self) -> tuple[str, ...]:
        """All systematic variations that the analysis makes, in the order of the templates."""
        return tuple(declared(self))

    def init(self, key: jax.Array) -> Mapping[str, AnyArray]:
        """Start values of the free arrays that have no bounds, such as the weights of a network."""
        del key
        return {}


def start_arrays(analysis: Analysis, key: jax.Array) -> dict[str, np.ndarray]:
    """Start values of the analysis's free arrays, by a random key.

    Raises:
        ConfigError: ``init`` returns something else than finite floating-point numbers by name, or lacks those of
            learned bins.
    """
    name = f"{type(analysis).__name__}.init(key)"
    with Noting(f"in {name}"):
        made = analysis.init(key)
    if not isinstance(made, Mapping):
        raise ConfigError(f"{name} returns {short(made)}; it must return {{name: array}}")
    with Noting(f"in the arrays of {name}"):
        arrays = {parameter: np.asarray(array) for parameter, array in made.items()}
    for parameter, array in arrays.items():
        if array.dtype.kind != "f" or not np.all(np.isfinite(array)):
            raise ConfigError(f"{name}: {parameter!r} is no array of finite floating-point numbers")
    for channel, bins in analysis.learned.items():
        missing = sorted(bins.array_names - arrays.keys())
        if missing:
            raise ConfigError(
                f"{name} returns no array {missing[0]!r}, where the learned bins of channel {channel!r} start; add "
                f"what {type(bins).__name__}.start returns to the arrays of `init`"
            )
    return arrays


def load(target: str, options: str = "{}", content: targets.Content | None = None) -> Analysis:
    """Return the analysis that a configuration names: ``module:Class`` or ``path/to/file.py:Class``.

    Args:
        options: JSON, so that equal requests give the same object, which compiled functions are kept for.
        content: what it is made of, as found when the run began; None: at this moment, without files.

    Raises:
        ConfigError: no such class, other arguments, or another content by now.
    """
    return _built(target, options, content or targets.content(target, "analysis.target"))


@functools.lru_cache(maxsize=KEPT)
def _built(target: str, options: str, content: targets.Content) -> Analysis:
    name, colon, cls = target.partition(":")
    if not colon:
        raise ConfigError(f"analysis.target {target!r} is not 'module:Class' or 'path/to/file.py:Class'")
    module = targets.module(target, "analysis.target")
    if targets.content(target, "analysis.target", [Path(path) for path, _ in content.files]) != content:
        raise ConfigError(
            f"analysis.target {target!r}: it, a module that it imports or one of its files was changed after the run "
            "had begun, or this process finds other modules (PYTHONPATH); run again"
        )
    found = getattr(module, cls, None)
    if found is None:
        classes = [n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, Analysis)]
        raise ConfigError(f"analysis.target {target!r}: no class {cls!r} in {name}; {nearest(cls, classes)}")
    if not (isinstance(found, type) and issubclass(found, Analysis)):
        raise ConfigError(
            f"analysis.target {target!r}: {cls} is not a subclass of pipeline.analysis.Analysis"
        )
    given = json.loads(options)
    try:
        inspect.signature(found).bind(**given)
    except TypeError as error:
        raise ConfigError(
            f"analysis.options and analysis.files {options} do not fit {target}: {error}"
        ) from error
    with Noting(f"in {cls}({', '.join(f'{name}={value!r}' for name, value in given.items())})"):
        analysis: Analysis = found(**given)
    check(analysis)
    check_theory(analysis)
    _check_learned(analysis)
    check_hooks(analysis)
    return analysis


def _check_learned(analysis: Analysis) -> None:
    given: object = analysis.learned
    if not (isinstance(given, Mapping) and all(isinstance(bins, LearnedBins) for bins in given.values())):
        raise ConfigError(
            f"{type(analysis).__name__}.learned is {short(given)}; it must be {{channel: GaussianBins(...)}}, or "
            "NetworkBins"
        )


def analysis_of(config: Config) -> Analysis:
    """Return the analysis of a configuration as its files are now.

    Raises:
        ConfigError: there is no such analysis, or the configuration has not the channels of its learned bins.
    """
    found = load(config.analysis.target, config.analysis.options_json, config.analysis.content)
    for channel, bins in found.learned.items():
        shares = config.channels[channel].shares if channel in config.channels else None
        if shares != bins.bins:
            have = f"has shares: {shares}" if channel in config.channels else "is none of the configuration"
            raise ConfigError(
                f"{type(found).__name__}.learned has {bins.bins} bins for the channel {channel!r}, which {have}; "
                f"give the channel shares: {bins.bins}, or correct `learned`"
            )
    for own in (coefficient for model in config.models for coefficient in model.theory):
        check_coefficient(found, own)
    return found
