"""Cautions: doubtful templates of systematic uncertainties, for a reader of the result.

HistFactory's likelihood bends where up and down change a yield to the same side: at the nominal value, where Asimov
data have their minimum, it sees half of their difference, which may be nothing. And a mirror image may be below zero.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool

from pipeline.config import Config, Model, NormalizationSystematic
from pipeline.containers import Templates
from pipeline.data.written import Written
from pipeline.templates.axes import Axes
from pipeline.templates.shapes import LEAST_MIRRORED, Channels, norm_plus_shape
from pipeline.templates.varied import Bins, VariedTemplates, varied_templates

LEFT_OVER = (
    0.1  # share of the size of an uncertainty: with less of it left at the nominal value, it has vanished
)
BEYOND_NOISE = (
    2.0  # standard deviations of simulated events: smaller changes to one side are counted, not listed
)
UNLIKE = 5.0  # times the nominal yield, or a part of it: more is hardly an uncertainty
ROUNDING = 1e-9  # of the yield of a template: what is smaller is a sum in another order
NO_EFFECT, VANISHES, LARGE, MIRRORED, ONE_SIDED = "no effect", "vanishes", "large", "mirrored", "one-sided"
KINDS = (NO_EFFECT, VANISHES, LARGE, MIRRORED, ONE_SIDED)  # the most serious first


class Caution(Written):
    """One thing to know of a systematic uncertainty; no sample or channel where it is all of them.

    ``size`` orders them, relative to everything in the channel; ``noise`` counts bins on one side that may be chance.
    """

    kind: str
    systematic: str
    sample: str
    channel: str
    size: float
    noise: int
    text: str


def cautions(templates: Templates, axes: Axes, config: Config) -> list[Caution]:
    """Return the cautions on a run's uncertainties for concrete templates, the largest first."""
    if not config.model.is_fitted:
        return []
    places = list(varied_templates(templates, axes, config))
    found = [*_normalizations(config.model), *_without_effect(places)]
    for place in places:
        found += [*_one_sided(place), *_large(place), *_mirrored(place)]
    return sorted(found, key=lambda caution: (KINDS.index(caution.kind), -caution.size))


def summary(found: Sequence[Caution], most: int) -> list[str]:
    """Return cautions as lines of a log: so many of each kind, and how many more there are."""
    lines = []
    for kind in KINDS:
        own = [caution for caution in found if caution.kind == kind and caution.text]
        lines += [f"{kind}: {caution.text}" for caution in own[:most]]
        if len(own) > most:
            lines.append(f"{kind}: {len(own) - most} more such")
    noise = sum(caution.noise for caution in found)
    if noise:
        lines.append(f"{ONE_SIDED}: {noise} bins more, within the noise of the simulated events")
    return lines


def _caution(place: VariedTemplates, kind: str, size: float, text: str, noise: int = 0) -> Caution:
    """Return one of a place; ``size`` in events."""
    where = f"{place.systematic.name!r} of sample {place.sample!r} in channel {place.channel!r}"
    return Caution(
        kind=kind,
        systematic=place.systematic.name,
        sample=place.sample,
        channel=place.channel,
        size=float(size / place.total) if place.total > 0 else 0.0,
        noise=noise,
        text=f"{where}: {text}",
    )


def _one_sided(place: VariedTemplates) -> Iterator[Caution]:
    """Yield bins, and the yield, that up and down change to the same side."""
    if len(place.given) < 2 or place.systematic.symmetrise not in (None, "average"):
        return
    up, down = (end - place.nominal for end in place.given)
    least = ROUNDING * np.abs(place.nominal).sum()
    size = np.maximum(np.abs(up), np.abs(down))[place.filled].sum()
    if not size > least:
        return
    for name, change, other in (("up", up, down), ("down", down, up)):
        if not np.abs(change)[place.filled].sum() > least and np.abs(other)[place.filled].sum() > least:
            text = f"{name} changes nothing: half of the other is left at the nominal value, the other side has none"
            yield _caution(place, ONE_SIDED, size, text)
            return
    same = place.filled & (up * down > 0) & (np.minimum(np.abs(up), np.abs(down)) > least)
    changes = f"its yield by {_percent(up.sum(), place)} and {_percent(down.sum(), place)}"
    left = 0.5 * np.abs(up - down)[place.filled].sum() / size
    if left < LEFT_OVER:
        text = f"up and down change to one side, {100 * left:.0f} % of it is left at the nominal value:"
        yield _caution(place, VANISHES, size, f"{text} {changes}, {_bins(up, down, same, place)}")
    elif place.systematic.symmetrise is None:
        certain = (
            same
            & (np.abs(up) > BEYOND_NOISE * place.noise[0])
            & (np.abs(down) > BEYOND_NOISE * place.noise[1])
        )
        parts = [_bins(up, down, certain, place)] if certain.any() else []
        parts += [changes] if _is_whole(up, down, place, least) else []
        noise = int(np.sum(same & ~certain))
        found = _caution(
            place, ONE_SIDED, size, f"up and down change to one side {' and '.join(parts)}", noise
        )
        if parts or noise:
            yield found if parts else found.changed(text="")


def _is_whole(up: Bins, down: Bins, place: VariedTemplates, least: float) -> bool:
    """Return whether the yield of all bins changes to one side, beyond noise."""
    noise = [max(BEYOND_NOISE * float(np.sqrt(np.sum(n**2))), least) for n in place.noise]
    beyond = all(abs(c.sum()) > n for c, n in zip((up, down), noise, strict=True))
    return beyond and bool(up.sum() * down.sum() > 0)


def _bins(up: Bins, down: Bins, chosen: Bool[np.ndarray, " bins"], place: VariedTemplates) -> str:
    """Return the bins that are concerned, and the changes in that where they are largest."""
    if not chosen.any():
        return "no single bin"
    most = int(np.argmax(np.where(chosen, np.abs(up) + np.abs(down), -1.0)))
    nominal = place.nominal[most]
    sizes = (
        f"{100 * up[most] / nominal:+.3g} % and {100 * down[most] / nominal:+.3g} %"
        if nominal > 0
        else f"{up[most]:+.3g} and {down[most]:+.3g} events"
    )
    return f"{_listed(chosen)} (bin {most}: {sizes})"


def _listed(chosen: Bool[np.ndarray, " bins"], most: int = 8) -> str:
    numbers = np.flatnonzero(chosen)
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return f"bin{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:most]))}{more} of {len(chosen)}"


def _percent(change: float, place: VariedTemplates) -> str:
    total = place.nominal.sum()
    return f"{100 * change / total:+.3g} %" if total > 0 else f"{change:+.3g} events"


def _large(place: VariedTemplates) -> Iterator[Caution]:
    """Yield yields of a size that no uncertainty has: the variation is perhaps not normalised as the nominal is."""
    total = float(place.nominal[place.filled].sum())
    names = [name for name in (place.systematic.up, place.systematic.down) if name is not None]
    for name, end, noise in zip(names, place.given, place.noise, strict=True):
        change = float(end[place.filled].sum()) - total
        ratio = 1 + change / total if total > 0 else 1.0
        certain = abs(change) > BEYOND_NOISE * float(np.sqrt(np.sum(noise**2)))
        if certain and not 1 / UNLIKE <= ratio <= UNLIKE:
            text = f"{name!r} has {ratio:.3g} times the nominal yield: is it normalised as the nominal is?"
            yield _caution(place, LARGE, abs(change), text)


def _mirrored(place: VariedTemplates) -> Iterator[Caution]:
    """Yield mirror images below zero, of the yield or of bins."""
    ends = place.used
    if len(place.given) == 2 and place.systematic.symmetrise is None:
        return
    if len(ends) == 1:
        one = Channels.of_sizes([place.nominal.size])
        split = norm_plus_shape(place.nominal[None], place.used[0][None], None, place.filled, one)
        ends = [np.asarray(split.lo_data)[0]]
        total = place.nominal.sum()
        ratio = float(place.used[0].sum() / total) if total > 0 else 1.0
        if 2.0 - ratio < LEAST_MIRRORED:
            text = (
                f"up has {ratio:.4g} times the nominal yield, its mirror image {2.0 - ratio:.4g} times; in its place "
                f"is {LEAST_MIRRORED}"
            )
            yield _caution(place, MIRRORED, np.abs(place.used[0] - place.nominal).sum(), text)
    below = np.minimum.reduce(ends)
    concerned = (below < -ROUNDING * np.abs(place.nominal).sum()) & (place.nominal >= 0) & place.filled
    if concerned.any():
        worst = int(np.argmin(np.where(concerned, below, 0.0)))
        text = (
            f"the mirror image is below zero in {_listed(concerned)} (bin {worst}: {below[worst]:.3g} events, nominal "
            f"{place.nominal[worst]:.3g})"
        )
        yield _caution(place, MIRRORED, -below[concerned].sum(), text)


def _normalizations(model: Model) -> Iterator[Caution]:
    """Yield cautions on ``Normalization``: those with ``one_sided``, and those of no size."""
    for systematic in model.systematics:
        if not isinstance(systematic, NormalizationSystematic):
            continue
        up, down = systematic.up, systematic.down
        where = "" if systematic.samples is None else f" of {', '.join(map(repr, systematic.samples))}"
        size = max(abs(up), abs(down))
        if size == 0.0:
            text = f"{systematic.name!r}{where}: up and down are 0"
            yield _of_all(NO_EFFECT, systematic.name, 0.0, text)
        elif systematic.is_one_sided:
            left = 0.5 * abs(up - down) / size
            kind = VANISHES if left < LEFT_OVER else ONE_SIDED
            text = (
                f"{systematic.name!r}{where}: up {100 * up:+.3g} % and down {100 * down:+.3g} %, as one_sided: true "
                f"says; {100 * left:.0f} % of it is left at the nominal value"
            )
            yield _of_all(kind, systematic.name, size, text)


def _of_all(kind: str, systematic: str, size: float, text: str) -> Caution:
    """Return a caution on all samples and channels."""
    return Caution(kind=kind, systematic=systematic, sample="", channel="", size=size, noise=0, text=text)


def _without_effect(places: Sequence[VariedTemplates]) -> Iterator[Caution]:
    """Yield cautions on ``NormPlusShape`` that change no template at all."""
    by_name: dict[str, list[VariedTemplates]] = {}
    for place in places:
        by_name.setdefault(place.systematic.name, []).append(place)
    for name, own in by_name.items():
        ends = [(p.nominal, end) for p in own for end in p.given]
        if all(np.array_equal(nominal, end) for nominal, end in ends):
            names = " and ".join(repr(n) for n in (own[0].systematic.up, own[0].systematic.down) if n)
            text = f"{name!r}: {names} change no template of any sample and channel"
            yield _of_all(NO_EFFECT, name, 0.0, text)
