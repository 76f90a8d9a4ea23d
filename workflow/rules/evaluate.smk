# The embedded or given events once more, with exact cuts; the pyhf workspaces and their fits.
rule evaluate:
    input:
        columns=column_files,
        blocks=all_blocks,
        analysis=ANALYSIS,
    output:
        summary=FOLDER.evaluation,
        workspaces=workspaces(),
    log:
        FOLDER.root / "logs/evaluate.log",
    benchmark:
        FOLDER.root / "benchmarks/evaluate.tsv"
    conda:
        "../../envs/thalweg.yaml"
    threads: 16  # at most; Snakemake takes what --cores allows
    resources:
        **needs(mem_mb=8000, minutes=120),
    params:
        physics=fingerprint(
            [RUN.physics(), RUN.evaluate.model_dump(), RUN.model.pseudodata]
        ),
        version=pipeline.__version__,
    message:
        "Apply exact cuts before and after, fit with pyhf"
    shell:
        "thalweg evaluate --output {output.summary} --workers {threads} --log {log}"


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
    threads: 16  # at most; Snakemake takes what --cores allows
    resources:
        **needs(mem_mb=8000, minutes=60),
    params:
        physics=fingerprint([RUN.physics(), BINS, RUN.model.pseudodata]),
        version=pipeline.__version__,
    message:
        "Write the exact histograms at the {wildcards.point} parameters"
    shell:
        "thalweg histograms --parameters {wildcards.point} --output {output}"
        " --workers {threads} --log {log}"
