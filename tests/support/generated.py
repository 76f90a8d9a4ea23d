"""Generated files of a shipped configuration, made without Snakemake; and runs on few of them."""

import functools
import json

from pipeline import config
from pipeline.data import datasets
from pipeline.simulate import generate


def make_files(run, folder, generate):
    """Make every planned file in a folder by `generate(sample, path, events=, seed=)`; the manifest of them."""
    manifest = datasets.planned_manifest(run)
    for process, variations in manifest.items():
        for variation, entry in variations.items():
            sample = process if variation == datasets.NOMINAL else f"{process}__{variation}"
            for index, file in enumerate(entry["files"]):
                path = folder / f"{sample}_{index}.root"
                seed = datasets.file_seed(run.simulate.seed, sample, index)
                generate(sample, path, events=file["nevts"], seed=seed)
                file["path"] = str(path)
    return manifest


def generated(path, events, folder, overrides=()):
    """The configuration with so many events of each sample, in files made here, everything in this process."""
    sizes = [f"simulate.samples.{s}={{files: 1, events_per_file: {n}}}" for s, n in events.items()]
    planned = config.load(path, [*sizes, *overrides])
    manifest = make_files(planned, folder, functools.partial(generate.generate, planned.simulate.generator))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    here = ["simulate=null", f"data.manifest={folder / 'manifest.json'}", "cluster.executor=in_process"]
    return config.load(path, [*overrides, *here])
