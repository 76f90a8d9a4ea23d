"""What orderings of the few objects of an event cost, value and gradient, against XLA's bare sort of them.

Prints a table; medians. Run from the repository: `.venv/bin/python tests/benchmarks/ordering.py`.
"""

import argparse
import os
import platform
import statistics
import time

import jax
import jax.numpy as jnp

from pipeline.relax.ordering import soft_nth, soft_rank, soft_sort, soft_top


def median(function, x, repetitions):
    jax.block_until_ready(function(x))
    seconds = []
    for _ in range(repetitions):
        started = time.perf_counter()
        jax.block_until_ready(function(x))
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--objects", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args()
    key = jax.random.key(1)
    pt = jax.random.exponential(key, (options.events, options.objects)) * 50
    operations = {
        "sort": lambda x: soft_sort(x, width=0.1),
        "rank": lambda x: soft_rank(x, width=5.0),
        "top 2": lambda x: soft_top(x, 2, width=5.0),
        "2nd": lambda x: soft_nth(x, 2, width=5.0),
        "jnp.sort": jnp.sort,
    }
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores; jax {jax.__version__}, float32")
    print(
        f"{options.events} events of {options.objects} objects, medians of {options.repetitions} repetitions"
    )
    print(f"{'':10}{'value':>14}{'and gradient':>16}")
    for name, operation in operations.items():
        both = jax.jit(jax.value_and_grad(lambda x, f=operation: jnp.sum(f(x) ** 2)))
        value, gradient = (
            median(f, pt, options.repetitions) / options.events for f in (jax.jit(operation), both)
        )
        print(f"{name:10}{value * 1e9:8.0f} ns/event{gradient * 1e9:10.0f} ns/event")


if __name__ == "__main__":
    main()
