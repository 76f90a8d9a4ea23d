"""Published numbers beside ours, as published.yaml lists them: run a study, collect all, fill the tables.

A study is a run of a configuration, a scan of the events of such a run, or a script; it leaves a file of named numbers.
A table of the list names which numbers of which study stand beside the published ones.
"""

import argparse
import importlib.metadata
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import config as configuration
from pipeline.config import Config
from pipeline.data import run_files, store
from pipeline.data.names import TRAIN
from pipeline.errors import InputError
from pipeline.evaluate import evaluation
from pipeline.evaluate.evaluation import Numbers as Found

FOLDER = Path("results/published")
BEGIN, END = "<!-- published: {}; generated, do not edit -->", "<!-- end of published -->"
LOGARITHMS = ("cls", "discovery_p_value")  # objectives that are the logarithm of what is published
VERSIONS = ("thalweg", "jax", "jaxlib", "pyhf", "numpy", "snakemake", "coffea", "awkward", "uproot", "dask")
Numbers = dict[str, float]


def study(listed: Mapping[str, Any], name: str, seed: int, cores: int) -> dict[str, Any]:
    """Run a study; the command that a user types for it, and its numbers."""
    own = listed["studies"][name]
    if "script" in own:
        return _script(own["script"].replace("{seed}", str(seed)), FOLDER / f"{name}_{seed}.output.json")
    if "scan" in own:
        return _scan(listed["studies"][own["scan"]], own, name, seed, cores)
    path, overrides = _of_run(own, name, seed)
    run = configuration.load(path, overrides)
    _call(
        *("snakemake", "--nolock", "--rerun-incomplete", "--cores", str(cores), "--configfile", str(path)),
        *("--config", f"set={json.dumps(overrides)}", "--", str(store.Folder(run.run).evaluation)),
    )
    settings = shlex.quote(f"set={json.dumps(overrides[1:])}")
    command = f"snakemake --cores all --configfile {path} --config {settings}"
    return {"command": command, "numbers": numbers(run)}


def _of_run(own: Mapping[str, Any], name: str, seed: int) -> tuple[Path, list[str]]:
    overrides = [f"run=published_{name}_{seed}", f"optimise.seed={seed}", *own.get("set", ())]
    return Path("config") / own["config"], overrides


def _scan(run: Mapping[str, Any], own: Mapping[str, Any], name: str, seed: int, cores: int) -> dict[str, Any]:
    path, overrides = _of_run(run, own["scan"], seed)
    output = FOLDER / f"{name}_{seed}.output.json"
    sets = [argument for override in overrides for argument in ("--set", override)]
    over = [argument for grid in own["over"] for argument in ("--over", grid)]
    fold = ["--fold", own.get("fold", TRAIN)]
    _call(
        "pipeline", "scan", str(path), *sets, *over, *fold, "--workers", str(cores), "--output", str(output)
    )
    command = f"thalweg scan {path} {shlex.join([*over, *fold])} --output scan.json"
    return {"command": command, "numbers": scanned(store.read_json(output))}


def _script(arguments: str, output: Path) -> dict[str, Any]:
    subprocess.run([sys.executable, *shlex.split(arguments), "--output", str(output)], check=True)
    return {"command": f"python {arguments}", "numbers": store.read_json(output)}


def _call(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


def numbers(run: Config) -> Numbers:
    """What a finished run says, by name: `optimised.held_out.exact`, `benchmark_2.optimised.train.pyhf`, ...

    p-values come as themselves, not as the logarithms that are optimised. `claimed` is the objective of the last epoch,
    `seconds` those of all epochs, `update_seconds` of a typical one, `gradient.cut` the derivative before the first.
    """
    evaluated = evaluation.read(store.Folder(run.run).evaluation, {"kind": "evaluation"})
    blocks = run_files.blocks(run)
    records = [
        record for block in blocks for record in run_files.records_in(block, store.read_state(block)[1])
    ]
    found = {
        "updates": float(len(records)),
        "claimed": _plain(run.objective.kind, records[-1].objective),
        "seconds": sum(record.seconds for record in records),
        "update_seconds": statistics.median(record.seconds for record in records[len(records) > 1 :]),
        **{f"gradient.{name}": value for name, value in records[0].gradient.items()},
    }
    for row in evaluated.rows:
        found |= _of_row(run, f"{row.point}.{row.fold}", row)
        for model, further in row.also.items():
            found |= _of_row(run.alternatives[model], f"{model}.{row.point}.{row.fold}", further)
        impacts = row.fit.impacts if row.fit else ()
        found |= {f"{row.point}.{row.fold}.constraint.{i.label}": i.constraint for i in impacts}
    for point, place in evaluated.points.items():
        found |= {f"{point}.{name}": value for name, value in place.parameters.items()}
        for channel, edges in place.edges.items():
            found |= {f"{point}.edges_{channel}.{i}": edge for i, edge in enumerate(edges or ())}
    return found


def scanned(found: Mapping[str, Any]) -> Numbers:
    """The best points of a scan, by name: `exact`, `exact.cut`, `relaxed.edges_mass.1`; each one's number, `exact_0`.

    `points` is how many there are.
    """
    made = {"points": float(len(found["points"]))}
    for number, point in enumerate(found["points"]):
        if point["exact"] is not None:
            made[f"exact_{number}"] = _plain(found["objective"]["kind"], point["exact"])
    for kind in ("exact", "relaxed"):
        best = found["best"][kind]
        if best is None:
            raise InputError("no point of the scan has a fit")
        made[kind] = _plain(found["objective"]["kind"], best[kind])
        for name, value in best["values"].items():
            if isinstance(value, list):
                made |= {f"{kind}.{name}.{i}": edge for i, edge in enumerate(value)}
            else:
                made[f"{kind}.{name}"] = value
    return made


def _of_row(run: Config, where: str, row: Found) -> Numbers:
    numbers = {"exact": row.exact, "relaxed": row.relaxed, "pyhf": row.pyhf}
    return {
        f"{where}.{kind}": _plain(run.objective.kind, number)
        for kind, number in numbers.items()
        if number is not None
    }


def _plain(kind: str, value: float) -> float:
    return math.exp(value) if kind in LOGARITHMS else value


def collected(listed: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Every table of the list, its cells filled from the files in `folder`."""
    return {
        "command": "snakemake --snakefile workflow/studies/Snakefile --cores all",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {package: importlib.metadata.version(package) for package in VERSIONS},
        "tables": {
            name: {
                "columns": list(table["columns"].values()),
                "rows": [_row(row, table["columns"], listed["studies"], folder) for row in table["rows"]],
            }
            for name, table in listed["tables"].items()
        },
    }


def _row(
    row: Mapping[str, Any], columns: Mapping[str, str], studies: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """One row: what was published, or the median and the range of our numbers over the seeds that were run."""
    if "published" in row:
        return {"label": row["label"], "published": row["published"]}
    seeds = range(1, studies[row["of"]].get("seeds", 1) + 1)
    paths = [folder / f"{row['of']}_{seed}.json" for seed in seeds]
    found = [store.read_json(path) for path in paths if path.exists()]
    if not found:
        return {"label": row["label"], "seeds": 0, "cells": [None for _ in columns]}
    names = row.get("numbers") or [row["number"].format(key) for key in columns]
    return {
        "label": row["label"],
        "seeds": len(found),
        "command": found[0]["command"],
        "cells": [None if n is None else _cell(n, row["of"], [f["numbers"] for f in found]) for n in names],
    }


def _cell(name: str, of: str, found: Sequence[Numbers]) -> Numbers:
    if name not in found[0]:
        raise InputError(f"study {of!r} has no number {name!r}; it has {', '.join(sorted(found[0]))}")
    values = [own[name] for own in found]
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def with_tables(page: str, content: Mapping[str, Any]) -> str:
    """A page with the tables that it has places for, as of today."""
    for name, table in content["tables"].items():
        begin = BEGIN.format(name)
        before, found, rest = page.partition(begin)
        if found:
            page = f"{before}{begin}\n\n{markdown(table)}\n{END}{rest.partition(END)[2]}"
    return page


def markdown(table: Mapping[str, Any]) -> str:
    """A table, a line for each row; several seeds as the median and the range."""
    lines = [f"| | {' | '.join(table['columns'])} |", "| --- |" + " --- |" * len(table["columns"])]
    for row in table["rows"]:
        cells = row["published"] if "published" in row else [_shown(cell) for cell in row["cells"]]
        seeds = {0: ", not run yet", 1: ""}.get(row.get("seeds", 1), f", {row.get('seeds')} seeds")
        lines.append(f"| {row['label']}{seeds} | {' | '.join('' if c is None else str(c) for c in cells)} |")
    return "\n".join(lines) + "\n"


def _shown(cell: Numbers | None) -> str:
    if cell is None:
        return ""
    median, lowest, highest = (f"{cell[key]:.4g}" for key in ("median", "lowest", "highest"))
    return median if lowest == highest else f"{median} ({lowest} to {highest})"


def pages(folder: Path) -> Iterator[Path]:
    """Pages with places for tables."""
    return (
        page
        for page in sorted(folder.glob("*.md"))
        if BEGIN.partition("{")[0] in page.read_text(encoding="utf-8")
    )


def main() -> None:
    """One verb."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    one, every = (verbs.add_parser(name) for name in ("study", "collect"))
    for verb in (one, every):
        verb.add_argument("list", type=Path)
        verb.add_argument("--output", type=Path, required=True)
    one.add_argument("name")
    one.add_argument("--seed", type=int, default=1)
    one.add_argument("--cores", type=int, default=os.cpu_count())
    options = parser.parse_args()
    listed = configuration.read_yaml(options.list, "list of studies")
    if options.verb == "study":
        store.write_json(options.output, study(listed, options.name, options.seed, options.cores))
        return
    content = collected(listed, FOLDER)
    store.write_json(options.output, content)
    for page in pages(options.output.parent):
        store.write_text(page, with_tables(page.read_text(encoding="utf-8"), content))


if __name__ == "__main__":
    main()
