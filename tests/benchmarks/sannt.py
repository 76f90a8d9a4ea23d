"""Training through the fit against cross-entropy, with 86 uncertainties of shape, seven classes and two signals.

`config/tautau.yaml`: one network is trained by cross-entropy until it is no better on held-out events, and from there
on through the fit: with all nuisance parameters, with twenty leading ones observed (`optimise.leading`), and with none
of them. Each is judged with exact cuts, all nuisance parameters in the fit, on held-out events, of which no training
took a gradient; cross-entropy's epoch is chosen on them. Errors are a bootstrap of these. A run that was stopped goes
on. From the repository: `.venv/bin/python tests/benchmarks/sannt.py --seed 1 --output sannt.json`. docs/sannt.md
"""

import argparse
import os
import statistics
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
from pipeline.data.fingerprint import fingerprint_of
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
    "statistics": ["model.systematics=[]"],
    "leading": ["optimise.leading=20"],
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

    def place(self, name, settings):
        """The folder of a training, another one for whatever else decides its result."""
        found = self.folder / f"{name}_{fingerprint_of(settings, self.files)[:8]}"
        found.mkdir(exist_ok=True)
        return found


def columns_of(settings, folder):
    """Column files of the made-up events, [(sample, path)]; a ROOT file that is there stays."""
    found, seeds = [], settings.simulate
    for job in datasets.columns_jobs(settings):
        path = folder / f"{job.name}.parquet"
        for file in job.files:
            source, index = Path(file.path), int(Path(file.path).stem.rpartition("_")[2])
            if not source.exists():
                source.parent.mkdir(parents=True, exist_ok=True)
                events = seeds.samples[file.sample].events_per_file
                seed = datasets.file_seed(seeds.seed, file.sample, index)
                generate(seeds.generator, file.sample, source, events=events, seed=seed)
        column_file.write(path, *make_columns(settings, job))
        found.append((job.sample, path))
    return found


def kept(path, make):
    """Arrays of a file, or made and written."""
    if not path.exists():
        made = make()
        np.savez(path.with_suffix(".new.npz"), **made)
        path.with_suffix(".new.npz").rename(path)
    with np.load(path) as found:
        return dict(found)


def by_cross_entropy(bench, settings):
    """A network trained by cross-entropy: the epoch at which the held-out loss was smallest."""
    train, held_out = (prepare_work(settings, bench.files, fold) for fold in datasets.folds(settings))
    state = optimise.initial_state(settings, initial_parameters(settings))
    best, parameters, seconds = {"loss": np.inf, "epoch": 0}, {}, []
    alone = cluster.InProcess()  # so little work that sending it would take longer
    for after, record in optimise.each_epoch(settings, alone, train, state, until=settings.optimise.epochs):
        seconds.append(record.seconds)
        if after.epoch % LOOKED_EVERY:
            continue
        loss = float(forward(alone, held_out, after.parameters, EXACT).yields["loss"].sum())
        print(f"cross-entropy, epoch {after.epoch}: {record.objective:.5f}, held out {loss:.5f}", flush=True)
        if loss < best["loss"]:
            best, parameters = {"loss": loss, "epoch": after.epoch}, after.parameters
        elif after.epoch - best["epoch"] >= PATIENCE * LOOKED_EVERY:
            break
    return parameters, {**best, **timed(seconds)}


def through_the_fit(bench, settings, place):
    """The same network trained on through the fit; the epoch that the run keeps."""
    work = prepare_work(settings, bench.files, datasets.TRAIN)
    state, records = optimise.run(
        settings, bench.executor, work, optimise.initial_state(settings, initial_parameters(settings)),
        until=settings.optimise.epochs, checkpoints=place / "checkpoints",
        fingerprint=fingerprint_of(settings, bench.files), progress=told,
    )  # fmt: skip
    return state.result, timed([record.seconds for record in records])


def told(record):
    """Print an epoch."""
    check = "" if record.check is None else f", exact {record.check.minimised:.6f}"
    print(f"epoch {record.epoch}: {record.objective:.6f}{check}, {record.seconds:.1f} s", flush=True)


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


def judged(bench, parameters, replicas):
    """Uncertainties with exact cuts by fold: [with all or no nuisance parameters, events and replicas, strengths]."""
    settings, without = bench.settings(), bench.settings(more=TRAININGS["statistics"])
    found = {}
    for fold, number in ((datasets.TRAIN, 0), (datasets.HELD_OUT, replicas)):
        work = prepare_work(settings, bench.files, fold)
        specifiers = [Specifier.of_run(own, work.axes) for own in (settings, without)]
        rows = []
        for replica in (None, *range(number)):
            templates = forward(bench.executor, work, parameters, EXACT, replica=replica)
            rows.append([np.asarray(both(likelihood(templates, own))) for own in specifiers])
        found[fold] = np.array(rows).transpose(1, 0, 2)
    return found


def compared(bench, trainings, replicas):
    """All numbers by name; a change is relative to cross-entropy, in percent."""
    numbers, base, start = {}, None, None
    for name in ("cross_entropy", *trainings):
        if start is None:  # the loss knows no systematics
            settings = bench.settings(CROSS_ENTROPY, TRAININGS["statistics"])
        else:
            settings = bench.settings(more=TRAININGS[name], start=start)
        place = bench.place(name, settings)
        if not (place / "numbers.json").exists():
            print(f"{name}:", flush=True)
            trained = through_the_fit(bench, settings, place) if start else by_cross_entropy(bench, settings)
            kept(place / "network.npz", lambda trained=trained: trained[0])
            store.write_json(place / "numbers.json", trained[1])
        parameters = kept(place / "network.npz", dict)
        at = bench.place("judged", bench.settings(start=place / "network.npz"))
        found = kept(at / f"{replicas}.npz", lambda own=parameters: judged(bench, own, replicas))
        base, start = base or found, start or place / "network.npz"
        numbers |= numbers_of(name, store.read_json(place / "numbers.json"), found, base)
    return {name: float(value) for name, value in numbers.items()}


def numbers_of(name, own, found, base):
    """Numbers of one training, by name."""
    numbers = {f"{name}.{key}": value for key, value in own.items()}
    for which, strength in enumerate(STRENGTHS):
        for model, kind in enumerate(("", ".statistical")):
            held_out, train = (found[fold][model, :, which] for fold in (datasets.HELD_OUT, datasets.TRAIN))
            before, before_train = (
                base[fold][model, :, which] for fold in (datasets.HELD_OUT, datasets.TRAIN)
            )
            changes = 100 * (held_out / before - 1)
            numbers |= {
                f"{name}.{strength}{kind}": held_out[0],
                f"{name}.{strength}{kind}.train": train[0],
                f"{name}.{strength}{kind}.error": np.nanstd(held_out[1:], ddof=1),
                f"{name}.{strength}{kind}.change": changes[0],
                f"{name}.{strength}{kind}.change.train": 100 * (train[0] / before_train[0] - 1),
                f"{name}.{strength}{kind}.change.error": np.nanstd(changes[1:], ddof=1),
            }
    print("\n".join(f"{key}: {value:.5g}" for key, value in numbers.items()), flush=True)
    return numbers


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="of events and start values")
    parser.add_argument("--replicas", type=int, default=20, help="of the bootstrap")
    parser.add_argument("--trainings", nargs="+", choices=TRAININGS, default=[*TRAININGS])
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
        numbers = compared(
            bench._replace(files=files, executor=executor), arguments.trainings, arguments.replicas
        )
    floors = {f"floor.mu_{name}.statistical": value for name, value in floor(100_000, 1).items()}
    store.write_json(arguments.output, numbers | floors)


if __name__ == "__main__":
    main()
