"""The figure of docs/theory.md: how much of the information on a coefficient bins of the score keep."""

import drawing
import matplotlib.pyplot as plt

COLOURS = {"equal bins": "#ee6677", "optimised edges": "#4477aa"}
WANTED = 0.99


def drawn(tables):
    """Draw the table `score_bins` of docs/published.json."""
    table = tables["score_bins"]
    figure, axes = plt.subplots(figsize=(5.4, 3.2), layout="constrained")
    bins = [int(column.partition(" ")[0]) for column in table["columns"]]
    for row in table["rows"]:
        if row["seeds"]:
            values = [1 - cell["median"] for cell in row["cells"]]
            axes.plot(bins, values, "-o", color=COLOURS[row["label"]], label=row["label"])
    axes.axhline(1 - WANTED, color="black", linewidth=0.8)
    axes.text(bins[0], 1 - WANTED, "1 %", va="bottom", fontsize=8)
    axes.set(xlabel="bins of the score", ylabel="information that is lost, held-out events", yscale="log")
    axes.set_xticks(bins)
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    drawing.main(__doc__, drawn)
