"""What the analysis and the model make of the sampled events: widths, channels, bins, the objective once."""

import contextlib
from collections.abc import Iterator, Mapping

import jax
import numpy as np

from pipeline.cli.check.bounds import at_bounds
from pipeline.cli.check.findings import Findings
from pipeline.cluster import InProcess
from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.data.datasets import NOMINAL, sample_names
from pipeline.errors import FitError
from pipeline.gradient.halves import of_optimisation, whole
from pipeline.gradient.loss import centre_of, described, judge
from pipeline.gradient.sweeps import Centre, Executor, FreeValues, forward, value_and_grad
from pipeline.gradient.work import Work
from pipeline.optimise import first_step
from pipeline.optimise.parameters import edges_at
from pipeline.optimise.schedule import widths_at
from pipeline.optimise.width_names import faults
from pipeline.templates.axes import Axes
from pipeline.templates.cautions import NO_EFFECT, cautions
from pipeline.templates.fill import EXACT, Widths

# An empty channel part has less than 3 of n events at 95 %; said where that is below half of an even share of the bins.
POISSON_95, SHARE = 3.0, 0.5


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
    executor = InProcess()
    missing = found.errors
    for fault in found.tried(lambda: list(faults(config, work, start, relaxed=True))) or ():
        found.error(fault)
    exact = found.tried(lambda: forward(executor, work, start, EXACT))
    if exact is not None:
        for note in _empty(config, work, start, exact):
            found.note(note)
    if found.errors > missing:
        return
    if work.problem.analysis.simulated is not None:
        found.note(
            f"{config.analysis.target} has a stage without a derivative, whose surrogate a run learns first: smooth "
            "cuts and the objective are not checked"
        )
        return
    widths = widths_at(config, 0)
    smooth = found.tried(lambda: forward(executor, work, start, widths))
    if smooth is None:
        return
    for note in (
        found.tried(lambda: list(at_bounds(work, start, widths_at(config, config.optimise.epochs)))) or ()
    ):
        found.note(note)
    _check_objective(config, executor, work, start, widths, found)


def _check_objective(
    config: Config, executor: Executor, work: Work, start: FreeValues, widths: Widths, found: Findings
) -> None:
    """Compute objective and gradient as the first epoch does, once."""
    absent = sorted(set(sample_names(config)) - {group.sample for group in work.groups})
    if absent:
        found.note(
            f"the objective is not computed: no events of sample {', '.join(map(repr, absent))} are at hand"
        )
        return
    seen = f"the {work.events} sampled events"
    halved, judged = of_optimisation(config, work, judge(config, work.axes))

    evaluate, is_exact = centre_of(judged), config.optimise.values == "exact"
    templates = forward(executor, halved, start, EXACT if is_exact else widths)
    errors, why = found.errors, found.tried(lambda: _why_none(templates, start, evaluate))
    if why is not None:
        found.note(f"on {seen} there is no objective, which more events may well give: {why}")
    if why is not None or found.errors > errors:
        return
    step = found.tried(lambda: value_and_grad(executor, halved, start, widths, evaluate, exact=is_exact))
    if step is None:
        return
    quantity = described(config)
    templates = whole(step.templates, work.axes)
    for line in [
        *first_step.without_events(config, work, templates),
        *_without_effect(config, work.axes, templates),
    ]:
        found.note(f"of {seen}: {line}")
    names = first_step.without_derivative(step.gradient)
    free = work.problem.analysis.parameters
    for line in first_step.reasons(executor, halved, (start, widths), step.templates, free, names):
        found.note(f"of {seen}: {line}")
    value = f"{step.objective:.4g}{' ' + quantity.unit if quantity.unit else ''}"
    found.fine(f"{quantity.label} at the start, of {seen} alone, which says little of its size: {value}")


def _why_none(templates: Templates, start: FreeValues, evaluate: Centre) -> str | None:
    """Return why templates have no objective with a derivative, as those of few events may have none."""
    try:
        _, slopes, _ = evaluate(templates, start)
    except FitError as error:
        return str(error)
    bad = [name for name, array in slopes.yields.items() if not np.all(np.isfinite(array))]
    return f"its derivative in the templates of channel {bad[0]!r} is not finite" if bad else None


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
