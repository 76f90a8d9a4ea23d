# The list of studies, and the input functions of the rules.
import functools
import shlex

import pipeline


include: "../rules/tools.smk"


STUDIES = CLONE / "workflow/studies"
LIST = STUDIES / "published.yaml"
NUMBERS = "results/published/{study}_{seed}.json"


@functools.cache
def studies():
    """The list, by name."""
    return explained(configuration.read_yaml, LIST, "list of studies")["studies"]


def of(wildcards):
    """One study of the list."""
    if wildcards.study not in studies():
        raise WorkflowError(
            f"{LIST} has no study {wildcards.study!r}; it has {', '.join(studies())}"
        )
    return studies()[wildcards.study]


def cores_of(wildcards):
    """How many cores a study takes."""
    return of(wildcards).get("cores", 1)


def fingerprint_of(wildcards):
    """What a study is, in short."""
    return fingerprint(of(wildcards))


def all_numbers(wildcards):
    """A file per study and seed, of those whose data are on this machine."""
    return [
        NUMBERS.format(study=name, seed=seed)
        for name, study in studies().items()
        if Path(study.get("data", ".")).exists()
        for seed in range(1, study.get("seeds", 1) + 1)
    ]


def what_a_study_needs(wildcards):
    """A scan goes over the events of another study's run, and a script may look at one that is done."""
    needed = of(wildcards).get("scan") or of(wildcards).get("after")
    return [NUMBERS.format(study=needed, seed=wildcards.seed)] if needed else []


def python(wildcards, threads):
    """The Python of the jobs; as a function of the threads it is nothing that Snakemake compares."""
    return shlex.quote(PYTHON)
