"""The figure of the pseudo-experiments: the test statistic against its asymptotic distribution, and the pulls."""

from matplotlib.axes import Axes

from pipeline.config import Config
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.robustness.toy_measures import Histogrammed, Statistic
from pipeline.report.drawn import Cell, Drawn
from pipeline.report.figures import AFTER, BEFORE, panels_of, settable

SYMBOLS: dict[Statistic, str] = {"t_mu": r"$t_\mu$", "q_0": r"$q_0$", "q_mu_tilde": r"$\tilde{q}_\mu$"}


def figures(config: Config, evaluation: Evaluation) -> dict[str, Drawn]:
    """Return the figure of the toys, where there are such."""
    toys = evaluation.robustness.toys
    if toys is None:
        return {}
    poi = config.model.poi
    shown = [
        (test.statistic, f"{SYMBOLS[test.statistic]}, {settable(poi)} = {test.tested:.4g}", test.distribution)
        for test in toys.tests
    ] + [("pull", settable(f"pull of {poi}"), toys.pulls)]
    figure, panels = panels_of(len(shown))
    rows: list[tuple[Cell, ...]] = []
    for axes, (name, label, own) in zip(panels, shown, strict=True):
        _draw(axes, own)
        axes.set_xlabel(label)
        if name != "pull":
            axes.set_yscale("log")
            axes.set_ylim(bottom=0.5)
        cells = zip(own.edges[:-1], own.edges[1:], own.counts, own.expected, strict=True)
        rows += [(name, *cell) for cell in cells]
    panels[0].legend()
    alt = (
        f"Histograms of {toys.tests[0].toys} toys, points with their errors, and steps of what is expected: "
        f"{', '.join(name for name, _, _ in shown)}. The asymptotic number is {toys.reason}."
    )
    return {"toys": Drawn(figure, ("what", "from", "to", "toys", "asymptotic"), rows, alt)}


def _draw(axes: Axes, own: Histogrammed) -> None:
    """Draw toys as points with errors, what is expected as steps."""
    centres = [(low + high) / 2 for low, high in zip(own.edges[:-1], own.edges[1:], strict=True)]
    axes.stairs(own.expected, own.edges, color=BEFORE, linestyle="--", linewidth=1.5, label="asymptotic")
    filled = [(x, n) for x, n in zip(centres, own.counts, strict=True) if n]
    axes.errorbar(
        [x for x, _ in filled],
        [n for _, n in filled],
        yerr=[n**0.5 for _, n in filled],
        fmt="o",
        color=AFTER,
        markersize=3.5,
        capsize=0,
        label="toys",
    )
    axes.set_ylabel("toys")
