# A block of epochs per job. The job saves every epoch to a folder that is no output of the rule, so that Snakemake
# leaves it when the job fails or is killed, and the next try continues from the last epoch.
rule optimise:
    input:
        columns=column_files,
        previous=previous_block,
        analysis=ANALYSIS,
        joined=RUN.joined,  # workspaces whose channels join the fit
    output:
        FOLDER.root / "{optimisation}optimise/block_{block}.npz",
    log:
        FOLDER.root / "logs/{optimisation}optimise/block_{block}.log",
    benchmark:
        FOLDER.root / "benchmarks/{optimisation}optimise/block_{block}.tsv"
    conda:
        "../../envs/thalweg.yaml"
    threads: SWEEP_THREADS  # at most; Snakemake takes what --cores or the profile allows
    resources:
        **needs_of_sweeps(minutes=240),
    params:
        sweep=sweep,
        of_run=of_run,
        physics=fingerprint([RUN.physics(), ASIDE]),
        outside_of=outside_of,
        epochs=last_epoch,
        version=pipeline.__version__,
    message:
        "Optimise: block {wildcards.optimisation}{wildcards.block} of epochs on {threads} workers"
    shell:
        "{params.sweep} optimise {params.of_run} {params.outside_of} --block {wildcards.block} --output {output} --log {log}"
        " --workers {threads} --memory-mb {resources.mem_mb}"
