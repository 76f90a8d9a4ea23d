"""The systematic variations of coffea's ``Weights``: a column for the weight of each, and a variation that takes it."""

import functools

from pipeline.analysis.declarations import WEIGHT
from pipeline.analysis.systematics import Transform
from pipeline.containers import AnyArray, Columns
from pipeline.errors import ConfigError

DIRECTIONS = ("Up", "Down")  # how coffea ends the names of its variations


def column_of(variation: str) -> str:
    """Return the name of the column that holds the weight of a variation."""
    return f"{WEIGHT}_{variation}"


def coffea_variations(*names: str) -> dict[str, Transform]:
    """Return the variations of weights that ``columns`` returned by ``pipeline.columns.coffea_weights``.

    Args:
        names: of the weights that have variations, as ``Weights.add`` was given them: ``muon`` for ``muonUp`` and
            ``muonDown``. Those of ``Weights.add_multivariation`` have the name of the modifier behind it:
            ``btag_light``.

    Raises:
        ConfigError: a name is that of one variation.
    """
    for name in names:
        if name.endswith(DIRECTIONS):
            raise ConfigError(
                f"coffea_variations({name!r}): that is one variation; give the name of the weight, without "
                f"{' or '.join(DIRECTIONS)}, and both are made"
            )
    variations = [f"{name}{direction}" for name in names for direction in DIRECTIONS]
    return {variation: Transform(functools.partial(_other_weight, variation)) for variation in variations}


def _other_weight(variation: str, columns: Columns) -> dict[str, AnyArray]:
    return {WEIGHT: getattr(columns, column_of(variation))}
