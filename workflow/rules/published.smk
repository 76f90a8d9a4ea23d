# Published numbers beside ours: every study of workflow/published.yaml, as many at a time as there are cores (much of a
# short study is compiling, on one core); then one file of all numbers, and the tables of the pages made of it.
# `snakemake --cores all published`, from the clone: it writes into docs/. No other target reads the list.
rule published_study:
    input:
        scanned=what_a_study_needs,
    output:
        NUMBERS,
    log:
        "results/published/logs/{study}_{seed}.log",
    benchmark:
        "results/published/benchmarks/{study}_{seed}.tsv"
    wildcard_constraints:
        study=r"[\w.+-]+",
        seed=r"\d+",
    conda:
        "../../envs/thalweg.yaml"
    threads: lambda wildcards: of(wildcards).get("cores", 1)
    params:
        list=LIST,
        study=lambda wildcards: fingerprint(of(wildcards)),
        version=pipeline.__version__,
    message:
        "Study {wildcards.study}, seed {wildcards.seed}"
    shell:
        "script published study {params.list} {wildcards.study} --seed {wildcards.seed}"
        " --cores {threads} --output {output} >{log} 2>&1"


# What it writes into docs/ is in the repository, so a file of the results says that it was done.
rule published:
    input:
        list=LIST,
        numbers=all_numbers,
    output:
        touch("results/published/collected"),
    log:
        "results/published/logs/collect.log",
    conda:
        "../../envs/thalweg.yaml"
    params:
        content="docs/published.json",
        batches="docs/batches.svg",
        cost="docs/ladle_furnace.svg",
    message:
        "Write {params.content}, and the tables of the pages and the figures made of it"
    shell:
        "{{ script published collect {input.list} --output {params.content}"
        " && script batch_figure {params.content} --output {params.batches}"
        " && script cost_figure {params.content} --output {params.cost}; }} >{log} 2>&1"
