"""The points of a run and the folds of its events, by the names that they have in files and options."""

from typing import Final, Literal

Point = Literal["initial", "optimised"]
Fold = Literal["train", "held_out"]

INITIAL: Final = "initial"
OPTIMISED: Final = "optimised"
POINTS: tuple[Point, ...] = (INITIAL, OPTIMISED)
TRAIN: Final = "train"
HELD_OUT: Final = "held_out"
FOLDS: tuple[Fold, ...] = (TRAIN, HELD_OUT)
ALL: Final = "all"  # the events of both folds
