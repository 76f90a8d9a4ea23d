# Entry of the workflow: `snakemake --cores all` runs config/agc_ttbar.yaml; another run by --configfile FILE.
from snakemake.utils import min_version

min_version("9.10")


include: "workflow/rules/common.smk"
include: "workflow/rules/simulate.smk"
include: "workflow/rules/columns.smk"
include: "workflow/rules/optimise.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/published.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        FOLDER.root / "report.html",
        expand(FOLDER.root / "histograms_{point}.json", point=POINTS),
