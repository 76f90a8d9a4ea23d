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


def maker_of(run):
    """What makes a file of a configuration: its generator, or the embedded data set."""
    if run.simulate.generator is not None:
        return functools.partial(generate.generate, run.simulate.generator)
    from pipeline.simulate.pythia import simulate  # noqa: PLC0415, the extra `simulate`

    return simulate


def generated(path, events, folder, overrides=()):
    """The configuration with so many events of each sample, in files made here, everything in this process."""
    sizes = [f"simulate.samples.{s}={{files: 1, events_per_file: {n}}}" for s, n in events.items()]
    planned = config.load(path, [*sizes, *overrides])
    manifest = make_files(planned, folder, maker_of(planned))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    here = ["simulate=null", f"data.manifest={folder / 'manifest.json'}", "cluster.executor=in_process"]
    return config.load(path, [*overrides, *here])
