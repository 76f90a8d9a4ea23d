"""The figure of the README: what a loss claims on batches, and what held-out events say, by the size of the batches."""

import drawing
import matplotlib.pyplot as plt

COLOURS = {
    "softmax, templates": "#4477aa",
    "softmax, derivatives": "#228833",
    "one output, derivatives": "#ccbb44",
    "narrow kernel, derivatives": "#aa3377",
}
FLOOR = 15.65  # arXiv:1806.04743, analytic likelihood in benchmark 2


def drawn(tables):
    """Draw the table `batches` of docs/published.json."""
    table = tables["batches"]
    claimed, true = (table["columns"].index(name) for name in ("claimed", "true"))
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for setting, colour in COLOURS.items():
        rows = [row for row in table["rows"] if row["label"].rpartition(": ")[0] == setting and row["seeds"]]
        events = [int(row["label"].rpartition(": ")[2]) for row in rows]
        for column, style, what in ((true, "-o", "true"), (claimed, "--^", "claimed")):
            values = [row["cells"][column]["median"] for row in rows]
            hollow = "white" if column == claimed else colour
            axes.plot(events, values, style, color=colour, markerfacecolor=hollow, label=f"{setting}: {what}")
    axes.axhline(FLOOR, color="black", linewidth=0.8)
    axes.text(1000, FLOOR, "no analysis is below", va="bottom", fontsize=8)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="events of each class in a step",
        ylabel="uncertainty on the signal",
    )
    axes.set_yticks([15, 16, 17, 18, 20, 25, 30], labels=["15", "16", "17", "18", "20", "25", "30"])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    drawing.main(__doc__, drawn)
