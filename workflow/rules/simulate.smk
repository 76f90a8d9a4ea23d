# Generated events: one ROOT file per job, shared by every run with the same generator, seed and sizes.
rule simulate:
    input:
        [],
    output:
        "results/simulated/{folder}/{sample}_{events}_{index}.root",
    log:
        "results/logs/simulate/{folder}/{sample}_{events}_{index}.log",
    benchmark:
        "results/benchmarks/simulate/{folder}/{sample}_{events}_{index}.tsv"
    conda:
        "../../envs/thalweg.yaml"
    threads: 1
    resources:
        **needs(mem_mb=2000, minutes=60),
    params:
        thalweg=thalweg,
        of_run=of_run,
        index=index_of,
    message:
        "Generate {wildcards.events} {wildcards.sample} events, file {wildcards.index}"
    shell:
        "{params.thalweg} simulate {params.of_run} --sample {wildcards.sample} --index {params.index}"
        " --output {output} --log {log}"


rule manifest:
    input:
        [],
    output:
        FOLDER.root / "nanoaod_inputs.json",
    log:
        FOLDER.root / "logs/manifest.log",
    conda:
        "../../envs/thalweg.yaml"
    threads: 1
    resources:
        **needs(mem_mb=1000, minutes=10),
    params:
        thalweg=thalweg,
        of_run=of_run,
        simulate=RUN.simulate.model_dump() if RUN.simulate else None,
    message:
        "List the simulated files in the AGC's manifest format"
    shell:
        "{params.thalweg} manifest {params.of_run} --output {output} --log {log}"
