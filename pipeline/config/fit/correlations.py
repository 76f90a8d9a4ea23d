"""Section of partial correlations between systematic uncertainties, and what they are made of."""

from collections.abc import Sequence

import numpy as np
import pydantic
from jaxtyping import Float
from pydantic import Field

from pipeline.config.section import Section

ROUNDING = 1e-9  # of a matrix of correlations: an eigenvalue this far below zero is 0, given with few digits


class Correlation(Section):
    """How two systematic uncertainties are correlated; two that have none are independent."""

    between: tuple[str, str] = Field(description="names of two systematics")
    value: float = Field(description="coefficient, from -1 to 1")

    @pydantic.model_validator(mode="after")
    def _possible(self) -> "Correlation":
        first, second = self.between
        if first == second:
            raise ValueError(
                f"correlation between {first!r} and itself is 1; name two systematics, or remove it"
            )
        if not -1 <= self.value <= 1:
            raise ValueError(
                f"correlation between {first!r} and {second!r} is {self.value}; allowed are -1 to 1"
            )
        return self


def loadings(names: Sequence[str], correlations: Sequence[Correlation]) -> dict[str, dict[str, float]]:
    """Return of each systematic the coefficients of the independent parameters that it is the sum of.

    With C the matrix of correlations in the order of the names and ``C = L L^T``, L lower triangular (Cholesky),
    systematic i is ``sum_j L_ij alpha_j`` with independent parameters alpha of unit width. The first of those that are
    correlated stays its own parameter; of a later one the parameter of its name is what the former do not say. It is
    always among the coefficients, be it 0.

    Raises:
        ValueError: a name that is none of them, a pair given twice, or values that contradict each other.
    """
    place = {name: number for number, name in enumerate(names)}
    matrix, given = np.eye(len(names)), set()
    for own in correlations:
        unknown = [name for name in own.between if name not in place]
        if unknown:
            raise ValueError(f"correlations: {unknown[0]!r} is not one of model.systematics {sorted(names)}")
        row, column = sorted(place[name] for name in own.between)
        if (row, column) in given:
            raise ValueError(
                f"correlations: {own.between[0]!r} and {own.between[1]!r} are given twice; keep one of them"
            )
        given.add((row, column))
        matrix[row, column] = matrix[column, row] = own.value
    correlated = [place for place in range(len(names)) if np.count_nonzero(matrix[place]) > 1]
    root = np.eye(len(names))
    if correlated:
        inside = np.ix_(correlated, correlated)
        root[inside] = _root(matrix[inside], [names[number] for number in correlated])
    return {
        name: {names[j]: float(root[i, j]) for j in range(len(names)) if root[i, j] != 0.0 or i == j}
        for i, name in enumerate(names)
    }


def _root(matrix: Float[np.ndarray, "names names"], names: Sequence[str]) -> Float[np.ndarray, "names names"]:
    """Return the Cholesky factor of a matrix that may be singular, as with a correlation of 1."""
    values, vectors = np.linalg.eigh(matrix)
    if values[0] < -ROUNDING:
        involved = [name for name, part in zip(names, vectors[:, 0], strict=True) if abs(part) > ROUNDING]
        raise ValueError(
            f"correlations between {', '.join(map(repr, involved))} contradict each other: their matrix has the "
            f"eigenvalue {values[0]:.3g}, allowed are 0 and above; make the values smaller"
        )
    root = np.zeros_like(matrix)
    for column in range(len(matrix)):
        rest = matrix[column:, column] - root[column:, :column] @ root[column, :column]
        if rest[0] > ROUNDING:
            root[column:, column] = rest / np.sqrt(rest[0])
    return root
