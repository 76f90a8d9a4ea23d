# ROOT files -> preselected, rectangular columns; once, whatever the number of epochs. Small files share a job.
rule columns:
    input:
        root=root_files,
        analysis=ANALYSIS,
    output:
        FOLDER.columns("{sample}/{index}"),
    log:
        FOLDER.root / "logs/columns/{sample}_{index}.log",
    benchmark:
        FOLDER.root / "benchmarks/columns/{sample}_{index}.tsv"
    conda:
        "../../envs/thalweg.yaml"
    threads: 1
    resources:
        **needs(mem_mb=3000, minutes=60),
    params:
        thalweg=thalweg,
        of_run=of_run,
        index=index_of,
        source=source,
        unreadable_files=RUN.data.unreadable_files,
        held_out_fraction=RUN.data.held_out_fraction,
        folds=RUN.data.folds,
        generator_weight=generator_weight,
        analysis=ANALYSIS_DIGEST,
        version=pipeline.__version__,
    message:
        "Read ROOT files of {wildcards.sample} into columns, job {wildcards.index}"
    shell:
        "{params.thalweg} columns {params.of_run} --sample {wildcards.sample} --index {params.index}"
        " --output {output} --log {log}"
