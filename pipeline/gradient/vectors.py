"""Trees of arrays as one vector: what is summed, and what travels."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pipeline.containers import AnyArray


def vector_of(tree: Any) -> Float[Array, " entries"]:
    """Return all numbers of a tree, in float64."""
    return jnp.concatenate([jnp.ravel(array).astype(jnp.float64) for array in jax.tree.leaves(tree)])


def length(like: Any) -> int:
    """Return how many numbers a tree holds."""
    return sum(int(np.size(array)) for array in jax.tree.leaves(like))


def tree_of(vectors: Float[AnyArray, "*stack entries"], like: Any) -> Any:
    """Return the tree with the shapes of another one, and the vectors' further axes before them."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([int(np.size(leaf)) for leaf in leaves])[:-1]
    parts = np.split(np.asarray(vectors, dtype=np.float64), ends, axis=-1)
    shaped = [p.reshape((*p.shape[:-1], *np.shape(leaf))) for p, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, shaped)
