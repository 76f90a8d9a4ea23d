# The run, read once, and the input functions of the rules.
import functools
import hashlib
import json
import shlex
import sys
from pathlib import Path

from snakemake.settings.types import DeploymentMethod

import pipeline
from pipeline import config as configuration
from pipeline.data import datasets
from pipeline.data.names import OPTIMISED, POINTS
from pipeline.data.provenance import branch_of_generator_weights
from pipeline.data.store import Folder
from pipeline.errors import ThalwegError

# The clone, as seen from the folder where Snakemake runs and results go; other folders than the clone will do.
CLONE = Path(workflow.basedir)
if CLONE.resolve() == Path.cwd().resolve():
    CLONE = Path()


def chosen_run():
    """The configuration of --configfile, or the shipped default, and its overrides `--config set="key=value ..."`.

    Also `--config set=[key=value,key=value]`: HTCondor's plugin loses the quotes of an argument with spaces, and Snakemake
    takes a text with a colon for YAML.
    """
    files = workflow.overwrite_configfiles or [CLONE / "config/agc_ttbar.yaml"]
    given = workflow.config_settings.config or {}
    if len(files) > 1 or set(given) - {"set"}:
        raise WorkflowError(
            f"a run is one --configfile (got {len(files)}); keys are overridden by --config set='key=value ...' "
            f"(got {sorted(given)})"
        )
    overrides = given.get("set") or ""
    if isinstance(overrides, list):
        return Path(files[0]), [str(override) for override in overrides]
    try:
        return Path(files[0]), shlex.split(overrides)
    except (ValueError, TypeError, AttributeError):
        raise WorkflowError(
            f"--config set: {overrides!r} are no overrides key=value; where a value has a space or a colon, give a list "
            """of texts: --config 'set=["channels.loss={in_fit: false}", "optimise.epochs=5"]'"""
        ) from None


def explained(function, *arguments):
    """The function's result; what it explains to the user becomes Snakemake's error, without a traceback."""
    try:
        return function(*arguments)
    except ThalwegError as error:
        raise WorkflowError(str(error)) from None


def fingerprint(content):
    """A short name for a part of the configuration: a rule runs again when it changes."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def needs(mem_mb, minutes):
    """The resources of a rule, more at every attempt: memory, time, disk; HTCondor's plugin has names of its own for them.

    `mem_mb` is that of the job and its first thread; each further one asks for as much as a worker.
    """

    def grows(amount):
        return lambda wildcards, attempt: amount * attempt

    def memory(wildcards, attempt, threads):
        return (mem_mb + (threads - 1) * WORKER_MB) * attempt

    def disk_mb(wildcards, input, attempt):
        return (1000 + int(input.size_mb)) * attempt

    def carried_back(wildcards, rulename):
        declared = workflow.get_rule(rulename)
        timing = declared.expand_benchmark(wildcards)
        return ",".join(
            [*declared.expand_log(wildcards), *([timing] if timing else [])]
        )

    htcondor = {
        "htcondor_request_mem_mb": memory,
        "htcondor_request_disk_mb": disk_mb,
        "allowed_job_duration": grows(60 * minutes),
    }
    if not workflow.storage_settings.shared_fs_usage:
        # Snakemake waits for the log and the benchmark of a job, the plugin carries its outputs only.
        htcondor["htcondor_transfer_output_files"] = carried_back
    return {"mem_mb": memory, "runtime": grows(minutes), **htcondor}


def needs_of_sweeps(minutes):
    """The resources of what goes through all events, for workers of its own or as one task of a job for each."""
    resources = needs(mem_mb=1000 + WORKER_MB, minutes=minutes)
    if not ALLOCATION:
        return resources
    return {
        **resources,
        "mpi": "srun",  # Snakemake then leaves it to the rule's command to start the tasks
        "tasks": TASKS,
        "mem_mb_per_cpu": lambda wildcards, attempt: WORKER_MB * attempt,
    }


CONFIG, OVERRIDES = chosen_run()
RUN = explained(configuration.load, CONFIG, OVERRIDES)
FILES = explained(datasets.source_files, RUN)
FOLDER = Folder(RUN.run)
ANALYSIS = explained(lambda: [*RUN.analysis.sources, *RUN.analysis.files.values()])
ANALYSIS_DIGEST = explained(lambda: RUN.analysis.digest)
# `verb VERB ...` in a rule is `python -m pipeline VERB CONFIG --set ... ...`. The configuration is no part of params,
# so that a rule runs again only for what it takes from it. The python is Snakemake's own, or that of its conda environment.
SET = " ".join(f"--set {shlex.quote(override)}" for override in OVERRIDES)
PYTHON = (
    "python"
    if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
    else sys.executable
)
SCRIPTS = CLONE / "workflow/scripts"
# `sweep VERB ...` is the same for what goes through all events, with as many workers as there are threads, or with workers
# elsewhere and one thread, or as the tasks of one Slurm job.
ALLOCATION = RUN.cluster.executor == "slurm_allocation"
TASKS = (
    RUN.cluster.workers + 2
)  # the scheduler and the process that goes on take one each
WORKER_MB = RUN.cluster.memory_mb or 4000
SWEEP_THREADS = 16 if RUN.cluster.executor == "local" else 1
LAUNCH = f"srun --mpi=none --kill-on-bad-exit --ntasks={TASKS} " if ALLOCATION else ""
shell.prefix(
    'verb() {{ {PYTHON:q} -m pipeline "$1" {CONFIG:q} {SET} "${{@:2}}"; }}; '
    'sweep() {{ {LAUNCH}{PYTHON:q} -m pipeline "$1" {CONFIG:q} {SET} "${{@:2}}"; }}; '
    'script() {{ {PYTHON:q} {SCRIPTS:q}/"$1".py "${{@:2}}"; }}; '
)


wildcard_constraints:
    folder=r"([\w.-]+/)?seed\d+",
    index=r"\d\d\d\d+",
    block=r"[1-9]\d*",
    point="|".join(POINTS),
    sample=r"[A-Za-z0-9][A-Za-z0-9_+.-]*",


# What is made up for in samples with absolute weights: it is in no file that a rule reads.
ASIDE = explained(
    lambda: {
        name: events
        for name, events in datasets.not_used(RUN).items()
        if RUN.data.samples[name.partition("__")[0]].cross_section_pb is None
    }
)
BINS = {
    name: channel.model_dump()["histogram"] for name, channel in RUN.channels.items()
}
RANGES = {(file.sample, file.index): file for file in FILES}


def root_file(wildcards):
    """The ROOT file of one column file; a remote one is not Snakemake's to watch, a missing one may be left out."""
    file = RANGES[wildcards.sample, int(wildcards.index)]
    missing = not (file.simulated or file.is_remote or Path(file.path).exists())
    left_out = missing and RUN.data.unreadable_files == "leave_out"
    if missing and not left_out:
        raise WorkflowError(
            f"sample {file.sample!r}: file {file.path} does not exist here or beside the manifest; {file.cure_if_missing}"
        )
    return [] if file.is_remote or left_out else file.path


def source(wildcards):
    """What one column file is made from: a file, which of its entries, and what the manifest promises of it."""
    return RANGES[wildcards.sample, int(wildcards.index)].request


def generator_weight(wildcards):
    """The branch whose sum normalises the sample of one column file, where one does."""
    return branch_of_generator_weights(
        RUN, RANGES[wildcards.sample, int(wildcards.index)]
    )


def column_files(wildcards):
    """All column files of the run."""
    return [FOLDER.columns(file.name) for file in FILES]


def previous_block(wildcards):
    """The state that a block of epochs starts from; the first one starts from the configuration."""
    block = int(wildcards.block)
    return [FOLDER.block(block - 1)] if block > 1 else []


def last_epoch(wildcards):
    """The epoch that a block ends at."""
    return min(int(wildcards.block) * RUN.optimise.epochs_per_job, RUN.optimise.epochs)


def all_blocks(wildcards):
    """The states at the end of every block."""
    return [FOLDER.block(number + 1) for number in range(RUN.optimise.jobs)]


def workspaces():
    """pyhf workspaces, before and after, of every fold that holds events, and of the pseudodata where there are such.

    None where there is no model, or one with constraint terms that a workspace cannot say.
    """
    if not RUN.model.has_workspace:
        return []
    data = ["pseudodata"] if RUN.model.pseudodata else []
    return [
        FOLDER.workspace(point, events)
        for point in POINTS
        for events in [*datasets.folds(RUN), *data]
    ]


def point_blocks(wildcards):
    """What the parameters of a point are made from: the initial ones from the configuration alone."""
    return all_blocks(wildcards) if wildcards.point == OPTIMISED else []


LIST = CLONE / "workflow/published.yaml"
NUMBERS = "results/published/{study}_{seed}.json"


@functools.cache
def studies():
    """The list, by name; read for the target `published` alone."""
    return explained(configuration.read_yaml, LIST, "list of studies")["studies"]


def of(wildcards):
    """One study of the list."""
    if wildcards.study not in studies():
        raise WorkflowError(
            f"{LIST} has no study {wildcards.study!r}; it has {', '.join(studies())}"
        )
    return studies()[wildcards.study]


def all_numbers(wildcards):
    """A file per study and seed, of those whose data are on this machine."""
    return [
        NUMBERS.format(study=name, seed=seed)
        for name, study in studies().items()
        if Path(study.get("data", ".")).exists()
        for seed in range(1, study.get("seeds", 1) + 1)
    ]


def what_a_study_needs(wildcards):
    """A scan goes over the events of another study's run."""
    scanned = of(wildcards).get("scan")
    return [NUMBERS.format(study=scanned, seed=wildcards.seed)] if scanned else []
