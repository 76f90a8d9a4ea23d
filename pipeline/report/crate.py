"""A run as a Workflow Run RO-Crate: result, workspaces, configuration, versions and provenance in one archive.

The profile is Workflow Run Crate 0.5 (https://w3id.org/ro/wfrun/workflow/0.5; S. Leo et al., PLoS ONE 19 (2024)
e0309210): the workflow is the main entity, and one action says what it was run on and what came out.
"""

import datetime
import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

import pipeline
from pipeline.config import Config
from pipeline.config.reader import read_yaml
from pipeline.data.column_file import Provenance
from pipeline.data.store import Folder, read_json, replacing
from pipeline.errors import PACKAGE, InputError

PROFILES = (
    "https://w3id.org/ro/wfrun/process/0.5",
    "https://w3id.org/ro/wfrun/workflow/0.5",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0",
)
LICENSE = "https://spdx.org/licenses/BSD-3-Clause"
OF_WORKFLOWS = (
    "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"  # which Workflow RO-Crate asks for
)
# The package URL (ECMA-427) of a Python package; what is none has an address, or is named by its name alone.
PACKAGE_URL = "pkg:pypi/{name}@{version}"
NO_PACKAGE = {"python": "https://www.python.org/", "thalweg": None}
# What a run makes, below its folder, with the format of each; the first has to be there.
RESULTS = (
    ("summary.json", "application/json"),
    ("evaluation.json", "application/json"),
    ("report.html", "text/html"),
    ("histograms_*.json", "application/json"),
    ("workspaces/*.json", "application/json"),
)


def write(
    config: Config, given: Path, overrides: Sequence[str], snakefile: Path, inputs: Sequence[Provenance], output: Path
) -> None:  # fmt: skip
    """Pack a run.

    Args:
        given: the YAML file of the run, ``overrides`` its ``--set``.
        snakefile: the workflow's.
        inputs: what is known of every ROOT file.

    Raises:
        InputError: the run has no result yet.
    """
    folder = Folder(config.run).root
    if not Folder(config.run).summary.exists():
        raise InputError(f"{Folder(config.run).summary} does not exist; run the `evaluate` stage first")
    crate = ROCrate(version="1.1")  # which the profile is of
    _describe(crate, config)
    workflow = _workflow(crate, snakefile, read_json(Folder(config.run).summary)["versions"])
    objects = [
        _file(crate, given, "configuration.yaml", "configuration as given", "application/yaml"),
        *_extended(crate, given),
        _text(crate, "configuration.json", "configuration with all defaults", config.model_dump(mode="json")),
        *_analysis(crate, config),
        _text(crate, "inputs.json", "provenance of the input files", [source.as_json() for source in inputs]),
        *_remote(crate, inputs),
        *_overrides(crate, overrides),
    ]
    found = [(path, kind) for pattern, kind in RESULTS for path in sorted(folder.glob(pattern))]
    results = [
        _file(crate, path, f"results/{path.relative_to(folder)}", f"{path.stem} of the run", kind)
        for path, kind in found
    ]
    _action(crate, config, workflow, objects, results, _time(Folder(config.run).summary))
    with replacing(output) as temporary, temporary.open("wb") as stream:
        stream.writelines(crate.stream_zip())


def _extended(crate: Any, given: Path) -> list[Any]:
    """Add the configurations that the one given extends, the nearest first."""
    found, path = list[Any](), given
    while base := read_yaml(path, "configuration").get("extends"):
        path = path.parent / base
        name = f"extended/{len(found) + 1}_{path.name}"
        found.append(_file(crate, path, name, "configuration that is extended", "application/yaml"))
    return found


def _analysis(crate: Any, config: Config) -> list[Any]:
    """Add the files that the analysis is made of, but for those of this package."""
    paths = [Path(path) for path, _ in config.analysis.content.files]
    return [
        _file(crate, path, f"analysis/{path.name}", "part of the analysis", "text/x-python")
        for path in paths
        if not path.is_relative_to(PACKAGE) and path.is_file()
    ]


def _describe(crate: Any, config: Config) -> None:
    """Say what the crate is."""
    crate.name = config.title or config.run
    crate.description = (
        f"Run {config.run!r} of Thalweg: an analysis optimised by gradient descent, and its result."
    )
    crate.root_dataset["license"] = crate.add(
        ContextEntity(
            crate, LICENSE, properties={"@type": "CreativeWork", "name": "BSD-3-Clause, of the workflow"}
        )
    )
    crate.root_dataset["conformsTo"] = [_profile(crate, profile) for profile in PROFILES]
    text = f"# {crate.name}\n\n{crate.description}\n\n`results/summary.json` has the numbers.\n"
    about = {"name": "what this is", "encodingFormat": "text/markdown", "about": {"@id": "./"}}
    crate.add_file(StringIO(text), "README.md", properties=about)


def _profile(crate: Any, address: str) -> Any:
    """Name what something conforms to."""
    name, version = address.rsplit("/", 2)[-2:]
    return crate.add(
        ContextEntity(crate, address, properties={"@type": "CreativeWork", "name": name, "version": version})
    )


def _software(crate: Any, name: str, version: str) -> Any:
    """Name a program or package, by its package URL or address where it has one."""
    address = NO_PACKAGE.get(name, PACKAGE_URL.format(name=name, version=version))
    properties = {"@type": "SoftwareApplication", "name": name, "version": version}
    known = {} if address is None else {"identifier": address}
    return crate.add(ContextEntity(crate, address or f"#{name}", properties={**properties, **known}))


def _workflow(crate: Any, snakefile: Path, versions: dict[str, str]) -> Any:
    """Add the Snakefile, its rules, and the software that the run had."""
    main = crate.add_workflow(snakefile, "Snakefile", main=True, lang="snakemake")
    rules = [
        _file(crate, path, f"workflow/rules/{path.name}", f"rules {path.stem}", "text/plain")
        for path in sorted(snakefile.parent.glob("workflow/rules/*.smk"))
    ]
    software = [_software(crate, name, version) for name, version in versions.items()]
    main["encodingFormat"], main["conformsTo"] = "text/plain", _profile(crate, OF_WORKFLOWS)
    main["name"], main["version"] = "Thalweg", pipeline.__version__
    main["hasPart"], main["softwareRequirements"] = rules, software
    return main


def _file(crate: Any, path: Path, name: str, description: str, kind: str) -> Any:
    """Add a file that is there."""
    properties = {"name": description, "encodingFormat": kind}
    return crate.add_file(path, name, properties=properties, record_size=True)


def _text(crate: Any, name: str, description: str, content: object) -> Any:
    """Add a file of JSON."""
    text = StringIO(json.dumps(content, indent=1) + "\n")
    return crate.add_file(text, name, properties={"name": description, "encodingFormat": "application/json"})


def _remote(crate: Any, inputs: Sequence[Provenance]) -> list[Any]:
    """Name the input files that others can get; ``inputs.json`` has the local ones too."""
    urls = dict.fromkeys(
        source.file for source in inputs if source.file.startswith(("http://", "https://", "root://"))
    )
    return [crate.add_file(url, properties={"name": url.rsplit("/", 1)[-1]}) for url in urls]


def _overrides(crate: Any, overrides: Sequence[str]) -> list[Any]:
    """Name the keys that were overridden, with their values."""
    pairs = [override.partition("=") for override in overrides]
    return [
        crate.add(
            ContextEntity(crate, f"#set-{key}", properties={"@type": "PropertyValue", "name": key, "value": value})
        )
        for key, _, value in pairs
    ]  # fmt: skip


def _action(
    crate: Any, config: Config, workflow: Any, objects: list[Any], results: list[Any], ended: str
) -> None:
    """Say that the workflow made the results of these objects; nobody knows who ran it."""
    properties = {"@type": "CreateAction", "name": f"run {config.run}", "endTime": ended}
    description = (
        f"{config.analysis.target} optimised over {config.optimise.epochs} epochs, then judged with hard cuts"
    )
    action = crate.add(ContextEntity(crate, "#run", properties={**properties, "description": description}))
    action["instrument"], action["object"], action["result"] = workflow, objects, results
    crate.root_dataset["mentions"] = action


def _time(path: Path) -> str:
    """Return when a file was written."""
    return datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC).isoformat(timespec="seconds")
