"""What the differentiable histogram costs: against relaxed.hist, boost-histogram and the memory's bandwidth.

The same arrays for all, float32, with `--x64` float64 too; kernels of half a bin. Value and gradient are with respect
to values, weights, edges and bandwidth (relaxed.hist has no weights). Contenders take turns, so that other users of the
machine slow all of them; medians. Peers: `.uv/bin/uv pip install --group benchmarks`. Run from the repository:
`.venv/bin/python tests/benchmarks/histogram.py`; with `--x64` in the setting of the pipeline.
"""

import argparse
import ctypes
import os
import platform
import statistics
import time
from functools import partial
from pathlib import Path

import boost_histogram as bh
import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtr

from pipeline.relax import histogram

BINS = (10, 50, 200)


def events(n, variations=None):
    """Values that cover the bins of [0, 1] and a tenth more on either side, weights around 1."""
    rng = np.random.default_rng(20261122)
    shape = n if variations is None else (variations, n)
    values = rng.uniform(-0.1, 1.1, shape).astype(np.float32)
    return values, rng.uniform(0.5, 1.5, n).astype(np.float32)


def binning(bins):
    return np.linspace(0, 1, bins + 1).astype(np.float32), np.float32(0.5 / bins)


def objective(values, weights, edges, bandwidth):
    contents = histogram(values, edges, bandwidth=bandwidth, weights=weights)
    return jnp.sum(
        contents * jnp.cos(jnp.arange(contents.size, dtype=contents.dtype).reshape(contents.shape))
    )


forward = jax.jit(lambda x, w, e, s: histogram(x, e, bandwidth=s, weights=w))
both = jax.jit(jax.value_and_grad(objective, argnums=(0, 1, 2, 3)))


def taking_turns(contenders, repetitions):
    """Median seconds of each. They run twice at every turn, first to have the caches and memory to themselves."""
    seconds = {name: [] for name in contenders}
    for _ in range(repetitions):
        for name, run in contenders.items():
            jax.block_until_ready(run())
            started = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def boost_fill(values, weights, axis, threads):
    peer = bh.Histogram(axis, storage=bh.storage.Double())
    return peer.fill(values, weight=weights, threads=threads).view()


def against_peers(n, repetitions, dtype):
    values, weights = (array.astype(dtype) for array in events(n))
    x, w = jnp.asarray(values), jnp.asarray(weights)
    print(
        f"\n{n} events, {np.dtype(dtype).name}, milliseconds; "
        "boost-histogram's fill in units of our forward, and ours in its"
    )
    print(
        f"{'bins':>5}{'forward':>9}{'boost':>10}{'/ ours':>8}{'2 threads':>10}{'/ ours':>8}"
        f"{'any edges':>10}{'/ ours':>8}{'value+grad':>13}{'/ boost':>9}"
    )
    for bins in BINS:
        edges, s = (np.asarray(array, dtype=dtype) for array in binning(bins))
        at = x, w, jnp.asarray(edges), jnp.asarray(s)
        regular, variable = bh.axis.Regular(bins, 0, 1), bh.axis.Variable(edges)
        found = taking_turns(
            {
                "forward": lambda at=at: forward(*at),
                "both": lambda at=at: both(*at),
                "boost": lambda axis=regular: boost_fill(values, weights, axis, 1),
                "threads": lambda axis=regular: boost_fill(values, weights, axis, 2),
                "variable": lambda axis=variable: boost_fill(values, weights, axis, 1),
            },
            repetitions,
        )
        ours, gradient = found["forward"], found["both"]
        peers = "".join(
            f"{found[p] * 1e3:10.2f}{found[p] / ours:7.2f}x" for p in ("boost", "threads", "variable")
        )
        print(f"{bins:5}{ours * 1e3:9.2f}{peers} {gradient * 1e3:12.2f}{gradient / found['boost']:8.2f}x")


def against_relaxed(n, repetitions):
    import relaxed  # noqa: PLC0415

    values, weights = events(n)
    x, w = jnp.asarray(values), jnp.asarray(weights)

    @jax.jit
    @partial(jax.value_and_grad, argnums=(0, 1, 2))
    def theirs(values, edges, bandwidth):
        contents = relaxed.hist(values, edges, bandwidth, density=False)
        return jnp.sum(contents * jnp.cos(jnp.arange(contents.size, dtype=contents.dtype)))

    print(f"\n{n} events, value and gradient, milliseconds")
    print(f"{'bins':>5}{'ours':>10}{'relaxed.hist':>14}{'ratio':>8}")
    for bins in BINS:
        edges, s = (jnp.asarray(array) for array in binning(bins))
        runs = {
            "ours": lambda e=edges, s=s: both(x, w, e, s),
            "theirs": lambda e=edges, s=s: theirs(x, e, s),
        }
        found = taking_turns(runs, repetitions)
        print(
            f"{bins:5}{found['ours'] * 1e3:10.2f}{found['theirs'] * 1e3:14.1f}{found['theirs'] / found['ours']:7.0f}x"
        )


def exact(values, weights, edges, bandwidth, cotangent):
    """Contents and gradients by the formula in float64, an edge at a time."""
    x, w, edges, s = (np.asarray(array, dtype=np.float64) for array in (values, weights, edges, bandwidth))
    of_edges = np.concatenate([[0], cotangent]) - np.concatenate([cotangent, [0]])
    below, by_x, by_w, by_edge, by_s = [], 0.0, 0.0, [], 0.0
    for edge, c in zip(edges, of_edges, strict=True):
        z = (edge - x) / s
        share, density = ndtr(z), np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) / s
        below.append(w @ share)
        by_x, by_w = by_x - c * w * density, by_w + c * share
        by_edge.append(c * (w @ density))
        by_s -= c * (w @ (z * density))
    return np.diff(below), (by_x, by_w, np.array(by_edge), by_s)


def accuracy(n):
    print(f"\n{n} events: largest error of a bin, relative; of gradients, in units of the largest")
    print(
        f"{'bins':>5}{'dtype':>9}{'contents':>11}{'values':>11}{'weights':>11}{'edges':>11}{'bandwidth':>11}"
    )
    values, weights = events(n)
    for dtype in (np.float32, np.float64) if jax.config.jax_enable_x64 else (np.float32,):
        for bins in BINS:
            at = [np.asarray(array, dtype=dtype) for array in (values, weights, *binning(bins))]
            contents, slopes = exact(*at, np.cos(np.arange(bins)))
            errors = [np.max(np.abs(np.asarray(forward(*at), dtype=np.float64) / contents - 1))]
            for found, expected in zip(both(*at)[1], slopes, strict=True):
                distance = np.abs(np.asarray(found, dtype=np.float64) - expected)
                errors.append(np.max(distance) / np.max(np.abs(expected)))
            print(f"{bins:5}{np.dtype(dtype).name:>9}" + "".join(f"{error:11.1e}" for error in errors))


def resident(of):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(of))


def peak_memory(sizes):
    """Bytes beyond inputs and outputs: what XLA plans, and by how much the process grew."""
    print("\nvalue and gradient, MB beyond inputs and outputs")
    print(f"{'events':>9}{'bins':>5}{'planned':>9}{'resident':>10}")
    for n in sizes:
        x, w = (jnp.asarray(array) for array in events(n))
        for bins in BINS:
            at = x, w, *(jnp.asarray(array) for array in binning(bins))
            compiled = both.lower(*at).compile()
            planned = compiled.memory_analysis().temp_size_in_bytes
            jax.block_until_ready(compiled(*at))
            ctypes.CDLL("libc.so.6").malloc_trim(
                0
            )  # what is freed goes back, so that it counts when used again
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
            before = resident("VmRSS")
            results = jax.block_until_ready(compiled(*at))
            outputs = sum(array.nbytes for array in jax.tree.leaves(results))
            grown = max(0, resident("VmHWM") - before - outputs)
            print(f"{n:9}{bins:5}{planned / 1e6:9.1f}{grown / 1e6:10.1f}")


def bandwidth_of_memory(repetitions):
    """Bytes per second of a copy, counted as read and written."""
    big = jnp.zeros(20_000_000, dtype=jnp.float32)
    copy = jax.jit(lambda a, c: a + c)
    found = taking_turns({"copy": lambda: copy(big, jnp.float32(1))}, repetitions)
    return 2 * big.nbytes / found["copy"]


def scaling(sizes, repetitions):
    """The floor: values and weights are read, for the gradient read again and two arrays written."""
    speed = bandwidth_of_memory(repetitions)
    print(
        f"\n50 bins; floor at the memory's {speed / 1e9:.1f} GB/s: 8 bytes per event forward, 24 with gradient"
    )
    print(f"{'events':>9}{'sets':>5}{'forward':>16}{'x floor':>9}{'value+grad':>16}{'x floor':>9}")
    edges, s = (jnp.asarray(array) for array in binning(50))
    for n, variations in [(n, None) for n in sizes] + [(100_000, v) for v in (1, 4, 16)]:
        x, w = (jnp.asarray(array) for array in events(n, variations))
        runs = {
            "forward": lambda x=x, w=w: forward(x, w, edges, s),
            "both": lambda x=x, w=w: both(x, w, edges, s),
        }
        found = taking_turns(runs, repetitions)
        count = n * (variations or 1)
        columns = "".join(
            f"{count / found[run] / 1e6:9.1f} Mev/s{found[run] * speed / bytes_ / count:8.1f}x"
            for run, bytes_ in (("forward", 8), ("both", 24))
        )
        print(f"{n:9}{variations or 1:5} {columns}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument(
        "--largest", type=int, default=10_000_000, help="of the tables over numbers of events"
    )
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--x64", action="store_true", help="jax_enable_x64, as in the pipeline")
    parser.add_argument("--without-relaxed", action="store_true", help="leave out the slow peer")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", options.x64)
    print(
        f"machine: {platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].device_kind}; jax {jax.__version__}"
    )
    print(f"medians of {options.repetitions} repetitions; jax_enable_x64 {options.x64}")
    for dtype in (np.float32, np.float64) if options.x64 else (np.float32,):
        against_peers(options.events, options.repetitions, dtype)
    accuracy(options.events)
    sizes = [n for n in (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000) if n <= options.largest]
    peak_memory([n for n in sizes if n >= 1_000_000])
    scaling(sizes, options.repetitions)
    if not options.without_relaxed:
        against_relaxed(options.events, max(3, options.repetitions // 2))


if __name__ == "__main__":
    main()
