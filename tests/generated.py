"""Runs of a shipped configuration on few generated events, without Snakemake."""

import json

from pipeline import config, datasets, ntuples


def generated(path, events, folder, overrides=()):
    """The configuration with so many events of each sample, in files made here, everything in this process."""
    sizes = [f"simulate.samples.{s}={{files: 1, events_per_file: {n}}}" for s, n in events.items()]
    planned = config.load(path, [*sizes, *overrides])
    manifest = datasets.planned_manifest(planned)
    for process, variations in manifest.items():
        for variation, entry in variations.items():
            sample = process if variation == datasets.NOMINAL else f"{process}__{variation}"
            for file in entry["files"]:
                file["path"] = str(folder / f"{sample}.root")
                seed = datasets.file_seed(planned.simulate.seed, sample, 0)
                ntuples.generate(
                    planned.simulate.generator,
                    sample,
                    folder / f"{sample}.root",
                    events=file["nevts"],
                    seed=seed,
                )
    (folder / "manifest.json").write_text(json.dumps(manifest))
    here = ["simulate=null", f"data.manifest={folder / 'manifest.json'}", "cluster.executor=in_process"]
    return config.load(path, [*overrides, *here])
