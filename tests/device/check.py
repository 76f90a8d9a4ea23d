"""What this project does on a GPU: to be run once where one is, in five minutes.

Prints tables: the histogram of 1e6 and 1e8 events beside the time that reading and writing its arrays takes; epochs of
neos and of `agc_ttbar`'s selection in events a second; whether two runs have the same bits; how far they are from the
processor's. From the repository, with
`envs/requirements-gpu.txt` installed: `.venv/bin/python tests/device/check.py`. `--events 1e5 --rounds 1` tries the
script itself on a processor.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests/support"), str(ROOT / "tests/benchmarks")]

import scaling
from columnfiles import write_columns
from generated import generated

from pipeline.cluster import InProcess
from pipeline.data import datasets
from pipeline.gradient.sweeps import forward, pullback
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.relax.histogram import histogram


def seconds(function, rounds):
    """Median seconds of calls after a first one, which compiles."""
    jax.block_until_ready(function())
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        jax.block_until_ready(function())
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def copied(array, rounds):
    """Seconds to read an array and to write it."""
    one_more = jax.jit(lambda x: x + 1)
    return seconds(lambda: one_more(array), rounds)


def histograms(sizes, rounds):
    """Forward and with gradient, float32, 50 bins, in units of what reading and writing values and weights takes."""
    print(
        f"\n{'events':>9}{'forward ms':>12}{'gradient ms':>13}{'copies ms':>11}{'ratio':>7}{'ratio':>7}{'same':>11}"
    )
    edges = jnp.linspace(-3, 3, 51)
    for size in sizes:
        key = jax.random.key(1)
        x = jax.random.normal(key, (int(size),), dtype=jnp.float32)
        w = jnp.ones_like(x)

        def total(x, w):
            return jnp.sum(histogram(x, edges, bandwidth=0.1, weights=w) ** 2)

        one = jax.jit(lambda x, w: histogram(x, edges, bandwidth=0.1, weights=w))
        both = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))
        floor = 2 * copied(x, rounds)
        times = [seconds(lambda f=f, x=x, w=w: f(x, w), rounds) for f in (one, both)]
        same = bool(jnp.array_equal(one(x, w), one(x[::-1], w)))
        print(f"{size:9.0e}{1e3 * times[0]:12.2f}{1e3 * times[1]:13.2f}{1e3 * floor:11.2f}"
              f"{times[0] / floor:7.2f}{times[1] / floor:7.2f}{same!s:>11}", flush=True)  # fmt: skip


def neos_work(events, chunk, folder, nodes):
    """neos with its published network, so many events in all."""
    clouds = ("signal", "background", "background__up", "background__down")
    settings = [
        "data.held_out_fraction=0",
        f"cluster.chunk_events={chunk}",
        f"analysis.options={{hidden: [{nodes}, {nodes}]}}",
    ]
    run = generated(ROOT / "config/neos.yaml", dict.fromkeys(clouds, int(events / 4)), folder, settings)
    return run, prepare_work(run, write_columns(run, folder), datasets.TRAIN)


def ttbar_work(events, chunk, folder, nodes):
    """`agc_ttbar`'s ttbar with all its variations, a few simulated events again and again with smeared jets."""
    run = scaling.settings_of(None)
    layout = {"chunk_events": chunk, "precision": "float32", "executor": "in_process"}
    run = run.model_copy(update={"cluster": run.cluster.model_copy(update=layout)})
    path = scaling.replicated(run, folder)
    return run, scaling.work_of(run, path, events, folder)


def epochs(name, run, work, executor, events, rounds):
    """Events a second of both sweeps, whether two runs have the same bits, and how far from the processor's."""
    at, widths = initial_parameters(run), widths_at(run, 0)

    def once(executor=executor):
        templates = forward(executor, work, at, widths)
        return templates, pullback(executor, work, at, widths, templates)

    started = time.perf_counter()
    first = once()
    compiled = time.perf_counter() - started
    took = seconds(lambda: once()[1], rounds)
    again = once()
    same = all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True)
    )
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        there = once(InProcess(device=jax.local_devices(backend="cpu")[0]))
    apart = max(
        float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-300))
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(there), strict=True)
    )
    print(
        f"{name:12}{events:10.0e}{compiled:12.1f}{took:10.3f}{events / took:12.3g}{same!s:>11}{apart:12.1e}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=float, nargs="+", default=[1e6, 1e8], help="of the histograms")
    parser.add_argument("--of-epochs", type=float, default=4e5)
    parser.add_argument("--chunk", type=int, default=65536)
    parser.add_argument("--nodes", type=int, default=1024, help="of each of neos's two hidden layers")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    device = jax.devices()[0]
    print(f"{device.device_kind}, jax {jax.__version__}; medians of {options.rounds}, the first not counted")
    histograms(options.events, options.rounds)
    print(
        f"\n{'epochs of':12}{'events':>10}{'compiled':>12}{'epoch s':>10}{'events/s':>12}{'same':>11}{'from CPU':>12}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, make in (("neos", neos_work), ("agc_ttbar", ttbar_work)):
            own = Path(folder) / name
            own.mkdir()
            run, work = make(options.of_epochs, options.chunk, own, options.nodes)
            epochs(name, run, work, InProcess(device=device), work.events, options.rounds)


if __name__ == "__main__":
    main()
