"""The numbers of a specification as a few stacked arrays, and what of them the likelihood is computed with."""

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from pipeline.containers import AnyArray
from pipeline.likelihood.layout import BIN_BY_BIN, Rows
from pipeline.likelihood.paramsets import Modifiers
from pipeline.likelihood.workspace import ModifierArrays, Specification

FIELDS = ("nominal", "high", "low", "factors", "uncertainties")


class StackedTemplates(eqx.Module):
    """The templates, all numbers of a specification, in arrays whose rows are those of the layout.

    ``high`` and ``low`` are the yields of a histosys at +1 and -1 standard deviations, ``factors`` those of a normsys,
    ``uncertainties`` the absolute ones of shapesys and staterror, bin by bin. Where a row does not act its numbers mean
    nothing.
    """

    nominal: Float[Array, "samples bins"]
    high: Float[Array, "shapes bins"]
    low: Float[Array, "shapes bins"]
    factors: Float[Array, "sides norms channels"]
    uncertainties: Float[Array, " uncertainties"]


class DenseTemplates(eqx.Module):
    """What every step of a fit needs of the templates: computed once.

    ``mean`` is half the difference of a histosys' two sides, which moves with the sign of its parameter, ``bend`` their
    mean without the nominal, which does not (interpolation codes are linear in both); ``factors`` the normsys hi and lo
    and ``coefficients`` their code-4 polynomials; ``width`` the Gaussian sigma or Poisson factor of each
    constraint; ``valid`` whether a bin-by-bin uncertainty is above zero.
    """

    nominal: Float[Array, "samples bins"]
    mean: Float[Array, "shapes bins"]
    bend: Float[Array, "shapes bins"]
    factors: Float[Array, "sides norms channels"]
    coefficients: Float[Array, "powers norms channels"]
    width: Float[Array, " auxdata"]
    auxdata: Float[Array, " auxdata"]
    valid: Bool[Array, " auxdata"]

    def shifts(
        self, of_mean: Float[Array, " shapes"], of_bend: Float[Array, " shapes"]
    ) -> Float[Array, "shapes bins"]:
        """Return what the histosys add, from the factors of ``mean`` and ``bend``, or their derivatives from these'."""
        return of_mean[:, None] * self.mean + of_bend[:, None] * self.bend


class Stacking:
    """How templates keyed by names are stacked: names, for what is outside of compiled programs.

    All compare as equal, so that models of one structure, as the patches of one patchset, share their programs. What
    is compiled never reads them, but where templates keyed by names are given to it, whose own names then decide.
    """

    def __init__(self, modifiers: Modifiers, names: Rows):
        self.modifiers, self.names = modifiers, names

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stacking)

    def __hash__(self) -> int:
        return hash(Stacking)

    def stacked(self, templates: Specification) -> StackedTemplates:
        """Return the templates keyed by names as stacked arrays; traced numbers stay traced.

        Raises:
            ValueError: other channels, samples, modifiers or bins than the model's.
        """
        self.check(templates)
        leaves, structure = jax.tree.flatten(templates)
        flat = _joined(leaves)
        starts = np.cumsum([1, *(np.size(leaf) for leaf in leaves)])
        places = jax.tree.unflatten(
            structure, [np.arange(np.size(leaf)) + start for leaf, start in zip(leaves, starts, strict=False)]
        )
        return StackedTemplates(**{field: flat[place] for field, place in self.places(places).items()})

    def places(self, places: Specification) -> dict[str, Int[np.ndarray, "..."]]:
        """Return places of numbers keyed by names, by the fields of the stacked arrays; 0 where there is no number."""
        names = self.names
        found = {field: np.zeros(shape, dtype=np.int64) for field, shape in self.shapes().items()}
        nominal, high, low, factors, uncertainties = (found[field] for field in FIELDS)
        for channel, samples in places.items():
            inside, column = names.slices[channel], names.channel[channel]
            for sample, entry in samples.items():
                nominal[names.sample[sample], inside] = entry["data"]
                for name, ends in entry.get("histosys", {}).items():
                    row = names.shapes[sample, name]
                    high[row, inside], low[row, inside] = ends["hi_data"], ends["lo_data"]
                for name, ends in entry.get("normsys", {}).items():
                    factors[:, names.norms[sample, name], column] = [
                        np.ravel(ends[side])[0] for side in ("hi", "lo")
                    ]
                for kind in BIN_BY_BIN:
                    for name, values in entry.get(kind, {}).items():
                        uncertainties[names.uncertainties[channel, sample, name]] = values
        return found

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return shapes of the stacked arrays."""
        names = self.names
        shapes = (len(names.shapes), names.bins)
        size = sum(place.stop - place.start for place in names.uncertainties.values())
        factors = (2, len(names.norms), len(names.channels))
        return dict(
            zip(FIELDS, ((len(names.samples), names.bins), shapes, shapes, factors, (size,)), strict=True)
        )

    def check(self, templates: Specification) -> None:
        """Refuse templates of another structure than the model's."""
        own = self.by_name({field: np.zeros(shape) for field, shape in self.shapes().items()})
        different = sorted(_places(own) ^ _places(templates))
        if different:
            raise ValueError(
                f"templates: {len(different)} entries differ from the workspace in name or shape, first "
                f"{different[:4]}; give the numbers of the same channels, samples, modifiers and bins"
            )

    def named(self, stacked: StackedTemplates) -> Specification:
        """Return stacked arrays as templates keyed by names, as ``templates_from_workspace`` gives them."""
        return self.by_name({field: getattr(stacked, field) for field in FIELDS})

    def by_name(self, arrays: Mapping[str, AnyArray]) -> Specification:
        """Return the fields of stacked arrays as numbers keyed by names."""
        found: Specification = {channel: {} for channel in self.names.channels}
        for kind in self.modifiers.kinds:
            for name in self.modifiers.names(kind):
                for channel, sample in self.modifiers.users(kind, name):
                    entry = found[channel].setdefault(sample, {})
                    entry.setdefault(kind, {})[name] = self._modifier(arrays, kind, name, channel, sample)
        for channel, sample in self.modifiers.cells:
            inside, row = self.names.slices[channel], self.names.sample[sample]
            found[channel].setdefault(sample, {})["data"] = arrays["nominal"][row, inside]
        return found

    def _modifier(
        self, arrays: Mapping[str, AnyArray], kind: str, name: str, channel: str, sample: str
    ) -> ModifierArrays:
        """Return the numbers of one modifier in one place."""
        inside, column = self.names.slices[channel], self.names.channel[channel]
        match kind:
            case "histosys":
                row = self.names.shapes[sample, name]
                return {"hi_data": arrays["high"][row, inside], "lo_data": arrays["low"][row, inside]}
            case "normsys":
                row = self.names.norms[sample, name]
                ends = arrays["factors"][:, row, column]
                return {"hi": ends[0, ...], "lo": ends[1, ...]}  # arrays, also of NumPy
            case "shapesys" | "staterror":
                return arrays["uncertainties"][self.names.uncertainties[channel, sample, name]]
            case _:
                return None


def _joined(leaves: Sequence[ArrayLike]) -> Float[Array, " numbers"]:
    """Return all numbers in one vector, behind a 0.

    NumPy joins them where none is traced: JAX would compile a program of many arrays.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return jnp.concatenate(
            [jnp.zeros(1), *(jnp.ravel(jnp.asarray(leaf, dtype=float)) for leaf in leaves)]
        )
    return jnp.asarray(np.concatenate([[0.0], *(np.ravel(leaf) for leaf in leaves)]))


def _places(templates: Specification) -> set[tuple[str, str]]:
    """Return path and shape of every entry."""
    leaves = jax.tree.leaves_with_path(templates)
    return {(jax.tree_util.keystr(path), str(np.shape(leaf))) for path, leaf in leaves}
