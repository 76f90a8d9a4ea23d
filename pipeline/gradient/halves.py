"""The objective of an optimisation without what the noise of varied templates is expected to add to it.

A likelihood takes noise in the change d that a variation makes of a template for an effect of its nuisance parameter,
and an objective L that is curved in d is off by 1/2 L'' Var(d), in expectation. With the changes d_A and d_B of two
halves of the events, d = d_A + d_B, and L_A, L_B the objective with 2 d_A or 2 d_B in place of d, whose noise has twice
the variance,

    2 L - (L_A + L_B) / 2

has no such term: a jackknife with two blocks (M. H. Quenouille, Biometrika 43 (1956) 353). Nominal templates and their
sums of squared weights are those of all events everywhere, so the noise of these, which `staterror` stands for, stays.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.data.datasets import NOMINAL
from pipeline.errors import FitError
from pipeline.gradient.compiled import FreeValues
from pipeline.gradient.loss import Evaluated, Judge
from pipeline.gradient.work import Work
from pipeline.likelihood.configured.pruning import Pruned
from pipeline.templates.axes import Axes, variations_of

BLOCKS = ("first", "second")
FACTORS = (2.0, -0.5, -0.5)  # of the objective with all changes, and with those of either half, doubled


def of_optimisation(config: Config, work: Work, judged: Judge) -> tuple[Work, Judge]:
    """Return the events of an optimisation, in halves where ``objective.template_noise`` asks for it, and its judge."""
    if not config.objective.template_noise:
        return work, judged
    return halved(work), without_noise(config, work.axes, judged)


def halved(work: Work) -> Work:
    """Return the same events in chunks that hold one half of them each, no larger than half of a group needs."""
    layout = work.problem.layout
    largest = max(group.events for group in work.groups)
    length = min(layout.chunk_events, 1 << (largest // 2).bit_length())
    parted = layout._replace(chunk_events=length, halves=True)
    return work._replace(problem=dataclasses.replace(work.problem, layout=parted))


def whole(templates: Templates, axes: Axes) -> Templates:
    """Return the templates of all events, from those of a sweep over halves or over all."""
    if not _is_halved(templates, axes):
        return templates
    number = len(axes.samples)
    added: Templates = jax.tree.map(lambda array: array[:number] + array[number:], templates)
    return added


def without_noise(config: Config, axes: Axes, judged: Judge) -> Judge:
    """Return an evaluation of the templates of halves, see the module; those of undivided events are judged as ever.

    ``objective`` is that of all events. What is minimised, and its derivative in the templates of each half, is
    corrected.
    """
    used, process = _used(config, axes), axes.process_of

    @jax.jit
    def views(templates: Templates) -> tuple[Templates, ...]:
        """Return templates with all changes, and with those of either half, doubled."""
        together, number = whole(templates, axes), len(axes.samples)

        def doubled(channel: str, block: slice) -> jax.Array:
            nominal = together.yields[channel][process, 0][:, None]
            own = templates.yields[channel][block]
            found = nominal + 2 * (own - own[process, 0][:, None])
            return jnp.where(used[:, :, None], found, 0.0)

        blocks = slice(None, number), slice(number, None)
        halves = ({channel: doubled(channel, block) for channel in templates.yields} for block in blocks)
        return together, *(Templates(yields, together.sumw2) for yields in halves)

    @jax.jit
    def pulled_back(templates: Templates, slopes: tuple[Templates, ...]) -> Templates:
        found: Templates = jax.vjp(views, templates)[1](slopes)[0]
        return found

    def evaluate(templates: Templates, parameters: FreeValues, pruned: Pruned | None) -> Evaluated:
        if not _is_halved(templates, axes):
            return judged.evaluate(templates, parameters, pruned)
        given = jax.tree.map(jnp.asarray, templates)
        together, *halves = views(given)
        parts = [judged.evaluate(together, parameters, pruned)]
        for name, own in zip(BLOCKS, halves, strict=True):
            parts.append(_half_judged(judged, own, parameters, pruned, name))
        slopes = tuple(_times(factor, part.slopes) for factor, part in zip(FACTORS, parts, strict=True))
        minimised = sum(factor * part.minimised for factor, part in zip(FACTORS, parts, strict=True))
        direct = [_times(factor, part.direct) for factor, part in zip(FACTORS, parts, strict=True)]
        summed: FreeValues = jax.tree.map(lambda *shares: sum(shares), *direct)
        return Evaluated(parts[0].objective, minimised, pulled_back(given, slopes), summed)

    return Judge(evaluate, lambda templates: judged.decide(whole(templates, axes)), judged.pruned)


def _half_judged(
    judged: Judge, templates: Templates, parameters: FreeValues, pruned: Pruned | None, name: str
) -> Evaluated:
    try:
        return judged.evaluate(templates, parameters, pruned)
    except FitError as error:
        raise FitError(
            f"objective.template_noise, the changes of the {name} half of the events, doubled: {error} Half of the "
            "events are too few for these variations: simulate more, or set objective.template_noise to false"
        ) from error


def _used(config: Config, axes: Axes) -> Bool[np.ndarray, "samples variations"]:
    """Return which rows the model has: the nominal ones, and the variations of each sample."""
    found = np.zeros((len(axes.samples), len(axes.variations)), dtype=bool)
    for sample, section in config.data.samples.items():
        for name in (NOMINAL, *section.variations, *variations_of(config, sample)):
            found[axes.row(sample, name)] = True
    return found


def _is_halved(templates: Templates, axes: Axes) -> bool:
    return all(len(array) == 2 * len(axes.samples) for array in templates.yields.values())


def _times(factor: float, tree: Any) -> Any:
    return jax.tree.map(lambda array: factor * array, tree)
