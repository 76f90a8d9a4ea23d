"""Run the analysis from events to report, as `snakemake` does: the same files, and it goes on where it was stopped."""

from pathlib import Path

from pipeline import Run

if __name__ == "__main__":
    folder = Path(__file__).resolve().parent
    run = Run(folder / "my_analysis.yaml", folder=folder)
    run.columns(workers=2)
    run.optimise(
        workers=2, callback=lambda record: print(f"epoch {record.epoch}: {record.objective:.4f}", flush=True)
    )
    summary, page = run.evaluate(workers=2), run.report()
    for name, values in summary.parameters.items():
        print(f"{name}: {values.initial:.3g} -> {values.optimised:.3g}")
    print(f"{summary.objective.label}: {summary.change}; see {page}")
