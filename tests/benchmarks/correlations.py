"""How far partial correlations are from one interpolation at the sum of their parameters: the table of docs/model.md.

Two systematics on all samples, correlated by 0.5, at 4000 points from unit normal distributions: rates of the model
with `correlations`, whose effects are divided among independent parameters, against those of the model without, at the
sums that these stand for. Run from the repository: `.venv/bin/python tests/benchmarks/correlations.py`.
"""

import os
import sys
from pathlib import Path

from pipeline.runtime import environment

os.environ.update(environment())

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

from modelled import SHAPE, drawn, small, traced

POINTS, VALUE, EVENTS = 4000, 0.5, 10.0  # EVENTS of each sample in a bin
YIELDS = ((0.1, 1 / 1.1 - 1), (0.1, -0.1), (0.1, -0.05), (0.3, -0.3))
SHAPES = (
    (1.0, -1.0),
    (1.0, -0.5),
)  # events of a bin, up and down; the next bin changes by as many to the other side


def rates(run, axes, templates, parameters):
    """Expected events of the first bin of the first channel at points, by name of the parameters."""
    model, stacked = traced(run, axes, templates)
    points = np.tile(np.asarray(model.initial), (POINTS, 1))
    for name, values in parameters.items():
        points[:, model.parameter_names.index(name)] = values
    each = jax.jit(jax.vmap(lambda at: model.expected_by_sample(at, stacked)[:, 0].sum()))
    return np.asarray(each(jnp.asarray(points)))


def flat(run, up, down):
    """Templates of equal bins, whose variations move so many events from the second bin to the first."""
    axes, templates = drawn(run)
    for yields in templates.yields.values():
        yields[:] = EVENTS
        for row, moved in ((1, up), (2, down)) if yields.shape[1] > 1 else ():  # scale_up, scale_down
            yields[:, row, 0] += moved
            yields[:, row, 1] -= moved
    return axes, templates


def compared(systematics, up=0.0, down=0.0):
    """Spread of the rate, and root mean square and 99 % quantile of the relative difference."""
    pair = [{"between": ["one", "other"], "value": VALUE}]
    plain, correlated = (small({"systematics": systematics, "correlations": own}) for own in ([], pair))
    axes, templates = flat(plain, up, down)
    one, other = np.random.default_rng(1).standard_normal((2, POINTS))
    both = VALUE * one + np.sqrt(1 - VALUE**2) * other
    expected = rates(plain, axes, templates, {"one": one, "other": both})
    found = rates(correlated, axes, templates, {"one": one, "other": other})
    difference = np.abs(found / expected - 1)
    nominal = rates(plain, axes, templates, {})[0]
    return np.std(expected) / nominal, np.sqrt(np.mean(difference**2)), np.quantile(difference, 0.99)


def main():
    print(f"{'up, down of each':<24}{'spread':>10}{'difference':>12}{'99 % below':>12}")
    for up, down in YIELDS:
        own = [{"name": n, "type": "Normalization", "up": up, "down": down} for n in ("one", "other")]
        print_row(f"yield {up:+.0%}, {down:+.1%}", compared(own))
    for up, down in SHAPES:
        own = [{"name": name, **SHAPE} for name in ("one", "other")]
        print_row(f"shape {up:+g}, {down:+g}", compared(own, up, down))


def print_row(name, numbers):
    print(
        f"{name:<24}"
        + "".join(f"{number:>{width}.2g}" for number, width in zip(numbers, (10, 12, 12), strict=True))
    )


if __name__ == "__main__":
    main()
