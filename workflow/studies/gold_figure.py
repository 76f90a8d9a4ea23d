"""The figures of docs/augmented.md: error of ln r against simulated events, and estimated against true ln r."""

import drawing
import matplotlib.pyplot as plt
import numpy as np

from pipeline.analyses import galton

COLOURS = {
    "CARL": "#bbbbbb",
    "CASCAL": "#66ccee",
    "ROLR": "#ccbb44",
    "RASCAL": "#ee6677",
    "ALICE": "#228833",
    "ALICES": "#4477aa",
    "SALLY": "#aa3377",
}
NUMERATOR = -0.8  # theta_0 of the ratio


def cells(table):
    """Rows of a table that were run, by label: a value for each column, not a number where there is none."""
    rows = [row for row in table["rows"] if row.get("seeds")]
    return {
        row["label"]: np.asarray([np.nan if cell is None else cell["median"] for cell in row["cells"]])
        for row in rows
    }


def drawn(tables):
    """Draw the tables `mining_gold`, `mining_gold_range` and `mining_gold_calibration` of docs/published.json."""
    errors, ranges, ratios = (tables[f"mining_gold{of}"] for of in ("", "_range", "_calibration"))
    balls = np.asarray([float(column) for column in errors["columns"]])
    extremes = cells(ranges)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.6), layout="constrained")
    for label, middle in cells(errors).items():
        lowest, highest = extremes[label][::2], extremes[label][1::2]
        left.errorbar(
            balls, middle, [middle - lowest, highest - middle],
            fmt="-o", markersize=4, capsize=2, linewidth=1, color=COLOURS[label], label=label,
        )  # fmt: skip
    left.set(
        xscale="log",
        yscale="log",
        xlabel="simulated balls",
        ylabel="mean squared error of ln r",
    )
    left.legend(frameon=False, fontsize=8)
    nails = [int(column) for column in ratios["columns"]]
    truth = galton.log_ratio(NUMERATOR)[nails]
    for label, found in cells(ratios).items():
        right.plot(found, truth, "o", markersize=3.5, fillstyle="none", color=COLOURS[label], label=label)
    ends = [truth.min() - 0.1, truth.max() + 0.1]
    right.plot(ends, ends, color="black", linewidth=0.8)
    right.set(xlabel="estimated ln r, 2000 balls", ylabel="true ln r")
    return figure


if __name__ == "__main__":
    drawing.main(__doc__, drawn)
