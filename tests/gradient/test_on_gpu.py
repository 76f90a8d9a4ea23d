"""What a GPU would be given: the sweeps lowered for CUDA, which needs no GPU, and looked at.

A scatter that adds floats at colliding places has no order there, or is slow; a call of the host waits for it; and what
is launched per chunk is the cost of small chunks.
"""

import re

import jax
import numpy as np
import pytest
from columnfiles import write_columns
from generated import generated

from pipeline import config
from pipeline.containers import Columns
from pipeline.data import datasets
from pipeline.gradient import shares
from pipeline.gradient.accumulator import empty
from pipeline.gradient.chunks import Parts, cut
from pipeline.gradient.compiled import Visit, compiled
from pipeline.gradient.vectors import length
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.relax import cells

CHUNKS, EVENTS = 4, 32768  # of a stack; so many that histograms are filled, not summed event by event
CLOUDS = {
    "neos": ("signal", "background", "background__up", "background__down"),
    "inferno": ("signal", "background"),
}
LAUNCHES = ("dot_general", "reduce", "scatter", "sort", "while", "custom_call")
"""Operations that XLA does not fuse with their neighbours: each is one launch at least."""
MOST = {"neos": (54, 76), "inferno": (30, 80), "agc_ttbar": (175, 285), "many_systematics": (410, 660)}
"""Of these per chunk, forward and back: about what there are now."""


def run_and_files(name, request, tmp_path):
    folder = request.config.rootpath / "config"
    if name in CLOUDS:
        few = ["analysis.options={hidden: [16, 16]}", "data.held_out_fraction=0"]
        run = generated(folder / f"{name}.yaml", dict.fromkeys(CLOUDS[name], 60), tmp_path, few)
        return run, write_columns(run, tmp_path)
    miniature = request.getfixturevalue("miniature")
    if name == "agc_ttbar":
        return miniature, request.getfixturevalue("miniature_columns")
    run = config.load(folder / f"{name}.yaml", ["simulate=null", f"data.manifest={miniature.data.manifest}"])
    only = run.data.model_copy(update={"samples": {"ttbar": run.data.samples["ttbar"]}})
    kept = tuple(s for s in run.model.systematics if s.samples is None or "ttbar" in s.samples)
    run = run.model_copy(update={"data": only, "model": run.model.model_copy(update={"systematics": kept})})
    return run, write_columns(run, tmp_path)


def stack_like(work, group):
    """The shapes of a stack of large chunks."""
    chunk = next(cut(group, work.problem.layout))
    shapes = {
        name: jax.ShapeDtypeStruct((CHUNKS, EVENTS, *array.shape[1:]), array.dtype)
        for name, array in chunk.items()
    }
    factor = shapes.pop("__factor")
    del shapes["event_number"]
    ones = np.zeros(CHUNKS, dtype=np.int32)
    return Visit(Parts(Columns(shapes), factor), ones, ones, np.asarray(CHUNKS, dtype=np.int32))


def lowered(function, *arguments):
    return jax.export.export(function, platforms=["cuda"])(*arguments).mlir_module()


def colliding_sums(text):
    """Scatters that add floats where places may collide."""
    found = re.findall(r'"stablehlo\.scatter"\([^)]*\) <\{(.*?)\}> \(\{(.*?)\}\)', text, flags=re.DOTALL)
    return [
        attributes
        for attributes, body in found
        if re.search(r"stablehlo\.add .*tensor<f(32|64)>", body) and "unique_indices = true" not in attributes
    ]


def host_calls(text):
    return [name for name in re.findall(r"custom_call @(\S+?)\(", text) if "callback" in name]


@pytest.mark.slow
@pytest.mark.simulate
@pytest.mark.parametrize("name", list(MOST))
def test_nothing_waits_collides_or_calls_back(name, request, tmp_path):
    run, files = run_and_files(name, request, tmp_path)
    work = prepare_work(run, files, datasets.TRAIN)
    at, widths = initial_parameters(run), widths_at(run, 0)
    group = max(work.groups, key=lambda group: len(group.variations))
    visit, sweeps = stack_like(work, group), compiled(work.problem, group.variations)
    one = shares.no_templates(work, group.variations)
    samples, slopes = len(work.axes.samples), shares.even_templates(work, 1.0)
    forward = lowered(sweeps[0], empty((samples, length(one))), at, visit, widths, None)
    back = lowered(sweeps[1], empty((length(at),)), at, visit, widths, slopes)
    launches = []
    for text in (forward, back):
        assert not colliding_sums(text)
        assert not host_calls(text)
        launches.append(sum(len(re.findall(rf"stablehlo\.{kind}\b", text)) for kind in LAUNCHES))
    assert launches[0] > 1
    assert all(np.array(launches) <= MOST[name]), launches


def test_what_is_looked_for_is_found():
    """A sum at colliding places, and a call of the host."""
    places = np.array([0, 0, 1])

    def adds(values):
        return jax.numpy.zeros(3).at[places].add(values)

    assert colliding_sums(lowered(jax.jit(adds), np.ones(3)))
    assert not colliding_sums(lowered(jax.jit(lambda v: v.astype(int)), np.ones(3)))


def test_a_deposit_in_fixed_point_is_that_in_turn_and_knows_no_order():
    rng = np.random.default_rng(3)
    number, weights = 50_000, np.concatenate([rng.normal(size=(49_990, 4)), 1e-9 * rng.normal(size=(10, 4))])
    cell = rng.integers(0, 30, number).astype(np.int32)
    total = np.zeros((30, 4))
    in_turn, fixed = (jax.jit(f) for f in (cells._deposited_in_turn, cells._deposited_in_fixed_point))
    expected = np.asarray(fixed(total, cell, weights))
    np.testing.assert_allclose(expected, in_turn(total, cell, weights), atol=1e-8 * 1e-3)
    shuffled = rng.permutation(number)
    np.testing.assert_array_equal(fixed(total, cell[shuffled], weights[shuffled]), expected)
    weights[7] = np.nan
    bad = np.asarray(fixed(total, cell, weights))
    assert np.isnan(bad[cell[7]]).all()
    assert np.isfinite(np.delete(bad, cell[7], axis=0)).all()
    assert not np.any(fixed(total, cell, 0 * np.ones((number, 4))))
