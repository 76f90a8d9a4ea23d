"""The figure of docs/ladle_furnace.md: the error of the optimised design against the area of panels it may use."""

import re

import drawing
import matplotlib.pyplot as plt

BUDGET = 6.0  # m^2, of the rows that do not say
OURS = "**ours: after one optimisation**"
COLUMNS = {"hard panels": "training ladles", "hard panels, held-out ladles": "held-out ladles"}
COLOURS = ("#4477aa", "#aa3377")


def drawn(tables):
    """Draw the table `ladle_furnace` of docs/published.json."""
    table = tables["ladle_furnace"]
    rows = {row["label"]: row["cells"] for row in table["rows"] if row.get("seeds")}
    areas = {label: float(found[1]) for label in rows if (found := re.search(r"(\d+) m\^2$", label))}
    areas = dict(sorted({**areas, OURS: BUDGET}.items(), key=lambda item: item[1]))
    figure, axes = plt.subplots(figsize=(5.2, 3.2), layout="constrained")
    for colour, (name, what) in zip(COLOURS, COLUMNS.items(), strict=True):
        column = table["columns"].index(name)
        found = [1e3 * rows[label][column]["median"] for label in areas]
        axes.plot(list(areas.values()), found, "-o", color=colour, label=f"optimised, {what}")
        for label, marker in {"human design, pairs": "s", "human design, even distances": "D"}.items():
            value = 1e3 * rows[f"ours: {label}"][column]["median"]
            axes.plot(BUDGET, value, marker, color=colour, fillstyle="none", label=f"{label}, {what}")
    axes.set(
        xlabel="area of all panels [m$^2$]", ylabel="mean squared error [10$^{-3}$ m$^2$]", ylim=(0, None)
    )
    axes.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    drawing.main(__doc__, drawn)
