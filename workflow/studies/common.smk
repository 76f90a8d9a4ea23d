# The lists of studies, and the input functions of the rules.
import functools
import shlex

import pipeline


include: "../rules/tools.smk"


STUDIES = CLONE / "workflow/studies"
LISTS = {name: STUDIES / f"{name}.yaml" for name in ("published", "against")}
NUMBERS = "results/published/{study}_{seed}.json"


@functools.cache
def studies(listed):
    """The studies of one list, by name."""
    content = explained(configuration.read_yaml, LISTS[listed], "list of studies")
    return content["studies"]


def list_of(wildcards):
    """Which list has a study."""
    for listed in LISTS:
        if wildcards.study in studies(listed):
            return LISTS[listed]
    known = ", ".join(name for listed in LISTS for name in studies(listed))
    raise WorkflowError(f"no study {wildcards.study!r}; there are {known}")


def of(wildcards):
    """One study of its list."""
    return studies(list_of(wildcards).stem)[wildcards.study]


def cores_of(wildcards):
    """How many cores a study takes."""
    return of(wildcards).get("cores", 1)


def fingerprint_of(wildcards):
    """What a study is, in short."""
    return fingerprint(of(wildcards))


def all_numbers(listed):
    """A file per study and seed of a list, of those whose data are on this machine."""

    def files(wildcards):
        return [
            NUMBERS.format(study=name, seed=seed)
            for name, study in studies(listed).items()
            if Path(study.get("data", ".")).exists()
            for seed in range(1, study.get("seeds", 1) + 1)
        ]

    return files


def what_a_study_needs(wildcards):
    """A scan goes over the events of another study's run; a script may begin after another one has made its events."""
    study = of(wildcards)
    if "scan" in study:
        return [NUMBERS.format(study=study["scan"], seed=wildcards.seed)]
    return [NUMBERS.format(study=study["after"], seed=1)] if "after" in study else []


def python(wildcards, threads):
    """The Python of the jobs; as a function of the threads it is nothing that Snakemake compares."""
    return shlex.quote(PYTHON)
