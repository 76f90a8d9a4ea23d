"""Epochs of networks with 1e3 to 5e6 weights: seconds beside a plain JAX program, and bytes that travel.

neos with two hidden layers, 4000 events. "plain" is the same gradient of all events at once in one JAX program, with
optax; a gradient over chunks computes templates twice, so 4/3 of it is the floor. Then one more summand of a sum that
knows no order beside a plain addition; and two workers with the events in 64 groups: bytes that the process of the
optimisation receives in a pullback, and by how much its memory grows. From the repository:
`.venv/bin/python tests/benchmarks/many_weights.py`.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

from pipeline.cluster.settings import KEEP_MEMORY
from pipeline.runtime import environment

os.environ.update(environment() | KEEP_MEMORY)

import jax

jax.config.update("jax_enable_x64", True)

import distributed.comm.tcp
import jax.numpy as jnp
import numpy as np
import optax
import psutil

from pipeline import cluster, config
from pipeline.cluster import InProcess
from pipeline.columns.make import make_columns
from pipeline.containers import Columns
from pipeline.data import column_file, datasets
from pipeline.data.jobs import ColumnsJob, SourceFile
from pipeline.gradient.accumulator import added, empty
from pipeline.gradient.chunks import cut, parted
from pipeline.gradient.compiled import in_types, mixed_as_numpy_does, recipe
from pipeline.gradient.sweeps import forward, pullback
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.optimise.update import initial_state, update_of
from pipeline.simulate.generate import generate
from pipeline.templates.fill import fill

ROOT = Path(__file__).parent.parent.parent
HIDDEN = {1e3: 30, 1e5: 315, 1e6: 999, 5e6: 2235}


def run_of(hidden, folder, *overrides):
    """neos with a network of so many nodes in each of two hidden layers, 1000 events of each sample."""
    found = config.load(
        ROOT / "config" / "neos.yaml",
        [f"analysis.options.hidden=[{hidden}, {hidden}]", "data.held_out_fraction=0", *overrides],
    )
    return found


def columns_of(run, folder, events, files):
    """Column files of each sample."""
    found = []
    for sample in datasets.sample_names(run):
        for number in range(files):
            root = folder / f"{sample}_{number}_{events}.root"
            path = root.with_suffix(".parquet")
            if not path.exists():
                generate(run.simulate.generator, sample, root, events=events, seed=number)
                file = SourceFile(sample, str(root), events)
                column_file.write(path, *make_columns(run, ColumnsJob(sample, number, (file,))))
            found.append((sample, path))
    return found


def median(function, repetitions):
    """Median seconds of calls after a first one."""
    function()
    seconds = []
    for _ in range(repetitions):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def ours(run, work, cotangent, repetitions):
    """Seconds of both sweeps and an update."""
    executor, update = InProcess(), update_of(run, work.problem.analysis.parameters)
    widths, state = widths_at(run, 0), [initial_state(run, initial_parameters(run))]

    def epoch():
        forward(executor, work, state[0].parameters, widths)
        gradient = pullback(executor, work, state[0].parameters, widths, cotangent)
        state[0] = update(state[0], gradient)
        jax.block_until_ready(state[0].optimiser)

    return median(epoch, repetitions)


def plain(run, work, cotangent, repetitions):
    """Seconds of one program: the gradient of all events, each sample at once, and optax."""
    problem, widths = work.problem, widths_at(run, 0)
    samples = []
    for group in work.groups:
        (chunk,) = cut(group, problem.layout)
        columns, factor = parted(Columns({n: a for n, a in chunk.items() if n != "event_number"}))
        samples.append((work.axes.samples.index(group.sample), columns, factor))

    def loss(parameters):
        total = 0.0
        for sample, columns, factor in samples:
            with mixed_as_numpy_does():
                found = fill(recipe(problem, ()), *in_types(problem, parameters, columns, widths), factor)
            total += sum((found.yields[c] * cotangent.yields[c][sample]).sum() for c in found.yields)
        return total

    optimiser = optax.adam(run.optimise.learning_rate)

    @jax.jit
    def step(parameters, state):
        value, gradient = jax.value_and_grad(loss)(parameters)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimiser.update(gradient, state, parameters)
            return optax.apply_updates(parameters, updates), state, value

    state = [initial_parameters(run), None]
    state[1] = optimiser.init(state[0])

    def epoch():
        *state[:], _ = jax.block_until_ready(step(*state))

    return median(epoch, repetitions)


def summands(size, repetitions):
    """Seconds of one more summand of so many numbers: in an accumulator, and plain."""
    numbers = jnp.asarray(np.random.default_rng(1).normal(size=int(size)))
    state = [jax.device_put(empty((int(size),))), jnp.zeros(int(size))]
    steps = jax.jit(added, donate_argnums=0), jax.jit(jnp.add, donate_argnums=0)

    def more(place):
        state[place] = jax.block_until_ready(steps[place](state[place], numbers))

    return [median(lambda place=place: more(place), repetitions) for place in (0, 1)]


class Received:
    """Counts the bytes that Dask hands to this process."""

    def __init__(self):
        self.bytes, self._read = 0, distributed.comm.tcp.read_bytes_rw

    async def __call__(self, stream, number):
        self.bytes += number
        return await self._read(stream, number)


def traffic(run, columns, folder, epochs):
    """Bytes received in a pullback, growth of this process in MB, number of groups; with two workers."""
    work, process = prepare_work(run, columns, datasets.TRAIN), psutil.Process()
    received = distributed.comm.tcp.read_bytes_rw = Received()
    widths, state = widths_at(run, 0), initial_state(run, initial_parameters(run))
    update = update_of(run, work.problem.analysis.parameters)
    with cluster.executor(run.cluster, 2, folder) as executor:
        cotangent = forward(executor, work, state.parameters, widths)
        before, most = process.memory_info().rss, 0
        for _ in range(epochs):
            forward(executor, work, state.parameters, widths)
            received.bytes = 0
            gradient = pullback(executor, work, state.parameters, widths, cotangent)
            found = received.bytes
            state = update(state, gradient)
            most = max(most, process.memory_info().rss)
    distributed.comm.tcp.read_bytes_rw = received._read
    return found, (most - before) / 2**20, len(work.groups)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=float, nargs="+", default=list(HIDDEN))
    parser.add_argument(
        "--traffic", type=float, nargs="*", default=[1e6], help="weights for the second table"
    )
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores; jax {jax.__version__}; "
          f"medians of {options.repetitions}, the first not counted")  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"\n{'weights':>10}{'epoch s':>10}{'plain s':>10}{'ratio':>8}")
        for size in options.weights:
            run = run_of(HIDDEN[size], folder)
            work = prepare_work(run, columns_of(run, folder, 1000, 1), datasets.TRAIN)
            at = initial_parameters(run)
            number = sum(np.size(array) for array in at.values())
            cotangent = forward(InProcess(), work, at, widths_at(run, 0))
            mine, peer = (f(run, work, cotangent, options.repetitions) for f in (ours, plain))
            print(f"{number:10.2e}{mine:10.4f}{peer:10.4f}{mine / peer:8.2f}", flush=True)
        print(f"\n{'numbers':>10}{'sum ms':>10}{'plain ms':>10}{'ratio':>8}")
        for size in options.weights:
            found, peer = summands(size, options.repetitions)
            print(f"{size:10.0e}{1e3 * found:10.3f}{1e3 * peer:10.3f}{found / peer:8.1f}", flush=True)
        print(f"\n{'weights':>10}{'groups':>8}{'MB received':>13}{'growth MB':>11}")
        for size in options.traffic:
            run = run_of(HIDDEN[size], folder, "cluster.group_events=60", "cluster.chunk_events=64",
                         "cluster.executor=local")  # fmt: skip
            found, grown, groups = traffic(run, columns_of(run, folder, 60, 16), folder, 5)
            print(f"{size:10.0e}{groups:8}{found / 1e6:13.1f}{grown:11.0f}", flush=True)


if __name__ == "__main__":
    main()
