"""Every loss is least at the true ratio and score: exactly, for a simulator with few ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.objective.likelihood_ratio import ESTIMATORS, Estimated, Known, estimator_of, ratio_loss

WAYS, ENDS = 12, 4
X = np.arange(WAYS) % ENDS  # where each way ends
ALPHA = 0.3


@pytest.fixture(scope="module")
def truth():
    """Way by way and end by end: probabilities at both thetas, log ratio, scores; a family of exponentials."""
    rng = np.random.default_rng(3)
    slope, shift = rng.normal(size=(2, WAYS))

    found = {"ways": [], "ends": []}
    for theta in (0.7, -0.4):
        weight = np.exp(theta * slope + shift)
        ways = weight / weight.sum()
        of_ways = ways * (slope - ways @ slope)  # derivatives by theta
        for name, fold in {"ways": lambda a: a, "ends": lambda a: np.bincount(X, a)}.items():
            found[name].append((fold(ways), fold(of_ways) / fold(ways)))
    return {
        name: (p0, p1, np.log(p0 / p1), score_0, score_1)
        for name, ((p0, score_0), (p1, score_1)) in found.items()
    }


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_loss_is_least_at_the_truth(truth, name):
    estimator = estimator_of(name)
    p0, p1, log_ratio, score_0, score_1 = truth["ways"]
    of_score = estimator.ratio is None
    both = Known(
        label=jnp.repeat(jnp.asarray([0.0, 1.0]), WAYS),
        log_ratio=jnp.concatenate([log_ratio, log_ratio]) if "log_ratio" in estimator.gold else None,
        score=jnp.concatenate([score_0, score_1]) if "score" in estimator.gold else None,
    )

    @jax.jit
    @jax.vmap
    @jax.value_and_grad
    def expected(at):
        per_end = Estimated(*(jnp.concatenate([array[X], array[X]]) for array in at))
        return jnp.sum(jnp.concatenate([p0, p1]) * ratio_loss(estimator, per_end, both, ALPHA))

    _, _, ratio, at_0, at_1 = truth["ends"]
    right = np.stack([ratio, at_1 if of_score else at_0])
    moves = np.concatenate([np.zeros((1, 2 * ENDS)), 0.4 * np.eye(2 * ENDS), -0.4 * np.eye(2 * ENDS)])
    losses, slopes = expected(right + moves.reshape(-1, 2, ENDS))
    np.testing.assert_allclose(slopes[0], 0.0, atol=1e-12)
    of_ratio = np.tile(np.arange(2 * ENDS) < ENDS, 2)
    np.testing.assert_array_equal(losses[1:][of_ratio] > losses[0] + 1e-9, not of_score)
    np.testing.assert_array_equal(losses[1:][~of_ratio] > losses[0] + 1e-9, estimator.with_score)


def test_an_unknown_estimator_is_named():
    with pytest.raises(ConfigError, match=r"estimator 'rascall' is none; nearest: 'rascal'"):
        estimator_of("rascall")
