# A block of epochs per job. The job saves every epoch to a folder that is no output of the rule, so that Snakemake
# leaves it when the job fails or is killed, and the next try continues from the last epoch.
rule optimise:
    input:
        columns=column_files,
        previous=previous_block,
        analysis=ANALYSIS,
    output:
        FOLDER.block("{block}"),
    log:
        FOLDER.root / "logs/optimise/block_{block}.log",
    benchmark:
        FOLDER.root / "benchmarks/optimise/block_{block}.tsv"
    conda:
        "../../envs/thalweg.yaml"
    threads: 16  # at most; Snakemake takes what --cores allows
    resources:
        **needs(mem_mb=8000, minutes=240),
    params:
        physics=fingerprint(RUN.physics()),
        version=pipeline.__version__,
    message:
        "Optimise: block {wildcards.block} of epochs on {threads} workers"
    shell:
        "thalweg optimise --block {wildcards.block} --output {output}"
        " --workers {threads} --log {log}"
