# One self-contained page; a folder beside it with each figure as SVG and PDF and its numbers as CSV, of which the SVGs are
# in `snakemake --report`, too.
rule report:
    input:
        columns=column_files,
        blocks=all_blocks,
        evaluation=FOLDER.evaluation,
    output:
        page=report(
            FOLDER.root / "report.html",
            caption="../report/page.rst",
            category="Result",
        ),
        figures=report(
            directory(FOLDER.root / "figures"),
            patterns=["{name}.svg"],
            caption="../report/figure.rst",
            category="Figures",
        ),
    log:
        FOLDER.root / "logs/report.log",
    benchmark:
        FOLDER.root / "benchmarks/report.tsv"
    conda:
        "../../envs/thalweg.yaml"
    threads: 1
    resources:
        **needs(mem_mb=2000, minutes=30),
    params:
        thalweg=thalweg,
        of_run=of_run,
        run=fingerprint(RUN.model_dump(mode="json")),
        version=pipeline.__version__,
    message:
        "Write {output.page}"
    shell:
        "{params.thalweg} report {params.of_run} --output {output.page} --figures {output.figures} --log {log}"
