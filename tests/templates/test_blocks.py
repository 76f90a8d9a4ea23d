"""Variations in blocks: the same templates and derivatives as all at once, in memory that does not grow with them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.analysis import Analysis, FlatTree, Free, Shift, Transform
from pipeline.containers import Columns, Observation
from pipeline.templates.binning import Binning
from pipeline.templates.blocks import at_once, held_by_pullback, made_by, mapped
from pipeline.templates.fill import EXACT, Recipe, Widths, fill

EVENTS, OBJECTS = 64, 8
BINNINGS = (Binning("region", (0.0, 1.0, 2.0, 4.0)), Binning("count", None))
WIDTHS = Widths(operations={"cut": jnp.asarray(0.1)}, bandwidths={"region": jnp.asarray(0.1)})


def larger(number, c, size):
    return {"x": (1 + 0.01 * (number + 1) * size) * c.x}


class Varied(Analysis):
    """A cut on objects, under as many variations as asked for."""

    reads = FlatTree(("x",))
    parameters = {"cut": Free(0.5, bounds=(0.0, 1.0))}  # noqa: RUF012

    def __init__(self, number, kind="transform"):
        self.number, self.kind = number, kind

    def columns(self, events, dataset):
        return {"x": events.x, "weight": np.ones(len(events.x))}

    def variations(self):
        if self.kind == "shift":
            return {f"v{n}": Shift(functools.partial(larger, n), 1) for n in range(self.number)}
        return {f"v{n}": Transform(functools.partial(larger, n, size=1)) for n in range(self.number)}

    def observe(self, p, c, relax):
        passes = relax.greater(c.x, p.cut)
        selected = c.weight * relax.at_least(passes, 2)
        pairs = jnp.tanh(c.x[:, :, None] * passes[:, None, :])
        return {
            "region": Observation(value=jnp.sum(pairs, axis=(1, 2)) / OBJECTS**1.5, weight=selected),
            "count": Observation(weight=selected),
        }


def columns():
    rng = np.random.default_rng(1)
    return Columns({"x": jnp.asarray(rng.exponential(0.5, (EVENTS, OBJECTS))), "weight": jnp.ones(EVENTS)})


def filled(number, memory, mode=WIDTHS, kind="transform"):
    analysis = Varied(number, kind)
    recipe = Recipe(analysis, BINNINGS, analysis.variation_names, kind == "shift", memory)
    return lambda cut: fill(recipe, {"cut": cut}, columns(), mode)


def gradient(made):
    """Of a sum with another coefficient for each bin of each variation."""

    def total(cut):
        yields = made(cut).yields.values()
        return sum(jnp.sum(jnp.cos(jnp.arange(y.size).reshape(y.shape)) * y) for y in yields)

    return jax.jit(jax.grad(total))


@pytest.mark.parametrize("kind", ["transform", "shift"])
@pytest.mark.parametrize("memory", [1.0, 2e5, 4e5])
def test_blocks_make_what_all_at_once_make(memory, kind):
    whole, parted = filled(11, np.inf, kind=kind), filled(11, memory, kind=kind)
    programs = [str(jax.make_jaxpr(made)(0.5)) for made in (whole, parted)]
    assert "scan" not in programs[0]
    assert "scan" in programs[1]
    for channel, expected in jax.jit(whole)(0.5).yields.items():
        np.testing.assert_allclose(jax.jit(parted)(0.5).yields[channel], expected, rtol=1e-13)
    np.testing.assert_allclose(gradient(parted)(0.5), gradient(whole)(0.5), rtol=1e-12)


def test_exact_templates_have_the_same_bits():
    whole, parted = (jax.jit(filled(11, memory, EXACT))(0.5) for memory in (np.inf, 1.0))
    for channel, expected in whole.yields.items():
        np.testing.assert_array_equal(parted.yields[channel], expected)


def test_memory_does_not_grow_with_the_variations():
    def temporary(number, memory):
        program = gradient(filled(number, memory)).lower(0.5).compile()
        return program.memory_analysis().temp_size_in_bytes

    few, many = (temporary(number, 1e6) for number in (20, 80))
    assert many < 1.3 * few
    assert temporary(80, np.inf) > 2 * many


@pytest.mark.parametrize(("number", "most"), [(7, 3), (7, 1), (7, 6), (6, 3), (2, 5)])
def test_rows_come_back_in_their_order(number, most):
    rows = {"x": jnp.arange(2.0 * number).reshape(number, 2)}
    found = mapped(lambda r: {"y": r["x"] * 2}, rows, most)
    np.testing.assert_array_equal(found["y"], 2 * rows["x"])


def test_how_many_fit():
    assert at_once(10, 1000, np.inf) == 10
    assert at_once(10, 1000, 1000.0) == 10
    assert at_once(10, 1000, 399.0) == 3
    assert at_once(10, 1000, 1.0) == 1


def test_what_a_function_takes():
    x = jnp.ones((3, 5))
    assert held_by_pullback(lambda p: jnp.sin(p * x), jnp.ones(())) >= x.nbytes
    assert held_by_pullback(lambda p: p + x, jnp.ones(())) == 0  # a sum remembers nothing
    looped = jax.jit(lambda p: jax.lax.map(lambda row: p * row, x) + x)
    assert 2 * x.nbytes <= made_by(looped, jnp.ones(())) <= 4 * x.nbytes
