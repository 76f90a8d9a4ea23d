"""How much of the information on a coefficient do bins of the parton-level score keep? Equal bins, and optimised ones.

The score is the best observable there is (R. A. Fisher, 1925): unbinned, without detector and systematic uncertainties,
its bins have all the information as they become many. Edges are optimised by the gradient of the relaxed histogram, and
judged with hard edges on other events. From the repository: `.venv/bin/python tests/benchmarks/score_bins.py`.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pipeline.analyses import contact_interaction as physics
from pipeline.data import store
from pipeline.relax import histogram, ordered_edges

LOW, HIGH = -3.5, 4.5  # of the logarithm of minus the score
BINS = (5, 10, 15, 20)


def events(number, seed):
    """Logarithm of minus the score, score and weight of generated events."""
    made = physics.sampled(number, np.random.default_rng(seed))
    kinematics = made["mass"], np.exp(made["rapidity"]), made["cosine"]
    score = physics.density(*kinematics, {}, slope="ll") / physics.density(*kinematics, {})
    return np.log(-score), score, made["weight"]


def share(edges, value, score, weight):
    """Part of the full information sum w s^2 that hard bins keep: sum over bins of (sum w s)^2 / sum w."""
    place = np.digitize(value, edges[1:-1])
    n, t = (np.bincount(place, own, minlength=len(edges) - 1) for own in (weight, weight * score))
    there = n > 0
    return float(np.sum(t[there] ** 2 / n[there]) / np.sum(weight * score**2))


def optimised(bins, value, score, weight, steps):
    """Edges after so many steps of Adam from equal ones."""
    values, weights, slopes = (jnp.asarray(a) for a in (value, weight, weight * score))

    def lost(logits, bandwidth):
        edges = ordered_edges(logits, LOW, HIGH, smallest=0.05)
        inner = edges.at[jnp.asarray([0, -1])].set(jnp.asarray([-jnp.inf, jnp.inf]))
        n, t = (histogram(values, inner, bandwidth=bandwidth, weights=own) for own in (weights, slopes))
        return -jnp.sum(t**2 / jnp.maximum(n, 1e-9)) / jnp.sum(slopes * jnp.asarray(score))

    optimiser = optax.adam(optax.cosine_decay_schedule(0.1, steps))

    @jax.jit
    def step(logits, state, bandwidth):
        gradient = jax.grad(lost)(logits, bandwidth)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(logits, updates), state

    logits = jnp.zeros(bins)
    state = optimiser.init(logits)
    for number in range(steps):
        bandwidth = jnp.asarray((HIGH - LOW) / bins * 0.2 * 0.1 ** (number / steps))
        logits, state = step(logits, state, bandwidth)
    return np.asarray(ordered_edges(logits, LOW, HIGH, smallest=0.05))


def main():
    """Print a table, and write its numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    training, held_out = (events(options.events, options.seed + i) for i in range(2))
    found = {}
    print("bins   equal   optimised: training   held-out")
    for bins in BINS:
        edges = optimised(bins, *training, options.steps)
        equal = share(np.linspace(LOW, HIGH, bins + 1), *held_out)
        own = share(edges, *training), share(edges, *held_out)
        print(f"{bins:4d}  {equal:.4f}  {own[0]:.4f}  {own[1]:.4f}", flush=True)
        found |= {f"equal_{bins}": equal, f"optimised_{bins}": own[1]}
    if options.output:
        store.write_json(options.output, found)


if __name__ == "__main__":
    main()
