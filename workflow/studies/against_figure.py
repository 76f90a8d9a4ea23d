"""The figure of docs/against.md: the exact objective of the best point so far against passes over training events."""

import drawing
import matplotlib.pyplot as plt

PANELS = {
    "against_ww_12": ("WW, 12 cuts", "$Z_A$, training events, more is better"),
    "against_ttbar": ("ttbar, 3 cuts and 13 edges", "uncertainty of the cross-section, less is better"),
}
COLOURS = {
    "**gradients**": ("gradients", "black"),
    "pycma, CMA-ES": ("CMA-ES", "#4477aa"),
    "Optuna, TPE": ("TPE", "#228833"),
    "SciPy, differential evolution": ("differential evolution", "#ccbb44"),
    "random points": ("random points", "#aa3377"),
}


def passes_of(column):
    """The number of passes that a column is of; none of another column."""
    words = column.split()
    return int(words[1]) if words[0] == "after" else None


def drawn(tables):
    """Draw the tables of docs/against.json that searches were run for: the median over the seeds, and their range."""
    drawn = [name for name in PANELS if sum(bool(row["seeds"]) for row in tables[name]["rows"]) > 2]
    figure, panels = plt.subplots(
        ncols=len(drawn), figsize=(4.4 * len(drawn) + 1.6, 3.6), layout="constrained", squeeze=False
    )
    for axes, name in zip(panels[0], drawn, strict=True):
        title, label = PANELS[name]
        columns = [passes_of(column) for column in tables[name]["columns"]]
        rows = {row["label"]: row for row in tables[name]["rows"]}
        for row, (what, colour) in COLOURS.items():
            if not rows[row]["seeds"]:
                continue
            cells = [(n, cell) for n, cell in zip(columns, rows[row]["cells"], strict=True) if n and cell]
            passes = [n for n, _ in cells]
            low, middle, high = ([cell[key] for _, cell in cells] for key in ("lowest", "median", "highest"))
            axes.plot(passes, middle, "-o", markersize=3, color=colour, label=what)
            axes.fill_between(passes, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.axhline(
            rows["start"]["cells"][0]["median"], color="grey", linewidth=0.8, linestyle=":", label="start"
        )
        axes.set(xscale="log", xlabel="passes over the training events", ylabel=label, title=title)
        axes.set_xticks([30, 100, 300, 1000], labels=["30", "100", "300", "1000"])
        axes.minorticks_off()
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8
    )
    return figure


if __name__ == "__main__":
    drawing.main(__doc__, drawn)
