"""What the analysis and the model make of the sampled events: widths, channels, bins, the objective once."""

import contextlib
from collections.abc import Iterator, Mapping

import jax
import numpy as np

from pipeline.cli.check.bounds import at_bounds, inside_ranges
from pipeline.cli.check.cut_values import cut_values
from pipeline.cli.check.findings import Findings
from pipeline.cli.check.shared_events import shared_events
from pipeline.cluster import InProcess
from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.data.datasets import NOMINAL, sample_names
from pipeline.errors import ConfigError, FitError
from pipeline.gradient.halves import of_optimisation, whole
from pipeline.gradient.loss import Judge, centre_of, described, judge
from pipeline.gradient.sweeps import Executor, FreeValues, forward, value_and_grad
from pipeline.gradient.work import Work
from pipeline.optimise import first_step
from pipeline.optimise.automatic_widths import with_all_widths
from pipeline.optimise.parameters import edges_at
from pipeline.optimise.schedule import widths_at
from pipeline.optimise.width_names import faults
from pipeline.templates.axes import Axes
from pipeline.templates.cautions import NO_EFFECT, cautions
from pipeline.templates.fill import EXACT

# An empty channel part has less than 3 of n events at 95 %; said where that is below half of an even share of the bins.
POISSON_95, SHARE = 3.0, 0.5


Central = tuple[float, Templates, FreeValues]  # what a `Centre` returns


@contextlib.contextmanager
def compiled_quickly() -> Iterator[None]:
    """Compile without costly passes: each program runs once, on few events."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def check_observed(config: Config, work: Work, start: FreeValues, found: Findings) -> None:
    """Observe the events as the run does, with exact cuts and with smooth ones, and look at what comes out."""
    executor, errors = InProcess(), found.errors
    for fault in found.tried(lambda: list(faults(config, work, start))) or ():
        found.error(fault)
    exact = found.tried(lambda: forward(executor, _nominal(work), start, EXACT))
    if exact is not None:
        for note in (*_empty(config, work, start, exact), *_absent(work, exact)):
            found.note(note)
    if found.errors > errors:
        return
    if work.problem.analysis.simulated is not None:
        found.note(
            f"{config.analysis.target} has a stage without a derivative, whose surrogate a run learns first: smooth "
            "cuts and the objective are not checked"
        )
        return
    for note in found.tried(lambda: list(shared_events(config, work, start))) or ():
        found.note(note)
    try:
        with_all = with_all_widths(config, work, start)
    except ConfigError as error:
        found.note(f"of {work.events} sampled events: {error}; smooth cuts and the objective are not checked")
        return
    final = widths_at(with_all, config.optimise.epochs)
    cuts, free = found.tried(lambda: cut_values(work, start, final)) or {}, work.problem.analysis.parameters
    for note in inside_ranges(cuts, free):
        found.note(note)
    for note in (
        at_bounds(cuts, free) if with_all is config else ()
    ):  # found for so few events, widths are larger
        found.note(note)
    _check_objective(config, executor, work, (start, widths_at(with_all, 0)), found)


def _nominal(work: Work) -> Work:
    """Return the same events without variations, which take most of the time to compile."""
    return work._replace(groups=tuple(group._replace(variations=()) for group in work.groups))


def _check_objective(
    config: Config, executor: Executor, work: Work, point: first_step.Start, found: Findings
) -> None:
    """Compute the objective with smooth cuts once, and its derivative through the nominal templates."""
    start, widths = point
    made = found.tried(lambda: of_optimisation(config, work, judge(config, work.axes)))
    if made is None:
        return
    halved, judged = made
    templates = found.tried(lambda: forward(executor, halved, start, widths))
    if templates is None:
        return
    absent = sorted(set(sample_names(config)) - {group.sample for group in work.groups})
    if absent:
        found.note(
            f"the objective is not computed: no events of sample {', '.join(map(repr, absent))} are at hand"
        )
        return
    seen = f"the {work.events} sampled events"
    everything = whole(templates, work.axes)
    for line in (
        *first_step.without_events(config, work, everything),
        *_without_effect(config, work.axes, everything),
    ):
        found.note(f"of {seen}: {line}")
    evaluated = found.tried(lambda: _evaluated(judged, templates, start))
    if isinstance(evaluated, str):
        found.note(f"on {seen} there is no objective, which more events may well give: {evaluated}")
    elif evaluated is not None:
        if not start:
            found.note("no parameter is free: templates and workspace are there, nothing to optimise")
        else:
            _check_gradient(executor, _nominal(halved), point, evaluated, found)
        name, value = described(config), evaluated[0]
        found.fine(
            f"{name.label} at the start with smooth cuts, of {seen} alone, which says little of its size: "
            f"{value:.4g} {name.unit}".rstrip()
        )


def _check_gradient(
    executor: Executor, work: Work, point: first_step.Start, evaluated: Central, found: Findings
) -> None:
    """Tell of derivatives that are not finite, or exactly 0."""
    start, widths = point
    step = found.tried(lambda: value_and_grad(executor, work, start, widths, lambda *_: evaluated))
    if step is not None:
        names, free = first_step.without_derivative(step.gradient), work.problem.analysis.parameters
        for line in first_step.reasons(executor, work, point, step.templates, free, names):
            found.note(f"of the {work.events} sampled events: {line}")


def _evaluated(judged: Judge, templates: Templates, start: FreeValues) -> Central | str:
    """Return objective and slopes, or why there are none, as there may be none of few events."""
    try:
        evaluated = centre_of(judged)(templates, start)
    except FitError as error:
        return str(error)
    bad = [name for name, array in evaluated[1].yields.items() if not np.all(np.isfinite(array))]
    return f"its derivative in the templates of channel {bad[0]!r} is not finite" if bad else evaluated


def _without_effect(config: Config, axes: Axes, templates: Templates) -> list[str]:
    """Return systematic uncertainties that change no template."""
    return [caution.text for caution in cautions(templates, axes, config) if caution.kind == NO_EFFECT]


def _empty(config: Config, work: Work, start: FreeValues, templates: Templates) -> Iterator[str]:
    """Yield a note on the bins of each channel that hold no event, where so few events can say that."""
    edges = edges_at(config, start)
    for channel, yields in templates.yields.items():
        events = _events(work.axes, np.asarray(yields), np.asarray(templates.sumw2[channel]))
        total, bins = float(events.sum()), len(events)
        if total == 0:
            yield f"channel {channel!r}: none of the {work.events} sampled events is in it at the start parameters"
        most = POISSON_95 / max(total, 1.0)
        empty = np.flatnonzero(events == 0)
        if total > 0 and empty.size and most < SHARE / bins:
            yield (
                f"channel {channel!r}: no event in {_named(empty, edges[channel])} at the start parameters, of some "
                f"{total:.0f} in the channel, so less than {100 * most:.1g} % of it at 95 %; merge bins, or move them"
            )


def _absent(work: Work, templates: Templates) -> Iterator[str]:
    """Yield a note on each sample of which exact cuts keep no event."""
    for name in dict.fromkeys(group.sample for group in work.groups):
        row = work.axes.samples.index(name)
        if not any(np.any(np.asarray(squares)[row]) for squares in templates.sumw2.values()):
            events = sum(group.events for group in work.groups if group.sample == name)
            yield (
                f"sample {name!r}: none of its {events} sampled events passes at the start parameters, with hard cuts; "
                "in a likelihood it would not exist"
            )


def _events(axes: Axes, yields: np.ndarray, sumw2: np.ndarray) -> np.ndarray:
    """Return the effective number of events in each bin, (sum w)^2 / sum w^2 of each process."""
    rows = [axes.row(process, NOMINAL) for process in axes.processes]
    sums = np.array([yields[sample, variation] for sample, variation in rows])
    squares = np.array([sumw2[sample] for sample, _ in rows])
    return np.asarray(np.divide(sums**2, squares, out=np.zeros_like(sums), where=squares > 0).sum(axis=0))


def _named(bins: np.ndarray, edges: Mapping[int, float] | list[float] | None) -> str:
    """Return bins by number and, where they have some, by their edges."""
    if edges is None:
        return f"bin{'s' if len(bins) > 1 else ''} {', '.join(map(str, bins))}"
    return ", ".join(f"bin {b} ({edges[b]:g} to {edges[b + 1]:g})" for b in bins)
