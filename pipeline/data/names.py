"""The points of a run and the folds of its events, by the names that they have in files and options."""

from typing import Final, Literal

Point = Literal["initial", "optimised", "polished"]
Fold = Literal["train", "held_out"]

INITIAL: Final = "initial"
OPTIMISED: Final = "optimised"
POLISHED: Final = "polished"  # only in `evaluate`, where `evaluate.polish` asks for it
POINTS: tuple[Point, ...] = (INITIAL, OPTIMISED)  # of every run
TRAIN: Final = "train"
HELD_OUT: Final = "held_out"
FOLDS: tuple[Fold, ...] = (TRAIN, HELD_OUT)
ALL: Final = "all"  # the events of both folds
