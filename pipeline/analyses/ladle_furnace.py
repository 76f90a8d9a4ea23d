"""How full is a ladle of molten steel? Eight panels look at how cosmic muons scatter in it: TomOpt's benchmark.

G. Strong et al., arXiv:2309.14027. A ladle of a cubic metre: walls and floor of steel a decimetre thick, liquid steel
up to z = h, a decimetre of slag on it, air. Four panels above (z in 1.4 to 1.8 m), four below (0 to 0.4 m), 6 m^2 of
panel in all. An event is a ladle with a thousand muons: the mean height of their points of closest approach says how
full it is, after a linear correction. docs/ladle_furnace.md.
"""

from collections.abc import Mapping

import awkward as ak
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.analyses.ladle_muons import BOTTOM, HEIGHTS, LINES, MUONS, NOISE, PANELS, ROOF, TOP
from pipeline.analyses.scattering import weighted_line
from pipeline.analysis import Analysis, FlatTree, Free, Made
from pipeline.containers import Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed

ABOVE = 4  # panels, and as many below
RESOLUTION = 1e-4  # m
VOXEL = 0.1  # m, of the weight of the middle against the sides


class LadleFurnace(Analysis):
    """Sums, by height, of predicted heights and of their squares. Panels are squares of 6 m^2 together."""

    merit_label, merit_unit = "mean squared error after correction", "m^2"
    reads = FlatTree(tree="Events", branches=("which", *LINES, *NOISE), event="event")
    parameters: Mapping[str, Free] = {
        **{f"x_{panel}": Free(0.0, bounds=(0.0, 1.0), unit="m") for panel in range(PANELS)},
        **{f"y_{panel}": Free(0.0, bounds=(0.0, 1.0), unit="m") for panel in range(PANELS)},
        **{f"z_{panel}": Free(1.48 - 0.01 * panel, bounds=(TOP, ROOF), unit="m") for panel in range(ABOVE)},
        **{
            f"z_{panel}": Free(0.35 - 0.01 * (panel - ABOVE), bounds=(0.0, BOTTOM), unit="m")
            for panel in range(ABOVE, PANELS)
        },
        **{f"share_{panel}": Free(0.0, bounds=(-2.0, 2.0)) for panel in range(PANELS)},
    }

    def __init__(self, budget: float = 6.0) -> None:
        self.budget = budget

    def columns(self, events: ak.Array, dataset: str) -> Mapping[str, Made]:
        """Return every ladle."""
        del dataset
        which = np.asarray(events.which)
        return {
            "weight": np.ones(len(which)),
            "of_height": np.eye(len(HEIGHTS), dtype=np.float32)[which],
            **{name: np.asarray(getattr(events, name)) for name in (*LINES, *NOISE)},
        }

    def areas(self, p: Parameters) -> Float[Array, " panels"]:
        """Return areas [m^2] of the panels: their shares of the budget."""
        return self.budget * jax.nn.softmax(_of_panels(p, "share"))

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Return the mean height of where the muons seem to have scattered."""
        c = c.widened()
        predicted = jax.vmap(lambda muons: self._height(p, muons, relax))(
            {name: c.arrays[name] for name in (*LINES, *NOISE)}
        )
        return {
            "ladles": Observation(weight=c.weight, shares=c.of_height),
            "predictions": Observation(weight=c.weight * predicted, shares=c.of_height),
            "squares": Observation(weight=c.weight * predicted**2, shares=c.of_height),
        }

    def _height(self, p: Parameters, muons: Mapping[str, Array], relax: Relaxed | Exact) -> Array:
        """Return the prediction of one ladle."""
        seen = [self._hits(p, panel, muons, relax) for panel in range(PANELS)]
        weight = jnp.prod(jnp.stack([inside for *_, inside in seen]), axis=0)
        lines, variances = [], []
        for part in (seen[:ABOVE], seen[ABOVE:]):
            z, x, y, inside = (jnp.stack(column, axis=-1) for column in zip(*part, strict=True))
            hit_weight = jnp.where(weight[:, None] > 0, inside, 1.0) / RESOLUTION**2
            for measured in (x, y):
                centre, mean, slope, *variance = weighted_line(z, measured, hit_weight)
                lines.append(jnp.stack([mean, slope, centre]))
                variances.append(jnp.stack(variance))
        return _weighted_height(jnp.stack(lines, axis=-1), jnp.stack(variances, axis=-1), weight)

    def _hits(
        self, p: Parameters, panel: int, muons: Mapping[str, Array], relax: Relaxed | Exact
    ) -> tuple[Array, ...]:
        """Return height, measured x and y of all muons at a panel, and whether it is hit."""
        where, at = ("above", TOP) if panel < ABOVE else ("below", BOTTOM)
        z = p.arrays[f"z_{panel}"]
        half = jnp.sqrt(self.areas(p)[panel]) / 2
        measured, inside = [], jnp.ones(MUONS, dtype=z.dtype)
        for axis, slope in zip("xy", "uv", strict=True):
            true = muons[f"{where}_{axis}"] + muons[f"{where}_{slope}"] * (z - at)
            distance = jnp.abs(true - p.arrays[f"{axis}_{panel}"]) / half
            inside = inside * relax.less(distance, 1.0, width="panel")
            measured.append(true + RESOLUTION * muons[f"noise_{axis}{panel}"])
        return jnp.broadcast_to(z, true.shape), *measured, inside

    def merit(self, p: Parameters, sums: Mapping[str, Array]) -> Array:
        """Return the mean squared error after the best linear correction.

        It is the variance of the heights times ``1 - correlation^2``.
        """
        del p
        height = jnp.asarray(HEIGHTS)
        share = sums["ladles"] / sums["ladles"].sum()
        mean, square = (sums[name] / sums["ladles"] for name in ("predictions", "squares"))
        overall, middle = jnp.sum(share * mean), jnp.sum(share * height)
        spread = jnp.sum(share * square) - overall**2
        shared = jnp.sum(share * mean * height) - overall * middle
        return jnp.sum(share * height**2) - middle**2 - shared**2 / spread


def _of_panels(p: Parameters, name: str) -> Float[Array, " panels"]:
    return jnp.stack([p.arrays[f"{name}_{panel}"] for panel in range(PANELS)])


def _closest(line: Float[Array, "lines 2"], centre: Float[Array, " lines"]) -> Float[Array, "3"]:
    """Return the middle of the shortest connection of two lines.

    Each line is given in x and y, by its position and its slope at a height.
    """
    (x_in, y_in, x_out, y_out), (u_in, v_in, u_out, v_out) = line[:, 0], line[:, 1]
    first, second = jnp.stack([x_in, y_in, centre[0]]), jnp.stack([x_out, y_out, centre[2]])
    one = jnp.ones_like(u_in)
    along, other = jnp.stack([u_in, v_in, one]), jnp.stack([u_out, v_out, one])
    normal = jnp.cross(along, other)
    between = second - first
    scale = jnp.sum(normal**2)
    on_first = first + along * jnp.dot(jnp.cross(between, other), normal) / scale
    on_second = second + other * jnp.dot(jnp.cross(between, along), normal) / scale
    return (on_first + on_second) / 2


def _weighted_height(
    lines: Float[Array, "3 muons lines"],
    variances: Float[Array, "2 muons lines"],
    inside: Float[Array, " muons"],
) -> Float[Array, ""]:
    """Return the mean height of the points of closest approach, the well measured and central ones counting most.

    As in TomOpt: the inverse variance of the height, clipped to its central 68 %, times the weight of the middle of the
    ladle; and no weight above the 84 % quantile of all.
    """
    mean, slope, centre = lines
    line = jnp.stack([mean, slope], axis=-1)
    points = jax.vmap(_closest)(line, centre)
    slopes = jax.vmap(jax.jacfwd(_closest))(line, centre)  # [muons, 3, lines, 2]
    variance = jnp.einsum("mclp,pml->mc", slopes**2, variances)
    height_variance = jnp.clip(
        variance[:, 2], *(_quantile(variance[:, 2], inside, level) for level in (0.15865, 0.84135))
    )
    middle = jnp.prod(_middle(points[:, :2], jnp.sqrt(variance[:, :2])), axis=1)
    quality = middle / height_variance
    weight = inside * jnp.minimum(quality, _quantile(quality, inside, 0.84135))
    return jnp.sum(weight * points[:, 2]) / jnp.sum(weight)


def _quantile(
    values: Float[Array, " muons"], weight: Float[Array, " muons"], level: float
) -> Float[Array, ""]:
    """Return where the weights of the smaller values reach a share of all, between two values in proportion."""
    order = jnp.argsort(jnp.where(weight > 0, values, jnp.inf))
    values, weight = values[order], weight[order]
    reached = jnp.cumsum(weight)
    at = jnp.maximum(jnp.argmax(reached >= level * reached[-1]), 1)
    share = (level * reached[-1] - reached[at - 1]) / weight[at]
    return values[at - 1] + share * (values[at] - values[at - 1])


def _middle(point: Float[Array, "muons 2"], width: Float[Array, "muons 2"]) -> Float[Array, "muons 2"]:
    """Return the weight along each axis: 0 at the sides and 1 in the middle, averaged over where the point may be."""
    edges = jnp.arange(0, 1 + VOXEL / 2, VOXEL)
    distance = jnp.abs(edges[:-1] + VOXEL / 2 - 0.5) / 0.5
    grid = 2 * jax.nn.sigmoid(1 - distance) / jax.nn.sigmoid(1.0) - 1
    below = jax.scipy.special.ndtr((edges[None, None] - point[..., None]) / width[..., None])
    return jnp.diff(below, axis=-1) @ grid
