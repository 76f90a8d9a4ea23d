# The embedded or given events once more, with exact cuts; the pyhf workspaces and their fits.
rule evaluate:
    input:
        columns=column_files,
        blocks=all_blocks,
        analysis=ANALYSIS,
        joined=RUN.joined,  # workspaces whose channels join the fit
    output:
        evaluation=FOLDER.evaluation,
        summary=FOLDER.summary,
        workspaces=workspaces(),
    log:
        FOLDER.root / "logs/evaluate.log",
    benchmark:
        FOLDER.root / "benchmarks/evaluate.tsv"
    conda:
        "../../envs/thalweg.yaml"
    threads: SWEEP_THREADS  # at most; Snakemake takes what --cores or the profile allows
    resources:
        # a refit is as long as the run's own optimisation
        **needs_of_sweeps(minutes=120 + 240 * RUN.evaluate.refits * RUN.optimise.jobs),
    params:
        sweep=sweep,
        of_run=of_run,
        physics=fingerprint(
            [
                RUN.physics(),
                ASIDE,
                RUN.evaluate.model_dump(mode="json"),
                RUN.model.pseudodata,
            ]
        ),
        version=pipeline.__version__,
    message:
        "Apply exact cuts before and after, fit with pyhf"
    shell:
        "{params.sweep} evaluate {params.of_run} --output {output.evaluation} --log {log}"
        " --workers {threads} --memory-mb {resources.mem_mb}"


# The exact histograms of all events in the Analysis Grand Challenge's form, for `thalweg validate` and other tools.
rule histograms:
    input:
        columns=column_files,
        blocks=point_blocks,
        analysis=ANALYSIS,
    output:
        FOLDER.root / "histograms_{point}.json",
    log:
        FOLDER.root / "logs/histograms_{point}.log",
    benchmark:
        FOLDER.root / "benchmarks/histograms_{point}.tsv"
    conda:
        "../../envs/thalweg.yaml"
    threads: SWEEP_THREADS  # at most; Snakemake takes what --cores or the profile allows
    resources:
        **needs_of_sweeps(minutes=60),
    params:
        sweep=sweep,
        of_run=of_run,
        physics=fingerprint([RUN.physics(), ASIDE, BINS, RUN.model.pseudodata]),
        version=pipeline.__version__,
    message:
        "Write the exact histograms at the {wildcards.point} parameters"
    shell:
        "{params.sweep} histograms {params.of_run} --parameters {wildcards.point} --output {output} --log {log}"
        " --workers {threads} --memory-mb {resources.mem_mb}"
