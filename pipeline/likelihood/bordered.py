"""A Hessian with a block for each bin, of the gammas that act there, and a dense rest: solved without the blocks.

``H = [[K, L], [L^T, G]]``, G the gammas' own part, of one small block for each bin. A fit needs only the Schur
complement ``K - L G^-1 L^T``, of the size of the parameters that are not gammas. L is never stored: in bin b it is
``V_b T_b``, V the slopes of the yields, which the Hessian needs anyway (Golub, Van Loan, Matrix Computations, 4th ed.,
section 4.2.3; in fits of templates: Conway, arXiv:1103.0354).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, Bool, Float, Int


class Bordered(eqx.Module):
    """The Hessian of ``-ln L`` over the free parameters.

    ``reduced`` is the Schur complement, ``jacobians`` (V) the slopes of the yields that all, and that each layer of,
    gammas multiply, ``links`` (T) how a gamma joins them, ``inverse`` that of the gammas' blocks, 0 for a held one.
    ``expected`` are the weights of the bins in the reduced matrix without second derivatives of yields; ``constraint``
    and ``own``, the curvature of constraint terms and of yields in one parameter, are the rest of its diagonal.
    ``pulls`` are the slopes of the yields in the gammas.
    """

    reduced: Float[Array, "kept kept"]
    jacobians: Float[Array, "patterns kept bins"]
    links: Float[Array, "layers patterns bins"]
    inverse: Float[Array, "layers layers bins"]
    expected: Float[Array, " bins"]
    constraint: Float[Array, " kept"]
    own: Float[Array, " kept"]
    pulls: Float[Array, "layers bins"]
    kept: Int[Array, " kept"]
    gamma: Int[Array, "layers bins"]
    free: Bool[Array, " params"]

    def factor(self, damping: Float[Array, ""] | float = 0.0) -> "Factor":
        """Return the factor of the Schur complement, ``damping`` times its diagonal added."""
        return factored(self.reduced, self.free[self.kept], damping)

    def solve(
        self, vector: Float[Array, " params"], factor: "Factor | None" = None
    ) -> Float[Array, " params"]:
        """Return ``H^-1 v`` over the free parameters, 0 for the others; NaN where H is not positive definite."""
        own, inner = self._inner(vector)
        right = vector[self.kept] - jnp.einsum("pnb,pb->n", self.jacobians, inner)
        kept = (self.factor() if factor is None else factor).solve(right)
        along = jnp.einsum("pnb,n->pb", self.jacobians, kept)
        gammas = own - jnp.einsum("klb,lpb,pb->kb", self.inverse, self.links, along)
        return self.joined(kept, gammas)

    def scored(self, vector: Float[Array, " params"], damping: Float[Array, ""]) -> Float[Array, " params"]:
        """Return ``M^-1 v`` with M the expected matrix, never indefinite; 0 for the gammas."""
        matrix = square(self.jacobians[0], self.expected) + jnp.diag(
            self.constraint + jnp.maximum(self.own, 0.0)
        )
        kept = factored(matrix, self.free[self.kept], damping).solve(vector[self.kept])
        return self.joined(
            kept, jnp.zeros_like(self.inverse[0] if self.inverse.size else self.gamma, dtype=kept.dtype)
        )

    def _inner(
        self, vector: Float[Array, " params"]
    ) -> tuple[Float[Array, "layers bins"], Float[Array, "patterns bins"]]:
        of_gammas = jnp.concatenate([vector, jnp.zeros(1, dtype=vector.dtype)])[self.gamma]
        own = jnp.einsum("klb,lb->kb", self.inverse, of_gammas)
        return own, jnp.einsum("kpb,kb->pb", self.links, own)

    def joined(
        self, kept: Float[Array, " kept"], gammas: Float[Array, "layers bins"]
    ) -> Float[Array, " params"]:
        """Return a vector of all parameters from its two parts."""
        none = jnp.zeros(self.free.shape, dtype=kept.dtype)
        return none.at[self.kept].set(kept).at[self.gamma].set(gammas, mode="drop")


def square(
    rows: Float[Array, "rows columns"], weights: Float[Array, " columns"]
) -> Float[Array, "rows rows"]:
    """Return ``A w A^T``, of large matrices the half below the diagonal and a little more: in blocks, twice halved."""
    size = rows.shape[0]
    if size < SMALL:
        return (rows * weights[None]) @ rows.T
    return _lower(rows, rows * weights[None], 2)


SMALL = 256  # rows below which one product is as fast as its blocks


def _lower(rows: Float[Array, "n b"], weighted: Float[Array, "n b"], depth: int) -> Float[Array, "n n"]:
    if depth == 0:
        return weighted @ rows.T
    half = rows.shape[0] // 2
    below = weighted[half:] @ rows[:half].T
    upper = jnp.concatenate([_lower(rows[:half], weighted[:half], depth - 1), below.T], axis=1)
    lower = jnp.concatenate([below, _lower(rows[half:], weighted[half:], depth - 1)], axis=1)
    return jnp.concatenate([upper, lower])


class Factor(eqx.Module):
    """A Cholesky factor over the free parameters of a matrix scaled to a unit diagonal.

    So parameters of very different uncertainty do not spoil its condition. NaN where the matrix is not positive
    definite: the caller's test for a minimum.
    """

    lower: Float[Array, "params params"]
    scale: Float[Array, " params"]

    def solve(self, vector: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
        """Return the inverse times a vector, 0 for what is not free."""
        return self.scale * cho_solve((self.lower, True), self.scale * vector)

    def inverse(self) -> Float[Array, "params params"]:
        """Return the inverse of the matrix, 0 for what is not free."""
        return self.scale[:, None] * cho_solve((self.lower, True), jnp.diag(self.scale))

    @property
    def least(self) -> Float[Array, ""]:
        """The smallest part of a parameter's information that no others share: 0 for a flat direction, or NaN."""
        return jnp.min(jnp.diagonal(self.lower), initial=1.0) ** 2


def factored(
    matrix: Float[Array, "params params"],
    free: Bool[Array, " params"],
    damping: Float[Array, ""] | float = 0.0,
) -> Factor:
    """Return ``M + damping diag |M|`` factored over the free parameters."""
    scaled, scale = scaled_to_one(matrix, free, damping)
    return Factor(jnp.linalg.cholesky(scaled, symmetrize_input=False), scale)


def inverse_free(
    matrix: Float[Array, "params params"], free: Bool[Array, " params"]
) -> Float[Array, "params params"]:
    """Return inverse over the free parameters, zero for the others; NaN where it is not positive definite."""
    return factored(matrix, free).inverse()


def inverse_blocks(
    blocks: Float[Array, "size size bins"], free: Bool[Array, "size bins"]
) -> Float[Array, "size size bins"]:
    """Return the inverse of each bin's block over its free rows, 0 for the others.

    NaN where a block is not positive definite.
    """
    if blocks.shape[0] == 1:
        inverse = 1.0 / jnp.where(blocks > 0, blocks, jnp.nan)
        return jnp.where(free[None], inverse, 0.0)
    if blocks.shape[0] == 0:
        return blocks
    found = jax.vmap(inverse_free)(jnp.moveaxis(blocks, -1, 0), free.T)
    return jnp.moveaxis(found, 0, -1)


def scaled_to_one(
    matrix: Float[Array, "params params"], free: Bool[Array, " params"], damping: Float[Array, ""] | float
) -> tuple[Float[Array, "params params"], Float[Array, " params"]]:
    """Return the matrix scaled to a unit diagonal, and the scale.

    ``damping`` is added to the diagonal of the free parameters; for the others the diagonal is 1 and the
    scale 0.
    """
    diagonal = jnp.abs(jnp.diagonal(matrix))
    usable = diagonal > 0
    scale = jnp.where(usable, 1.0 / jnp.sqrt(jnp.where(usable, diagonal, 1.0)), 1.0)
    scale = jnp.where(free, scale, 0.0)
    identity = jnp.eye(free.size, dtype=matrix.dtype)
    held = jnp.where(free, damping, 1.0)
    return matrix * scale[:, None] * scale[None, :] + held[:, None] * identity, scale
