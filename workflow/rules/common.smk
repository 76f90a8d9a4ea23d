# The run, read once, and the input functions of the rules.
import shlex
from pathlib import Path

import pipeline
from pipeline.data import datasets
from pipeline.data.names import OPTIMISED, POINTS
from pipeline.data.provenance import branch_of_generator_weights
from pipeline.data.run_files import blocks
from pipeline.data.store import Folder


include: "tools.smk"


def chosen_run():
    """The configuration of the run and its overrides, as a Snakefile gives them to this one as a module, or by --configfile.

    The default is the shipped run. Overrides are `--config set="key=value ..."`, also `--config set=[key=value,key=value]`:
    HTCondor's plugin loses the quotes of an argument with spaces, and Snakemake takes a text with a colon for YAML. Of a
    module they are in `config: {"configfile": "mine.yaml", "set": ["key=value"]}`.
    """
    is_module = not workflow.modifier.is_main_snakefile()
    if is_module and config:
        if "configfile" not in config or set(config) - {"configfile", "set"}:
            raise WorkflowError(
                "the config of this module is {'configfile': a run's YAML file, 'set': overrides of its keys} "
                f"(got {sorted(config)})"
            )
        return Path(config["configfile"]), overrides_in(config.get("set") or "")
    files = workflow.overwrite_configfiles or [CLONE / "config/resonance.yaml"]
    given = workflow.config_settings.config or {}
    if len(files) > 1 or (set(given) - {"set", "image"} and not is_module):
        raise WorkflowError(
            f"a run is one --configfile (got {len(files)}); keys are overridden by --config set='key=value ...', "
            f"jobs run in an image by --config image=FILE (got {sorted(given)})"
        )
    return Path(files[0]), overrides_in(given.get("set") or "")


def image_of_jobs():
    """The image that jobs run in with `--sdm apptainer`, else None; a site's or the user's: none is published."""
    image = (workflow.config_settings.config or {}).get("image")
    wanted = DeploymentMethod.APPTAINER in DEPLOYED
    if wanted != bool(image):
        raise WorkflowError(
            "--sdm apptainer and --config image=FILE go together: the image is built from Containerfile, see "
            f"docs/anywhere.md (got {'--sdm apptainer alone' if wanted else f'image={image} alone'})"
        )
    return image


def overrides_in(given):
    """Overrides `key=value`, of a list or of a text."""
    if isinstance(given, list):
        return [str(override) for override in given]
    try:
        return shlex.split(given)
    except (ValueError, TypeError, AttributeError):
        raise WorkflowError(
            f"--config set: {given!r} are no overrides key=value; where a value has a space or a colon, give a list "
            """of texts: --config 'set=["channels.loss={in_fit: false}", "optimise.epochs=5"]'"""
        ) from None


def needs(mem_mb, minutes):
    """The resources of a rule, more at every attempt: memory, time, disk; HTCondor's plugin has names of its own for them.

    `mem_mb` is that of the job and its first thread; each further one asks for as much as a worker.
    """

    def grows(amount):
        def grown(wildcards, attempt):
            return amount * attempt

        return grown

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

    def memory_of_a_task(wildcards, attempt):
        return WORKER_MB * attempt

    return {
        **resources,
        "mpi": "srun",  # Snakemake then leaves it to the rule's command to start the tasks
        "tasks": TASKS,
        "mem_mb_per_cpu": memory_of_a_task,
        **({"gpu": TASKS} if RUN.cluster.device == "gpu" else {}),
    }


CONFIG, OVERRIDES = chosen_run()
IMAGE = None if not workflow.modifier.is_main_snakefile() else image_of_jobs()
RUN = explained(configuration.load, CONFIG, OVERRIDES)
COLUMNS_JOBS = explained(datasets.columns_jobs, RUN)
FOLDER = Folder(RUN.run)


def sources_of_the_analysis():
    """The files that its columns depend on, besides the data."""
    return [*RUN.analysis.sources, *RUN.analysis.files.values()]


def digest_of_the_analysis():
    """Another one for other files of it."""
    return RUN.analysis.digest


ANALYSIS = explained(sources_of_the_analysis)
ANALYSIS_DIGEST = explained(digest_of_the_analysis)
# What goes through all events has as many workers as there are threads, or workers elsewhere and one thread, or it is the
# tasks of one Slurm job.
ALLOCATION = RUN.cluster.executor == "slurm_allocation"
TASKS = (
    RUN.cluster.workers + 2
)  # the scheduler and the process that goes on take one each
WORKER_MB = RUN.cluster.memory_mb or 4000
SWEEP_THREADS = 16 if RUN.cluster.executor == "local" else 1


# A rule runs again for what it takes from the configuration and for nothing else of it, so its command is no text that
# Snakemake compares: it does not for params that are functions of the threads. Nor is it in shell.prefix, which would be
# that of all other modules too where this one is a module.
def thalweg(wildcards, threads):
    """What runs a verb."""
    return f"{shlex.quote(PYTHON)} -m pipeline"


def sweep(wildcards, threads):
    """What runs a verb that goes through all events."""
    gpus = "--gpus-per-task=1 " if RUN.cluster.device == "gpu" else ""
    launch = f"srun --mpi=none --kill-on-bad-exit --ntasks={TASKS} {gpus}"
    return f"{launch if ALLOCATION else ''}{thalweg(wildcards, threads)}"


def of_run(wildcards, threads):
    """The run, as a verb takes it."""
    overrides = (f"--set {shlex.quote(override)}" for override in OVERRIDES)
    return " ".join([shlex.quote(str(CONFIG)), *overrides])


wildcard_constraints:
    folder=r"([\w.-]+/)?seed\d+",
    index=r"\d\d\d\d+",
    block=r"[1-9]\d*",
    optimisation=r"(fold_[1-9]\d*/)?",  # outside of a fold of data.folds, else the run's only one
    point="|".join(POINTS),
    sample=r"[A-Za-z0-9][A-Za-z0-9_+.-]*",


def events_aside():
    """What is made up for in samples with absolute weights: it is in no file that a rule reads."""
    return {
        name: events
        for name, events in datasets.not_used(RUN).items()
        if RUN.data.samples[name.partition("__")[0]].cross_section_pb is None
    }


ASIDE = explained(events_aside)
BINS = {
    name: channel.model_dump()["histogram"] for name, channel in RUN.channels.items()
}
JOBS = {(job.sample, job.index): job for job in COLUMNS_JOBS}


def index_of(wildcards):
    """The number of a file, or of a job, of its sample."""
    return int(wildcards.index)


def job_of(wildcards):
    """What one job reads into a column file."""
    return JOBS[wildcards.sample, index_of(wildcards)]


def root_files(wildcards):
    """The ROOT files of one column file; remote ones are not Snakemake's to watch, missing ones may be left out."""
    return [file.path for file in job_of(wildcards).files if is_watched(file)]


def is_watched(file):
    """Whether a file is, or will be, on a disk here."""
    if file.is_remote:
        return False
    if file.simulated or Path(file.path).exists():
        return True
    if RUN.data.unreadable_files == "leave_out":
        return False
    raise WorkflowError(
        f"sample {file.sample!r}: file {file.path} does not exist here or beside the manifest; {file.cure_if_missing}"
    )


def source(wildcards):
    """What one column file is made from: files, which of their entries, and what the manifest promises of them."""
    return [file.request for file in job_of(wildcards).files]


def generator_weight(wildcards):
    """The branch whose sum normalises the sample of one column file, where one does."""
    return branch_of_generator_weights(RUN, wildcards.sample)


def column_files(wildcards):
    """All column files of the run."""
    return [FOLDER.columns(job.name) for job in COLUMNS_JOBS]


def previous_block(wildcards):
    """The state that a block of epochs starts from; the first one starts from the configuration."""
    block = int(wildcards.block)
    own = Folder(RUN.run, wildcards.optimisation)
    return [own.block(block - 1)] if block > 1 else []


def outside_of(wildcards, threads):
    """The fold that an optimisation never sees, as its verb takes it."""
    number = "".join(filter(str.isdigit, wildcards.optimisation))
    return f"--fold {number}" if number else ""


def last_epoch(wildcards):
    """The epoch that a block ends at."""
    return min(
        int(wildcards.block) * RUN.optimise.epochs_per_job, RUN.optimise.all_epochs
    )


def all_blocks(wildcards):
    """The states at the end of every block, of every optimisation."""
    return [path for fold in datasets.optimisations(RUN) for path in blocks(RUN, fold)]


def workspaces():
    """pyhf workspaces, before and after, of every fold that holds events, and of the pseudodata where there are such.

    None where there is no model, or one with constraint terms that a workspace cannot say.
    """
    if not RUN.model.has_workspace:
        return []
    data = ["pseudodata"] if RUN.model.pseudodata else []
    return [
        FOLDER.workspace(point, events)
        for point in datasets.evaluated_points(RUN)
        for events in [*datasets.folds(RUN), *data]
    ]


def point_blocks(wildcards):
    """What the parameters of a point are made from: the initial ones from the configuration alone."""
    return all_blocks(wildcards) if wildcards.point == OPTIMISED else []
