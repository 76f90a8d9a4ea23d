"""Which width a relaxed operation uses: named, given as a number, or that of the parameter it cuts on."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Real

from pipeline.relax.arrays import Mask, RealArrays

Width = Real[ArrayLike, ""]


class Asked(NamedTuple):
    """A call of an operation that needs a width: ``width=`` as it was given, and what the call acts on."""

    operation: str
    width: str | Width | None
    x: RealArrays
    threshold: object = None
    mask: Mask = None

    @property
    def objects(self) -> Mask:
        """Which objects are there: those of the mask; without one those that are not 0, as ``pad`` fills up."""
        return jnp.asarray(self.x) != 0 if self.mask is None and np.ndim(self.x) > 1 else self.mask


def named_like(threshold: object, thresholds: Mapping[str, object] | None) -> str | None:
    """Return the name of the free parameter that ``threshold`` is (the same Python object), or None.

    Only arrays have an identity: equal Python numbers may be one object. Two names for one array are refused.
    """
    if thresholds is None or not isinstance(threshold, jax.Array | np.ndarray | np.generic):
        return None
    names = [name for name, value in thresholds.items() if value is threshold]
    if len(names) > 1:
        raise ValueError(
            f"width: the threshold is shared by the parameters {names}; allowed: one array per parameter; "
            "name the width: width='...'"
        )
    return names[0] if names else None


def _positive(width: Width, asked: str) -> Width:
    if not isinstance(width, jax.core.Tracer) and not np.asarray(width).item() > 0:
        raise ValueError(f"{asked}: width {width}; allowed: above 0; use Exact() for the limit of width 0")
    return width


def find_width(
    operation: str,
    width: str | Width | None,
    widths: Width | Mapping[str, Width],
    threshold: object = None,
    thresholds: Mapping[str, object] | None = None,
) -> Width:
    """Return the width of one call of ``operation``.

    A number is used as is. A name is looked up in ``widths``. Without either, it is the width of the
    parameter whose array the threshold is. Where ``widths`` is one number, that holds for every name and
    for none. Widths must be above 0; a traced width cannot be checked.
    """
    if width is not None and not isinstance(width, str):
        return _positive(width, f"{operation}: width=")
    if not isinstance(widths, Mapping):
        return _positive(widths, operation)
    name = width if width is not None else named_like(threshold, thresholds)
    known = ", ".join(widths) or "none"
    if name is None:
        raise ValueError(
            f"{operation}: no width given, and the threshold is none of the free parameters "
            f"({', '.join(thresholds or ()) or 'none'}); widths exist for: {known}; give width='<name>' or a "
            "number, or pass the parameter's own array (parameters are recognised by identity, in one trace)"
        )
    if name not in widths:
        raise ValueError(
            f"{operation}: no width named '{name}'; widths exist for: {known}; add '{name}' to the widths or "
            "give width= one of these names or a number"
        )
    return _positive(widths[name], f"{operation}: '{name}'")
