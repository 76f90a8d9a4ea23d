"""Training through the fit against cross-entropy, with 86 uncertainties of shape, seven classes and two signals.

`config/tautau.yaml`: one network is trained by cross-entropy until it is no better on held-out events, and from there
on through the fit: with all nuisance parameters, with twenty leading ones observed (`optimise.leading`), and with none
of them. Each is judged with exact cuts, all nuisance parameters in the fit, on events that no training saw; errors are
a bootstrap of these. A run that was stopped goes on. From the repository: `.venv/bin/python tests/benchmarks/sannt.py
--seed 1 --output sannt.json`. docs/sannt.md
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import NamedTuple

from pipeline.runtime import environment

os.environ.update(environment())

import equinox as eqx
import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

from pipeline import cluster, config, optimise
from pipeline.analyses.tautau_events import floor
from pipeline.columns.make import make_columns
from pipeline.data import column_file, datasets, store
from pipeline.fit import fit_with_covariance
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.likelihood.configured.run_workspace import likelihood
from pipeline.likelihood.configured.specifier import Specifier
from pipeline.optimise.parameters import initial_parameters
from pipeline.simulate.generate import generate
from pipeline.templates.fill import EXACT

ROOT = Path(__file__).parent.parent.parent
FIT, CROSS_ENTROPY = ROOT / "config/tautau.yaml", ROOT / "config/tautau_cross_entropy.yaml"
TRAININGS = {  # through the fit, by name: what they override
    "fit": [],
    "leading": ["optimise.leading=20"],
    "statistics": ["model.systematics=[]"],
}
STRENGTHS = ("mu_ggH", "mu_qqH")
LOOKED_EVERY = 10  # epochs of cross-entropy, from one look at the held-out loss to the next
PATIENCE = 5  # looks without a smaller one


class Bench(NamedTuple):
    """Where a seed's files are, what is overridden, and who sweeps."""

    folder: Path
    overrides: list
    files: list
    executor: object

    def settings(self, path=FIT, more=(), start=None):
        files = [] if start is None else [f"analysis.files={{start: {start}}}"]
        return config.load(path, [*self.overrides, *more, *files])


def columns_of(settings, folder):
    """Column files of the made-up events, [(sample, path)]; those that are there stay."""
    found, seeds = [], settings.simulate
    for job in datasets.columns_jobs(settings):
        path = folder / f"{job.name}.parquet"
        for file in () if path.exists() else job.files:
            source, index = Path(file.path), int(Path(file.path).stem.rpartition("_")[2])
            if not source.exists():
                source.parent.mkdir(parents=True, exist_ok=True)
                events = seeds.samples[file.sample].events_per_file
                seed = datasets.file_seed(seeds.seed, file.sample, index)
                generate(seeds.generator, file.sample, source, events=events, seed=seed)
        if not path.exists():
            column_file.write(path, *make_columns(settings, job))
        found.append((job.sample, path))
    return found


def saved(path, train):
    """The parameters of a training and its numbers: of its file, or trained and written."""
    if not path.exists():
        parameters, numbers = train()
        np.savez(path.with_suffix(".new.npz"), **parameters)
        store.write_json(path.with_suffix(".json"), numbers)
        path.with_suffix(".new.npz").rename(path)
    with np.load(path) as found:
        return dict(found), store.read_json(path.with_suffix(".json"))


def by_cross_entropy(bench):
    """A network trained by cross-entropy: the epoch at which the held-out loss was smallest."""
    settings = bench.settings(CROSS_ENTROPY)
    train, held_out = (prepare_work(settings, bench.files, fold) for fold in datasets.folds(settings))
    state = optimise.initial_state(settings, initial_parameters(settings))
    best, parameters, seconds = {"loss": np.inf, "epoch": 0.0}, {}, []
    alone = cluster.InProcess()  # so little work that sending it would take longer
    for after, record in optimise.each_epoch(settings, alone, train, state, until=settings.optimise.epochs):
        seconds.append(record.seconds)
        if after.epoch % LOOKED_EVERY:
            continue
        loss = float(forward(alone, held_out, after.parameters, EXACT).yields["loss"].sum())
        print(f"cross-entropy, epoch {after.epoch}: {record.objective:.5f}, held out {loss:.5f}", flush=True)
        if loss < best["loss"]:
            best, parameters = {"loss": loss, "epoch": float(after.epoch)}, after.parameters
        elif after.epoch - best["epoch"] >= PATIENCE * LOOKED_EVERY:
            break
    return parameters, {**best, **timed(seconds)}


def through_the_fit(bench, name, start):
    """The same network trained on through the fit; the epoch that the run keeps."""
    settings = bench.settings(more=TRAININGS[name], start=start)
    work = prepare_work(settings, bench.files, datasets.TRAIN)
    began = time.perf_counter()

    def told(record):
        print(
            f"{name}, epoch {record.epoch}: {record.objective:.5f}, {record.seconds:.1f} s, check {record.check}",
            flush=True,
        )

    state, records = optimise.run(
        settings, bench.executor, work, optimise.initial_state(settings, initial_parameters(settings)),
        until=settings.optimise.epochs, checkpoints=bench.folder / name, fingerprint=name, progress=told,
    )  # fmt: skip
    print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
    return state.result, timed([record.seconds for record in records])


def timed(seconds):
    """Seconds of the first epoch, which compiles, of a median one, and of all."""
    return {
        "first_seconds": seconds[0],
        "epoch_seconds": statistics.median(seconds[1:] or seconds),
        "seconds": sum(seconds),
        "updates": float(len(seconds)),
    }


@eqx.filter_jit
def both(model):
    """Uncertainties of both strengths on Asimov data; NaN where the fit did not converge."""
    dense = model.dense(model.templates)
    places = [model.parameter_names.index(name) for name in STRENGTHS]
    result, covariance = fit_with_covariance(
        model, model.expected_data(model.initial, dense), places, templates=dense
    )
    return jnp.where(result.converged, jnp.sqrt(jnp.diagonal(covariance)), jnp.nan)


def judged(bench, parameters, fold, replicas=0):
    """Uncertainties of both strengths with exact cuts [1 + replicas, 2], with all nuisance parameters and with none."""
    settings, alone = bench.settings(), bench.settings(more=TRAININGS["statistics"])
    work = prepare_work(settings, bench.files, fold)
    specifiers = [Specifier.of_run(s, work.axes) for s in (settings, alone)]
    found = []
    for replica in [None, *range(replicas)]:
        templates = forward(bench.executor, work, parameters, EXACT, replica=replica)
        found.append([np.asarray(both(likelihood(templates, s))) for s in specifiers])
    return np.array(found).transpose(1, 0, 2)


def compared(bench, replicas):
    """All numbers by name; a change is relative to cross-entropy."""
    start = bench.folder / "cross_entropy.npz"
    trained = {"cross_entropy": saved(start, lambda: by_cross_entropy(bench))}
    for name in TRAININGS:
        path = bench.folder / f"{name}.npz"
        trained[name] = saved(path, lambda name=name: through_the_fit(bench, name, start))
    numbers, base = {}, {}
    for name, (parameters, own) in trained.items():
        numbers |= {f"{name}.{key}": value for key, value in own.items()}
        train = judged(bench, parameters, datasets.TRAIN)
        held_out = judged(bench, parameters, datasets.HELD_OUT, replicas)
        base = base or {"train": train, "held_out": held_out}
        for which, strength in enumerate(STRENGTHS):
            for model, kind in enumerate(("", ".statistical")):
                values = held_out[model, :, which]
                changes = values / base["held_out"][model, :, which] - 1
                numbers |= {
                    f"{name}.{strength}{kind}": values[0],
                    f"{name}.{strength}{kind}.error": np.nanstd(values[1:], ddof=1),
                    f"{name}.{strength}{kind}.train": train[model, 0, which],
                    f"{name}.{strength}{kind}.change": 100 * changes[0],
                    f"{name}.{strength}{kind}.change.error": 100 * np.nanstd(changes[1:], ddof=1),
                    f"{name}.{strength}{kind}.change.train": 100
                    * (train[model, 0, which] / base["train"][model, 0, which] - 1),
                }
        print(json.dumps({k: float(v) for k, v in numbers.items() if k.startswith(name)}), flush=True)
    return {name: float(value) for name, value in numbers.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="of events and start values")
    parser.add_argument("--replicas", type=int, default=20, help="of the bootstrap")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="override of the configuration")
    parser.add_argument("--folder", type=Path, default=ROOT / "results/sannt")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    folder = (arguments.folder / str(arguments.seed)).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    overrides = [f"simulate.seed={arguments.seed}", f"optimise.seed={arguments.seed}", *arguments.set]
    bench = Bench(folder, overrides, [], None)
    files = columns_of(bench.settings(), folder)
    with cluster.executor(bench.settings().cluster, arguments.workers, folder) as executor:
        numbers = compared(bench._replace(files=files, executor=executor), arguments.replicas)
    floors = {f"floor.mu_{name}.statistical": value for name, value in floor(100_000, 1).items()}
    store.write_json(arguments.output, numbers | floors)


if __name__ == "__main__":
    main()
