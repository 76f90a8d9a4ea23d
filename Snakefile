# Entry of the workflow: `snakemake --cores all` runs config/resonance.yaml; another run by --configfile FILE. Also from any
# other folder, and as a module of a Snakefile of your own: docs/workflow.md.
from snakemake.utils import min_version

min_version("9.10")


include: "workflow/rules/common.smk"


report: "workflow/report/workflow.rst"


if IMAGE:

    container: IMAGE


# The first rule is the default; `default_target` would make it that of a Snakefile that takes this one as a module, too.
rule all:
    input:
        FOLDER.root / "report.html",
        expand(FOLDER.root / "histograms_{point}.json", point=POINTS),


include: "workflow/rules/simulate.smk"
include: "workflow/rules/columns.smk"
include: "workflow/rules/optimise.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
