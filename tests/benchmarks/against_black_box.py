"""Gradients through an analysis against black-box searches: same events, start and exact objective, one thread.

A case is an analysis with its free parameters; a search moves them to minimise what the run minimises, with exact cuts
on training events. An evaluation of a black box is one pass over the training events and one fit, by the run's own
compiled sweep, in this process, and without the derivative that gradients need. An epoch of gradients, its look at
exact cuts included, is as many passes as its CPU time is evaluations. Of the best point after so many passes the exact
objective on training and held-out events is written, with the CPU seconds of search and evaluations, compiling aside.
From the repository, with the Python of an environment that has the group `benchmarks`, first `ww_12 events`, then
`python tests/benchmarks/against_black_box.py ww_12 gradients cma --seed 1`; all, and the tables of docs/against.md:
`snakemake --snakefile workflow/studies/Snakefile --cores all -- against`.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from pipeline.runtime import environment

os.environ.update(environment())

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
from black_box_searches import PEERS, SEARCHES, OverBudget, peer
from exact_problem import Problem, Record

import pipeline
from pipeline import config
from pipeline.cluster import InProcess
from pipeline.data import datasets, store
from pipeline.evaluate.robustness.certificate import ExactLooks, certificate
from pipeline.evaluate.robustness.polish import polished
from pipeline.optimise.epochs import each_epoch
from pipeline.optimise.update import initial_state

ROOT = Path(__file__).parent.parent.parent
KEPT = Path("results/published/against")  # searches that ended, a file each
NOTED = (30, 100, 300, 1000)  # passes after which the best so far is written
NO_FIT = 1e6  # what a search is told where there is no number
POLISH = ("evaluate.polish=5", "evaluate.certificate=8")


class Case(NamedTuple):
    """A configuration and its overrides; how many evaluations a black box has."""

    path: str
    overrides: tuple[str, ...] = ()
    budget: int = 1000


WW = "tests/benchmarks/against/ww.yaml"
CASES = {
    "ww_2": Case(WW, ("analysis.options={cuts: 2}", "run=against_ww_2")),
    "ww_6": Case(WW, ("analysis.options={cuts: 6}", "run=against_ww_6")),
    "ww_12": Case(WW),
    "ttbar": Case("config/agc_edges.yaml", budget=300),
    "network": Case("config/agc_network.yaml", ("analysis.options={weighted: true, hidden: 66}",), 300),
    "resonance": Case("config/resonance.yaml"),
}


def by_search(problem, name, budget, seed):
    """A black-box search of so many evaluations."""
    unit, train, used = problem.unit, problem.train, 0
    if name in PEERS:
        peer(PEERS[name])  # imported before the clock runs
    cost, record = train.cost(unit.start), Record(problem.held_out)

    def function(point):
        nonlocal used
        if used == budget:
            raise OverBudget
        parameters = unit.parameters(np.asarray(point))
        published, minimised = train(parameters)
        used += 1
        record.offer(parameters, published, minimised)
        if used in NOTED:
            record.note(used)
        return minimised if np.isfinite(minimised) else NO_FIT

    with contextlib.suppress(OverBudget):
        SEARCHES[name](function, unit.point(unit.start), budget, seed)
    record.end()
    return {**record.numbers, "passes": used, "evaluation_ms": 1e3 * cost}, record.best


def by_grid(problem, budget):
    """For every number of passes the finest grid that it allows; the end is the last one's."""
    found = {}
    for number in sorted({*(n for n in NOTED if n < budget), budget}):
        if number >= 2 ** len(problem.unit.point(problem.unit.start)):
            own, _ = by_search(problem, "grid", number, 0)
            ends = {name: value for name, value in own.items() if "." not in name}
            found |= ends | {f"{name}.{number}": own[name] for name in ("train", "held_out", "seconds")}
    return found


def by_gradients(problem):
    """The run's own epochs, and the best of those that it looked at."""
    settings, train, record = problem.settings, problem.train, Record(problem.held_out)
    cost, state = train.cost(problem.unit.start), initial_state(problem.settings, problem.unit.start)
    epochs = each_epoch(
        settings, train.executor, train.work, state, until=settings.optimise.epochs, judged=problem.judged
    )
    seconds, found, begun = [], [problem.unit.start], time.process_time()
    for state, _ in epochs:
        seconds.append(time.process_time() - begun)
        found.append(state.best.parameters)
        begun = time.process_time()
    seconds[0] = statistics.mean(seconds[1:])  # it compiles
    spent = np.cumsum([0.0, *seconds])
    for number in NOTED:
        epoch = int(np.searchsorted(spent / cost, number, side="right")) - 1
        record.best = found[epoch]
        record.published, record.minimised = train(record.best)
        record.note(number, spent[epoch])
    record.best = found[-1]
    record.published, record.minimised = train(record.best)
    record.end(spent[-1])
    passes = spent[-1] / cost
    costs = {"evaluation_ms": 1e3 * cost, "epoch_passes": passes / len(seconds), "passes": passes}
    sizes = {"parameters": len(problem.unit.point(record.best)), "events": train.work.events}
    return {**record.numbers, **costs, **sizes, "updates": len(seconds)}, record.best


def by_polish(problem, seed):
    """Gradients, polished by exact steps, and CMA-ES of as many passes; the certificate of the gradients' result."""
    gradients, best = by_gradients(problem)
    looks = _Counted(problem)
    result = polished(looks.looks, best)
    record, used = Record(problem.held_out), looks.used
    record.offer(result.parameters, *problem.train(result.parameters))
    record.end()
    spent = gradients["passes"] + used
    ours = {**record.numbers, "passes": spent, "moves": len(result.moves)}
    cma, found_by_cma = by_search(problem, "cma", round(spent), seed)
    for own, point in ((gradients, best), (ours, result.parameters), (cma, found_by_cma)):
        own["difference"], own["difference_error"] = problem.held_out.difference(point, best)
    proof = certificate(looks.looks, best, problem.held_out.work)
    found = {"gradients": gradients, "polished": ours, "cma": cma}
    named = {f"{of}.{name}": value for of, own in found.items() for name, value in own.items()}
    looked = {"passes": looks.used - used, "points": proof.evaluations, "better": len(proof.better)}
    return named | {f"certificate.{name}": float(value) for name, value in looked.items()}


class _Counted:
    """Exact looks at training events, counted: each one pass and fit, those of replicas too."""

    def __init__(self, problem):
        self.used = 0

        def judged(templates, parameters):
            self.used += 1
            return problem.judged(templates, parameters)

        self.looks = ExactLooks(problem.settings, InProcess(), problem.train.work, judged)


def events(case, settings, cores):
    """Make the columns of a case by the workflow; the numbers of events, and the start's exact objective."""
    targets = [str(path) for _, path in columns_of(settings)]
    overrides = json.dumps([*case.overrides])
    subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--nolock", "--rerun-incomplete", "--cores", str(cores)),
            *("--configfile", case.path, "--config", f"set={overrides}", "--", *targets),
        ],
        check=True,
        cwd=ROOT,
    )
    problem = Problem(settings, columns_of(settings))
    numbers = {"parameters": len(problem.unit.point(problem.unit.start))}
    for name, own in (("train", problem.train), ("held_out", problem.held_out)):
        numbers |= {name: own(problem.unit.start)[0], f"{name}_events": own.work.events}
    return numbers | {"held_out_error": problem.held_out.error(problem.unit.start)}


def columns_of(settings):
    """Samples and column files of a run, made or not."""
    folder = store.Folder(settings.run)
    return [(job.sample, Path(folder.columns(job.name))) for job in datasets.columns_jobs(settings)]


def made(given, search, problem):
    """What a search leaves, by name; of one that ended before, what it left."""
    budget = given.passes or CASES[given.case].budget
    if search == "gradients":
        return by_gradients(problem)[0]
    if search == "polish":
        return by_polish(problem, given.seed)
    return by_grid(problem, budget) if search == "grid" else by_search(problem, search, budget, given.seed)[0]


def settings_of(given):
    """The run of a case."""
    case = CASES[given.case]
    return config.load(
        ROOT / case.path, [*case.overrides, *given.set, *POLISH, f"optimise.seed={given.seed}"]
    )


def prepared(given, settings):
    """The problem of a case, whose columns are there."""
    columns = columns_of(settings)
    missing = [str(path) for _, path in columns if not path.exists()]
    if missing:
        raise SystemExit(f"{missing[0]} is not there; run this script with `{given.case} events` first")
    return Problem(settings, columns)


def numbers_of(given):
    """The numbers of all searches, each made once and kept in a file of its own."""
    settings = settings_of(given)
    if given.searches == ["events"]:
        return events(CASES[given.case], settings, given.cores)
    found, problem = {}, None
    for search in given.searches:
        path = KEPT / f"{given.case}_{search}_{given.seed}.json"
        of = {
            "passes": given.passes or CASES[given.case].budget,
            "set": given.set,
            "version": pipeline.__version__,
        }
        kept = store.read_json(path) if path.exists() else {}
        if kept.get("of") != of:
            problem = problem or prepared(given, settings)
            kept = {"of": of, "numbers": {n: float(v) for n, v in made(given, search, problem).items()}}
            path.parent.mkdir(parents=True, exist_ok=True)
            store.write_json(path, kept)
        for name, value in kept["numbers"].items():
            print(f"{search}.{name}: {value:.6g}", flush=True)
        found |= {f"{search}.{name}": value for name, value in kept["numbers"].items()}
    return found


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("case", choices=CASES)
    options.add_argument("searches", nargs="+", choices=["events", "gradients", "polish", *SEARCHES])
    options.add_argument("--passes", type=int, help="evaluations of a black box; absent: those of the case")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--cores", type=int, default=1, help="for making the events")
    options.add_argument("--set", nargs="*", default=[])
    options.add_argument("--output", type=Path)
    given = options.parse_args()
    os.chdir(ROOT)
    found = numbers_of(given)
    if given.output:
        store.write_json(given.output, {name: float(value) for name, value in found.items()})


if __name__ == "__main__":
    main()
