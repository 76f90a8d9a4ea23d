"""What every gradient must pass: over chunks it is that of the whole."""

import numpy as np

from pipeline.cluster import InProcess
from pipeline.data import datasets
from pipeline.gradient.loss import centre
from pipeline.gradient.sweeps import value_and_grad
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at


def assert_chunks_are_the_whole(run, files, *, small=32, large=1024, surrogate=None):
    """Objective and gradient at the start, in float64, from chunks of few and of many events."""
    smooth = widths_at(run, 0)
    smooth = type(smooth)(smooth.operations, smooth.bandwidths, surrogate)
    found = []
    for events in (small, large):
        changed = {"precision": "float64", "chunk_events": events, "group_events": events}
        settings = run.model_copy(update={"cluster": run.cluster.model_copy(update=changed)})
        work = prepare_work(settings, files, datasets.TRAIN)
        at_the_centre = centre(settings, work.axes)
        start = initial_parameters(settings)
        found.append(value_and_grad(InProcess(), work, start, smooth, at_the_centre))
    chunked, whole = found
    np.testing.assert_allclose(chunked.objective, whole.objective, rtol=1e-10)
    largest = max(np.abs(g).max() for g in whole.gradient.values())
    for name, gradient in whole.gradient.items():
        np.testing.assert_allclose(
            chunked.gradient[name], gradient, rtol=0, atol=1e-10 * largest, err_msg=name
        )
    assert largest > 0
