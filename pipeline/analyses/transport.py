"""A charged particle in a magnetic field: Runge-Kutta steps, and where the particle meets a cylinder; differentiable.

A state is a position [3] in m, a unit direction [3] and charge over momentum in 1/GeV. The step is the classical one
of fourth order; acts' Runge-Kutta-Nystroem step is the same to its order (ACTS, arXiv:2106.13593).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

TURNING = 0.299792458  # GeV / (T m): curvature of a unit charge of a GeV in a tesla
Field = Callable[[Float[Array, "3"]], Float[Array, "3"]]


class TrackState(NamedTuple):
    """Where a particle is and goes."""

    position: Float[Array, "3"]
    direction: Float[Array, "3"]
    charge_over_momentum: Float[Array, ""]


def advance(state: TrackState, length: Float[Array, ""], field: Field) -> TrackState:
    """Return the state behind a step of some length [m] along the path, in a field [T]."""

    def slope(position: Float[Array, "3"], direction: Float[Array, "3"]) -> tuple[Array, Array]:
        bend = TURNING * state.charge_over_momentum * jnp.cross(direction, field(position))
        return direction, bend

    position, direction = state.position, state.direction
    at, turned = slope(position, direction)
    slopes = [(at, turned)]
    for share in (0.5, 0.5, 1.0):
        reach = share * length
        slopes.append(slope(position + reach * slopes[-1][0], direction + reach * slopes[-1][1]))
    weights = (1 / 6, 1 / 3, 1 / 3, 1 / 6)
    moved = position + length * sum(w * dx for w, (dx, _) in zip(weights, slopes, strict=True))
    along = direction + length * sum(w * dt for w, (_, dt) in zip(weights, slopes, strict=True))
    return TrackState(moved, along / jnp.sqrt(jnp.sum(along**2)), state.charge_over_momentum)


def to_cylinder(
    state: TrackState, radius: Float[Array, ""], field: Field, *, iterations: int = 5
) -> TrackState:
    """Return the state where the particle leaves the cylinder of a radius [m] around z, one step away; Newton's method.

    Of a particle that turns back before, nothing sensible. The root is found without derivatives; two more iterations
    from there carry them, and are right to third order, for each doubles the order of what is known.
    """

    def closer(length: Float[Array, ""], start: TrackState, size: Float[Array, ""]) -> Float[Array, ""]:
        there = advance(start, length, field)
        outside = jnp.sum(there.position[:2] ** 2) - size**2
        return length - outside / (2 * jnp.sum(there.position[:2] * there.direction[:2]))

    known, size = jax.lax.stop_gradient((state, radius))
    guess = size - jnp.sqrt(jnp.sum(known.position[:2] ** 2))
    length = jax.lax.fori_loop(0, iterations, lambda _, s: closer(s, known, size), guess)
    for _ in range(2):
        length = closer(length, state, radius)
    return advance(state, length, field)


def turned(state: TrackState, angle: Float[Array, ""]) -> TrackState:
    """Return the state with its direction turned around z by an angle [rad]."""
    x, y, z = state.direction
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    direction = jnp.stack([cosine * x - sine * y, sine * x + cosine * y, z])
    return TrackState(state.position, direction, state.charge_over_momentum)
