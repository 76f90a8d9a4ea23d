# Published numbers beside ours: every study of workflow/published.yaml, one after the other, each with all cores; then
# one file of all numbers, and the tables of the pages made of it. `snakemake --cores all published`
import yaml

LIST = Path("workflow/published.yaml")
STUDIES = yaml.safe_load(LIST.read_text())["studies"]
NUMBERS = "results/published/{study}_{seed}.json"


def all_numbers(wildcards):
    """A file per study and seed."""
    return [
        NUMBERS.format(study=name, seed=seed)
        for name, study in STUDIES.items()
        for seed in range(1, study.get("seeds", 1) + 1)
    ]


def what_a_study_needs(wildcards):
    """A scan goes over the events of another study's run."""
    scanned = STUDIES[wildcards.study].get("scan")
    return [NUMBERS.format(study=scanned, seed=wildcards.seed)] if scanned else []


rule published_study:
    input:
        what_a_study_needs,
    output:
        NUMBERS,
    log:
        "results/published/logs/{study}_{seed}.log",
    benchmark:
        "results/published/benchmarks/{study}_{seed}.tsv"
    wildcard_constraints:
        study="|".join(STUDIES),
        seed=r"\d+",
    threads: workflow.cores or 1
    params:
        study=lambda wildcards: fingerprint(STUDIES[wildcards.study]),
        version=pipeline.__version__,
    message:
        "Study {wildcards.study}, seed {wildcards.seed}"
    shell:
        "{PYTHON:q} workflow/scripts/published.py study {LIST} {wildcards.study} --seed {wildcards.seed}"
        " --cores {threads} --output {output} >{log} 2>&1"


rule published:
    input:
        list=LIST,
        numbers=all_numbers,
    output:
        update("docs/published.json"),
        update("docs/batches.svg"),
    log:
        "results/published/logs/collect.log",
    message:
        "Write docs/published.json, and the tables of the pages and the figure made of it"
    shell:
        "{PYTHON:q} workflow/scripts/published.py collect {input.list} --output {output[0]} >{log} 2>&1"
        " && {PYTHON:q} workflow/scripts/batch_figure.py {output[0]} --output {output[1]} >>{log} 2>&1"
