"""Cosmic muons through a ladle of molten steel, as TomOpt simulates them (G. Strong et al., arXiv:2309.14027).

A ladle of a cubic metre: walls and floor of steel a decimetre thick, liquid steel up to z = h, a decimetre of slag on
it, air. An event is a ladle with a thousand muons of 5 GeV; panels are no part of it, for they do not deflect.
"""

import math

import numpy as np

from pipeline.analyses.scattering import highland

HEIGHTS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)  # m
MUONS = 1000  # of each ladle
MOMENTUM = 5.0  # GeV
STEEL, LIQUID, SLAG = 0.01782, 0.01991, 0.08211  # radiation lengths [m]
WALL = 0.1  # m, of walls, floor and slag
BOTTOM, TOP, ROOF = 0.4, 1.4, 1.8  # m: of the ladle, and of everything
STEP = 0.01  # m, of the scattering along the track
PANELS = 8  # that may measure a muon
LINES = tuple(f"{where}_{name}" for where in ("above", "below") for name in "xyuv")
NOISE = tuple(f"noise_{axis}{panel}" for panel in range(PANELS) for axis in "xy")


def thickness(position: np.ndarray, height: np.ndarray | float) -> np.ndarray:
    """Return radiation lengths per metre at points [3, muons] of ladles filled to ``height``."""
    x, y, z = position
    inside = (x >= 0) & (x < 1) & (y >= 0) & (y < 1)
    wall = (x < WALL) | (x >= 1 - WALL) | (y < WALL) | (y >= 1 - WALL) | (z <= BOTTOM + WALL)
    content = np.where(z <= height, 1 / LIQUID, np.where(z <= height + WALL, 1 / SLAG, 0.0))
    return np.where(inside, np.where(wall, 1 / STEEL, content), 0.0)


def zenith_angles(number: int, rng: np.random.Generator) -> np.ndarray:
    """Return angles [rad] up to 70 degrees, of muons of 0.5 to 500 GeV through a horizontal plane.

    M. Guan et al., arXiv:1509.06176: Gaisser's formula with an effective angle.
    """
    theta = (np.arange(200) + 0.5) * math.radians(70.0) / 200
    energy = np.linspace(0.5, 500.0, 5000)[:, None]
    cosine = np.cos(theta)
    first, second, third, fourth, fifth = 0.102573, -0.068287, 0.958633, 0.0407253, 0.817285
    effective = np.sqrt(
        (cosine**2 + first**2 + second * cosine**third + fourth * cosine**fifth)
        / (1 + first**2 + second + fourth)
    )
    power = (energy * (1 + 3.64 / (energy * effective**1.29))) ** -2.7
    decays = 1 / (1 + 1.1 * energy * effective / 115) + 0.054 / (1 + 1.1 * energy * effective / 850)
    density = (power * decays).sum(axis=0) * cosine * np.sin(theta)
    bins = rng.choice(len(theta), size=number, p=density / density.sum())
    return theta[bins]


def arriving(number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return position and direction of muons that would reach the ladle without scattering.

    Both are [3, muons]: the position at the roof, and a unit vector.
    """
    margin = math.tan(math.pi / 12) * (ROOF - BOTTOM + WALL)
    positions, directions = np.empty((3, 0)), np.empty((3, 0))
    while positions.shape[1] < number:
        theta, phi = zenith_angles(number, rng), rng.uniform(0, 2 * np.pi, number)
        direction = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), -np.cos(theta)])
        x, y = rng.uniform(-margin, 1 + margin, (2, number))
        position = np.stack([x, y, np.full(number, ROOF)])
        meets = np.zeros(number, dtype=bool)
        for z in np.arange(TOP, BOTTOM, -WALL):
            at = position + direction * (z - ROOF) / direction[2]
            meets |= np.all((at[:2] >= 0) & (at[:2] < 1), axis=0)
        positions = np.concatenate([positions, position[:, meets]], axis=1)
        directions = np.concatenate([directions, direction[:, meets]], axis=1)
    return positions[:, :number], directions[:, :number]


def scattered(
    position: np.ndarray, direction: np.ndarray, height: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return position and direction at the bottom of muons that enter the ladle at its top.

    They scatter by Highland's formula, in steps.
    """
    position, direction = position.copy(), direction.copy()
    while np.any(moving := position[2] > BOTTOM + 1e-9):
        here, along = position[:, moving], direction[:, moving]
        length = np.minimum(STEP, (here[2] - BOTTOM) / -along[2])
        width = highland(length * thickness(here, height[moving]), MOMENTUM)
        kicks = rng.standard_normal((2, 2, length.size))
        across = _across(along)
        shift = length * width * (kicks[0] / math.sqrt(12) + kicks[1] / 2)
        turned = along + np.einsum("kcm,km->cm", across, width * kicks[1])
        position[:, moving] = here + along * length + np.einsum("kcm,km->cm", across, shift)
        direction[:, moving] = turned / np.linalg.norm(turned, axis=0)
    return position + direction * (BOTTOM - position[2]) / direction[2], direction


def _across(along: np.ndarray) -> np.ndarray:
    """Return two unit vectors [2, 3, muons] at right angles to each other and to unit vectors that are not along x."""
    first = np.stack([np.zeros_like(along[0]), -along[2], along[1]]) / np.hypot(along[1], along[2])
    return np.stack([first, np.cross(along, first, axis=0)])


def ladles(sample: str, number: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return ladles of all heights in turn, with their muons.

    Of each muon there are its line above and below the ladle, and the random numbers of its measurements.
    """
    del sample
    which = np.arange(number) % len(HEIGHTS)
    height = np.repeat(np.asarray(HEIGHTS)[which], MUONS)
    start, direction = arriving(number * MUONS, rng)
    entry = start + direction * (TOP - ROOF) / direction[2]
    leaving, after = scattered(entry, direction, height, rng)
    noise = rng.standard_normal((2 * PANELS, number * MUONS))
    branches = {
        **_line("above", entry, direction),
        **_line("below", leaving, after),
        **{f"noise_{'xy'[i % 2]}{i // 2}": noise[i] for i in range(2 * PANELS)},
    }
    rows = {name: array.astype(np.float32).reshape(number, MUONS) for name, array in branches.items()}
    return {"which": which.astype(np.int64), **rows}


def _line(where: str, position: np.ndarray, direction: np.ndarray) -> dict[str, np.ndarray]:
    slopes = direction[:2] / direction[2]
    return {f"{where}_{name}": array for name, array in zip("xyuv", (*position[:2], *slopes), strict=True)}
