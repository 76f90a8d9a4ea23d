"""Templates that a sweep leaves out: of a systematic variation that is held, relative to the nominal.

A held template keeps its ratio to the nominal, bin by bin, as it was at some earlier point:

    T_v(p) = T_nominal(p) T_v(p_0) / T_nominal(p_0)

so the likelihood is complete at every point, with every nuisance parameter, and what is missing is only how the
relative effect of these variations depends on the parameters.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pipeline.containers import AnyArray, Templates
from pipeline.gradient.work import Group
from pipeline.templates.axes import Axes


class Watched(NamedTuple):
    """What a sweep observes: variations made by the analysis, and samples; a process always."""

    variations: tuple[str, ...]
    samples: tuple[str, ...]

    def of(self, group: Group) -> Group | None:
        """Return a group with the variations that are observed of it; None for one of a sample that is left out."""
        if "__" in group.sample and group.sample not in self.samples:
            return None
        return group._replace(variations=tuple(n for n in group.variations if n in self.variations))


class HeldTemplates(NamedTuple):
    """The templates at the point where it was decided what to hold, [samples, variations, bins] by channel."""

    watched: Watched
    axes: Axes
    before: Mapping[str, Float[np.ndarray, "samples variations bins"]]

    def completed(self, templates: Templates) -> Templates:
        """Return templates of what is observed, with those that are held."""
        yields = {
            channel: np.where(self._left_out, self._moved(channel, array), array)
            for channel, array in templates.yields.items()
        }
        return Templates(yields, templates.sumw2)

    def pulled_back(self, slopes: Templates) -> Templates:
        """Return the derivative with respect to what is observed, from that with respect to all templates."""
        yields = {}
        for channel, array in slopes.yields.items():
            through = np.where(self._left_out, array, 0.0) * self._ratio(channel)
            own = np.where(self._left_out, 0.0, array)
            np.add.at(own[:, 0], self.axes.process_of, np.sum(through, axis=1))
            yields[channel] = own
        return Templates(yields, slopes.sumw2)

    def _moved(self, channel: str, yields: AnyArray) -> Float[np.ndarray, "samples variations bins"]:
        """Return all templates as they would be if they were held, relative to these nominal ones."""
        nominal, before = (
            np.asarray(a)[self.axes.process_of, 0][:, None] for a in (yields, self.before[channel])
        )
        moved: np.ndarray = self.before[channel] + self._ratio(channel) * (nominal - before)
        return moved

    def _ratio(self, channel: str) -> Float[np.ndarray, "samples variations bins"]:
        """Return each template divided by the nominal one.

        1 where the nominal is not positive, so that there the difference is kept.
        """
        before = self.before[channel]
        nominal = before[self.axes.process_of, 0][:, None]
        positive = nominal > 0
        return np.where(positive, before / np.where(positive, nominal, 1.0), 1.0)

    @property
    def _left_out(self) -> Bool[np.ndarray, "samples variations 1"]:
        axes = self.axes
        made = [False, *(name not in self.watched.variations for name in axes.variations[1:])]
        read = ["__" in name and name not in self.watched.samples for name in axes.samples]
        found: np.ndarray = (np.array(made)[None, :] | np.array(read)[:, None])[:, :, None]
        return found


def everything(axes: Axes) -> Watched:
    """Return a choice that leaves nothing out."""
    return Watched(axes.variations[1:], axes.samples)


def needed(axes: Axes, rows: Collection[tuple[str, str]]) -> Watched:
    """Return the rows, (process, variation), that must be observed for some rows."""
    found = [axes.row(*row) for row in rows]
    variations = {variation for _, variation in found}
    samples = {sample for sample, _ in found}
    return Watched(
        tuple(name for place, name in enumerate(axes.variations) if place and place in variations),
        tuple(name for place, name in enumerate(axes.samples) if place in samples),
    )
