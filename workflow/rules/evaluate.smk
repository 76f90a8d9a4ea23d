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
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        physics=fingerprint(RUN.physics()),
        version=pipeline.__version__,
    message:
        "Apply exact cuts before and after, fit with pyhf"
    shell:
        "thalweg evaluate --output {output.summary} --workers {threads} --log {log}"
