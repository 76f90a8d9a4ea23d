"""Figures and tables onto one HTML page that needs nothing else."""

import importlib.metadata
import platform
import shutil
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from pipeline.analysis import analysis_of
from pipeline.config import Config, written
from pipeline.data import datasets, normalisation
from pipeline.data.store import write_text
from pipeline.report import figures as draw
from pipeline.templates import cautions

PACKAGES = (
    "thalweg",
    "jax",
    "jaxlib",
    "optax",
    "pyhf",
    "cabinetry",
    "iminuit",
    "coffea",
    "uproot",
    "awkward",
    "dask",
)


def write(
    config: Config,
    records: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    provenances: Sequence[Mapping[str, Any]],
    *,
    page: Path,
    figures: Path,
) -> None:
    """Write the page, and every figure as a file of its own."""
    with mpl.rc_context(draw.STYLE):
        drawn = {name: _svg(figure) for name, figure in _figures(config, records, summary).items()}
    shutil.rmtree(figures, ignore_errors=True)
    for name, svg in drawn.items():
        write_text(figures / f"{name}.svg", svg)
    content = {
        "config": config,
        "config_yaml": written(config.model_dump(mode="json")),
        "records": records,
        "summary": summary,
        "figures": {name: Markup(svg[svg.index("<svg") :]) for name, svg in drawn.items()},
        "parameters": _parameter_rows(config, summary),
        "moved_edges": _moved_edges(summary),
        "improvement": _improvement(summary),
        "cautions": _cautions(summary),
        "interval": _interval(summary),
        "samples": _sample_rows(config, provenances),
        "files": provenances,
        "left_out": [p for p in provenances if datasets.LEFT_OUT in p],
        "notes": normalisation.notes(config, provenances),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        "seconds": sum(record["seconds"] for record in records),
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    write_text(page, environment.get_template("page.html.j2").render(content))


def _figures(
    config: Config, records: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]
) -> dict[str, Figure]:
    fold = datasets.folds(config)[-1]
    free = analysis_of(config).parameters
    drawn = {
        "objective": draw.objective(records, summary),
        **({"parameters": draw.parameters(records, summary, free)} if summary["points"]["optimised"] else {}),
        **{f"templates_{name}": draw.templates(config, name, summary, fold) for name in config.regions},
    }
    if impacts := summary["fits"].get(f"optimised_{fold}", {}).get("impacts"):
        drawn["pulls"] = draw.pulls(summary, fold)
        drawn["ranking"] = draw.ranking(config, impacts)
    return drawn


def _svg(figure: Figure) -> str:
    stream = StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _parameter_rows(config: Config, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    free = analysis_of(config).parameters
    return [
        {
            "name": name,
            "initial": initial,
            "optimised": summary["points"]["optimised"][name],
            "bounds": free[name].bounds if name in free else None,
            "unit": free[name].unit if name in free else "",
        }
        for name, initial in summary["points"]["initial"].items()
    ]


def _moved_edges(summary: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Bin edges before and after of the channels whose edges moved."""
    points = summary["edges"]
    return {
        channel: {point: ", ".join(f"{edge:.4g}" for edge in points[point][channel]) for point in points}
        for channel in points["initial"]
        if points["initial"][channel] != points["optimised"][channel]
    }


def _cautions(summary: Mapping[str, Any], *, most: int = 30) -> list[str]:
    """What to know of the uncertainties at the optimised parameters, on the last fold; at most so many of each kind."""
    found = summary["cautions"][f"optimised_{summary['table'][-1]['fold']}"]
    return cautions.summary([cautions.Caution(**caution) for caution in found], most)


HOW_FOUND = {
    "minos": "MINOS",
    "profile": "profile fits of pyhf, as MINOS found no end",
    "bound": "none, a bin would expect less than no events beyond",
}


def _interval(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The POI's interval by pyhf at the optimised parameters, on the last fold; how each end was found."""
    fit = summary["fits"].get(f"optimised_{summary['table'][-1]['fold']}")
    if fit is None or fit["interval"] is None:
        return None
    found = {side: HOW_FOUND[method] for side, method in fit["interval_method"].items()}
    return {**dict(zip(("down", "up"), fit["interval"], strict=True)), "found": found}


def _bootstrap_error(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Standard deviation of the relative change over the bootstrap samples, in percent."""
    if not summary["bootstrap"] or len(summary["bootstrap"]["values"]["initial"]) < 2:
        return None
    before, after = (np.array(summary["bootstrap"]["values"][point]) for point in ("initial", "optimised"))
    percent = 100 * (after / before - 1)
    return {
        "percent": float(percent.std(ddof=1)),
        "replicas": len(percent),
        "failed": summary["bootstrap"]["failed"],
    }


def _improvement(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Relative change of the final number on the last fold: the held-out one where there is one.

    The number is pyhf's, or with exact cuts for an objective that is none of the fit. A start without it has no change.
    """
    last = summary["table"][-1]["fold"]
    judge = "exact" if summary["table"][-1]["pyhf"] is None else "pyhf"  # of the optimised parameters
    before, after = (
        next(r[judge] for r in summary["table"] if (r["point"], r["fold"]) == (point, last))
        for point in ("initial", "optimised")
    )
    return {
        "fold": last,
        "judge": judge,
        "before": before,
        "after": after,
        "percent": None if before is None else 100 * (after / before - 1),
        "better": before is None or _is_better(summary, before, after),
        "error": _bootstrap_error(summary),
    }


def _is_better(summary: Mapping[str, Any], before: float, after: float) -> bool:
    return after < before if summary["objective"]["sense"] == "minimise" else after > before


def _sample_rows(config: Config, provenances: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for name in datasets.sample_names(config):
        files = [p for p in provenances if p["sample"] == name]
        read, kept = (sum(sum(f[key].values()) for f in files) for key in ("entries_read", "entries_kept"))
        promised = sum(f["entries_promised"] or 0 for f in files)
        sample = config.data.samples[name.partition("__")[0]]
        rows.append({
            "name": name, "files": len({f["file"] for f in files}), "read": read, "kept": kept,
            "lost": max(promised - read, 0), "cross_section_pb": sample.cross_section_pb,
            "sum_of_weights": sum(sum(f["sum_of_weights"].values()) for f in files),
        })  # fmt: skip
    return rows
