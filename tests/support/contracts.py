"""Whole records, provenances and evaluations for tests that care for a few of their values."""

from pipeline.data.column_file import Provenance
from pipeline.data.names import FOLDS, POINTS
from pipeline.data.record import EpochRecord, SweepSeconds
from pipeline.evaluate.evaluation import EvaluatedPoint, Evaluation, Place, PyhfFit, YieldTables
from pipeline.gradient.loss import Described

OBJECTIVE = {"kind": "poi_uncertainty", "label": "uncertainty", "unit": "1", "sense": "minimise"}


def record(epoch, **values):
    """The record of an epoch of a second."""
    usual = {
        "objective": 0.1,
        "gradient_norm": 1.0,
        "parameters": {},
        "gradient": {},
        "sweeps": SweepSeconds(forward=0.2, centre=0.3, pullback=0.4),
        "events": 7,
        "seconds": 1.0,
        "events_per_second": 7.0,
    }
    return EpochRecord(epoch=epoch, **usual | values)


def provenance(sample="signal", train=60, held_out=40, **values):
    """That of a whole file of so many events, a tenth of which is kept, with weights of 1."""
    kept = {"train": train // 10, "held_out": held_out // 10}
    weights = {fold: float(number) for fold, number in kept.items()}
    usual = {
        "version": "1",
        "analysis": "",
        "held_out_fraction": 0.4,
        "file": f"{sample}.root",
        "range": (0, None),
        "promised": None,
        "checksum": None,
        "generator_weight": None,
        "entries_promised": None,
        "entries_read": {"train": train, "held_out": held_out},
        "entries_kept": kept,
        "sum_of_weights": weights,
        "sum_of_absolute_weights": weights,
        "largest_weight": 1.0,
    }
    return Provenance(sample=sample, **usual | values)


def fit(labels, **values):
    """pyhf's fit of Asimov data, of an uncertainty of a tenth."""
    ones = (1.0,) * len(labels)
    usual = {
        "impacts": (),
        "prefit_stdev": {},
        "interval": (-0.1, 0.1),
        "interval_method": {"down": "minos", "up": "minos"},
        "interval_missing": "",
        "bestfit": ones,
        "uncertainty": ones,
        "correlation": tuple(tuple(float(i == j) for j in labels) for i in labels),
        "twice_nll": 10.0,
        "objective": 0.1,
    }
    return PyhfFit(labels=labels, **usual | values)


def row(point, fold, **values):
    """A point on seven events of a fold."""
    usual = {
        **dict.fromkeys(("exact", "relaxed", "pyhf"), 0.1),
        "events": 7,
        "missing": (),
        "also": {},
        "cautions": (),
        "templates": YieldTables(yields={}, sumw2={}),
        "fit": None,
    }
    return EvaluatedPoint(point=point, fold=fold, **usual | values)


def evaluation(rows=None, points=None, bootstrap=None, **objective):
    """Both points on both folds where no rows are given."""
    keys = [(point, fold) for fold in FOLDS for point in POINTS]
    nothing = dict.fromkeys(POINTS, Place(parameters={}, edges={}, pseudodata=None))
    return Evaluation(
        objective=Described(**OBJECTIVE | objective),
        points=nothing if points is None else points,
        rows=tuple(row(*key) for key in keys) if rows is None else tuple(rows),
        bootstrap=bootstrap,
    )


def with_rows(evaluated, change, **values):
    """The same, with other values in the rows that `change` chooses."""
    rows = (found.changed(**values) if change(found) else found for found in evaluated.rows)
    return evaluated.changed(rows=tuple(rows))
