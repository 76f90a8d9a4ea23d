"""Two signals in bins of two features: argmax with equal bins, this project's learned bins, and gato-hep's.

GATO's problem (`pipeline/analyses/gato.py`). All learn from the same events and are judged on others, ten times as
many, by the same NumPy: sqrt(Z1 Z2) of counting significances, and of discovery significances with a nuisance
parameter for the yield and one for the shape of the largest background. Prints a row for each number of bins, method
and seed. From the repository, with `--peer` the Python of an environment that has gato-hep (absent: without it):
`.venv/bin/python tests/benchmarks/learned_bins.py --peer ../gato/bin/python`.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from pipeline.runtime import environment

os.environ.update(environment())

import jax

jax.config.update("jax_enable_x64", True)

import equinox as eqx
import numpy as np

from pipeline import config, optimise
from pipeline.analyses import gato
from pipeline.analysis import analysis_of
from pipeline.analysis.assign import assign
from pipeline.cluster import InProcess
from pipeline.columns.make import make_columns
from pipeline.config.quantities import JointSignificance
from pipeline.data import column_file, datasets
from pipeline.gradient.work import prepare_work
from pipeline.likelihood import HistFactory
from pipeline.objective import Inputs, value_of
from pipeline.optimise.parameters import initial_parameters
from pipeline.simulate import in_memory

ROOT = Path(__file__).parent.parent.parent
LUMINOSITY = 100.0
CROSS_SECTIONS = {"signal_1": 0.5, "signal_2": 0.1, **gato.CROSS_SECTIONS}
SIZES = {  # of what is learned from, for each unit of `--events`
    "signal_1": 0.15,
    "signal_2": 0.15,
    **{name: 0.7 * own / 260 for name, own in gato.CROSS_SECTIONS.items()},
}
JUDGED = 1_000_000
LARGEST = "background_1"
MOST_BINS = 20
YIELD = 0.1  # relative, of the largest background


class Events(NamedTuple):
    """Features by sample, and of the shape variations of the largest background; the weight of an event of each."""

    features: dict
    weights: dict


def drawn(events, seed):
    """Coordinates of events of each sample."""
    rngs = np.random.default_rng(seed).spawn(len(SIZES))
    return {
        name: gato.events(name, round(share * events), rng)
        for (name, share), rng in zip(SIZES.items(), rngs, strict=True)
    }


def seen(coordinates):
    """The features of events, and of the shifted ones."""
    moved = {
        f"{LARGEST}_{end}": {
            **coordinates[LARGEST],
            "x2": coordinates[LARGEST]["x2"] + sign * gato.SHIFT,
        }
        for end, sign in (("up", 1), ("down", -1))
    }
    features = {
        name: np.stack([np.asarray(f) for f in gato.features(own)], axis=1)
        for name, own in {**coordinates, **moved}.items()
    }
    weights = {
        name: LUMINOSITY * CROSS_SECTIONS[name.removesuffix("_up").removesuffix("_down")] / len(own)
        for name, own in features.items()
    }
    return Events(features, weights)


def yields(places, events, bins):
    return {
        name: events.weights[name] * np.bincount(own, minlength=bins).astype(float)
        for name, own in places.items()
    }


def padded(found):
    """The same in as many bins whatever their number, so that one program judges all; the rest hold no signal."""
    empty = sum(found[name] for name in gato.CROSS_SECTIONS) <= 0
    found = {
        name: np.pad(np.where(empty, 0.0, own), (0, MOST_BINS - len(own))) for name, own in found.items()
    }
    found["background_2"] += sum(found[name] for name in gato.CROSS_SECTIONS) <= 0
    return found


@eqx.filter_jit
def number_of(options, model):
    return value_of(options, Inputs(model, model.templates))


def judged(places, events, bins):
    """sqrt(Z1 Z2) of counting significances, and of fitted ones with both nuisance parameters."""
    found = padded(yields(places, events, bins))
    samples = [
        {
            "name": name,
            "data": found[name].tolist(),
            "modifiers": [
                *([{"name": f"mu_{name[-1]}", "type": "normfactor", "data": None}] if "sig" in name else []),
                *(_uncertain(found) if name == LARGEST else []),
            ],
        }
        for name in CROSS_SECTIONS
    ]
    spec = {
        "version": "1.0.0",
        "channels": [{"name": "bins", "samples": samples}],
        "observations": [{"name": "bins", "data": sum(found[n] for n in CROSS_SECTIONS).tolist()}],
        "measurements": [
            {
                "name": "m",
                "config": {
                    "poi": "mu_1",
                    "parameters": [{"name": f"mu_{n}", "bounds": [[-100, 100]]} for n in (1, 2)],
                },
            }
        ],
    }
    model = HistFactory.from_workspace(spec)
    numbers = []
    for fitted in (False, True):
        options = JointSignificance(signals=("mu_1", "mu_2"), fitted=fitted)
        found_value = number_of(options, model)
        numbers.append(float(found_value.value) if found_value.converged else np.nan)
    return numbers


def _uncertain(found):
    up, down, own = (found[f"{LARGEST}{end}"] for end in ("_up", "_down", ""))
    return [
        {"name": "yield_1", "type": "normsys", "data": {"hi": 1 + YIELD, "lo": 1 - YIELD}},
        {
            "name": "shape_1",
            "type": "histosys",
            "data": {
                "hi_data": (up * own.sum() / up.sum()).tolist(),
                "lo_data": (down * own.sum() / down.sum()).tolist(),
            },
        },
    ]


def probabilities(features):
    """Of signal 1, signal 2 and background: the softmax that gato-hep's events have."""
    exponents = np.column_stack([np.expm1(features), np.ones(len(features))])
    return exponents / exponents.sum(axis=1, keepdims=True)


def equal_bins(features, bins):
    """The class of largest probability, and equal bins of it from 1/3 to 1; signals have as many, the rest the last."""
    own = (bins - 1) // 2
    counts, found = (own, own, bins - 2 * own), probabilities(features)
    largest = np.argmax(found, axis=1)
    place = (np.max(found, axis=1) - 1 / 3) / (2 / 3)
    number = np.array(counts)[largest]
    inside = np.minimum((place * number).astype(int), number - 1)
    return np.cumsum([0, *counts])[largest] + inside


class Seconds:
    """Wall time and this process's own time on all cores since it was made."""

    def __init__(self):
        self.begun = time.perf_counter(), time.process_time()

    def __call__(self):
        return time.perf_counter() - self.begun[0], time.process_time() - self.begun[1]


def started_from(features):
    """Features of the first events of each class, as many of each: what clusters are made of."""
    total = sum(gato.CROSS_SECTIONS.values())
    return np.concatenate(
        [
            *(features[name][: gato.STARTED_FROM[name]] for name in gato.SIGNALS),
            *(
                features[name][: round(gato.STARTED_FROM["background"] * own / total)]
                for name, own in gato.CROSS_SECTIONS.items()
            ),
        ]
    )


def ours(name, bins, seed, coordinates, train, folder, epochs):
    """The bins by a shipped configuration, learned from some events; with the seconds of start and epochs."""
    manifest = in_memory.as_files(coordinates, folder, "Events")
    np.save(folder / "start.npy", started_from(train.features))
    run = config.load(
        ROOT / f"config/{name}.yaml",
        [
            "simulate=null", f"data.manifest={manifest}", "data.held_out_fraction=0", f"optimise.seed={seed}",
            f"analysis.options={{bins: {bins}}}", f"analysis.files.start={folder / 'start.npy'}",
            f"channels.categories.shares={bins}",
            *([f"optimise.epochs={epochs}", f"optimise.epochs_per_job={epochs}"] if epochs else []),
            "cluster.executor=in_process",
        ],
    )  # fmt: skip
    files = []
    for job in datasets.columns_jobs(run):
        path = folder / f"{job.name}.parquet"
        column_file.write(path, *make_columns(run, job))
        files.append((job.sample, path))
    work = prepare_work(run, files, datasets.TRAIN)
    seconds = Seconds()
    start = optimise.initial_state(run, initial_parameters(run))
    state, _ = optimise.run(
        run, InProcess(), work, start, until=run.optimise.all_epochs, checkpoints=folder,
        fingerprint="", progress=lambda _: None,
    )  # fmt: skip
    seconds = seconds()
    learned = analysis_of(run).learned["categories"].exported(state.result)
    return lambda features: assign(learned, features), seconds


def peer(python, bins, seed, train, test, folder, epochs):
    """gato-hep's bins of the events that are judged, and its seconds."""
    given = {f"train_{name}": probabilities(train.features[name])[:, :2] for name in CROSS_SECTIONS}
    given |= {f"weight_{name}": train.weights[name] for name in CROSS_SECTIONS}
    given |= {f"test_{name}": probabilities(own)[:, :2] for name, own in test.features.items()}
    np.savez(folder / "events.npz", **given)
    # isolated: this folder has modules named as others that the peer imports
    script = Path(__file__).with_name("learned_bins_peer.py")
    arguments = [folder / "events.npz", bins, seed, epochs, folder / "places.npz"]
    subprocess.run([python, "-I", script, *map(str, arguments)], check=True)
    found = np.load(folder / "places.npz")
    return {name: found[f"test_{name}"] for name in test.features}, found["seconds"]


def methods(arguments, bins, seed, coordinates, train, test, scratch):
    """Bins of the events that are judged by each method: (method, {sample: bins}, seconds)."""
    yield "argmax, equal", {n: equal_bins(f, bins) for n, f in test.features.items()}, (0.0, 0.0)
    for name in ("gato", "gato_uncertain") if bins in arguments.uncertain else ("gato",):
        folder = scratch / f"{name}_{bins}_{seed}"
        assigned, seconds = ours(name, bins, seed, coordinates, train, folder, arguments.epochs)
        yield f"ours, {name}", {n: assigned(f) for n, f in test.features.items()}, seconds
    if arguments.peer:
        yield "gato-hep", *peer(arguments.peer, bins, seed, train, test, scratch, arguments.peer_epochs)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bins", type=int, nargs="+", default=[5, 10, MOST_BINS])
    parser.add_argument(
        "--uncertain", type=int, nargs="*", default=[10], help="bins that are learned with fits, too"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--events", type=int, default=60_000, help="to learn from")
    parser.add_argument("--epochs", type=int, help="absent: those of the configuration")
    parser.add_argument("--peer", help="Python of an environment with gato-hep")
    parser.add_argument("--peer-epochs", type=int, default=250)
    arguments = parser.parse_args()
    test = seen(drawn(JUDGED, 999))
    print(
        "| bins | method | seed | counting | with nuisance parameters | seconds | of processors |", flush=True
    )
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for seed in arguments.seeds:
            coordinates = drawn(arguments.events, seed)
            train = seen(coordinates)
            for bins in arguments.bins:
                for name, places, seconds in methods(
                    arguments, bins, seed, coordinates, train, test, Path(scratch)
                ):
                    counting, fitted = judged(places, test, bins)
                    row = f"{bins} | {name} | {seed} | {counting:.4f} | {fitted:.4f}"
                    print(f"| {row} | {seconds[0]:.0f} | {seconds[1]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
