"""The points of a run and the folds of its events, by the names that they have in files and options."""

from typing import Final, Literal

Point = Literal["initial", "optimised", "polished"]
Fold = Literal["train", "held_out", "cross_fitted"]  # what a number is of
Part = str  # what a column file keeps apart: the first two folds, or those of `data.folds`
PART = r"^(train|held_out|fold_[1-9][0-9]*)$"

INITIAL: Final = "initial"
OPTIMISED: Final = "optimised"
POLISHED: Final = "polished"  # only in `evaluate`, where `evaluate.polish` asks for it
POINTS: tuple[Point, ...] = (INITIAL, OPTIMISED)  # of every run
TRAIN: Final = "train"
HELD_OUT: Final = "held_out"
FOLDS: tuple[Fold, ...] = (TRAIN, HELD_OUT)
CROSS_FITTED: Final = "cross_fitted"  # all events, each by parameters that never saw it
ALL: Final = "all"  # the events of all folds
OUTSIDE: Final = "outside_"  # before the name of a fold: the events of all others


def fold_name(number: int) -> Part:
    """Return the name of a fold of ``data.folds``, counted from 1."""
    return f"fold_{number}"
