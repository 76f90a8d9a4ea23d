"""Toys on two workers are those of one process, to the last bit."""

import pytest
from workspaces import counting

from pipeline import cluster
from pipeline import config as configuration
from pipeline.cluster import InProcess
from pipeline.evaluate.robustness.toys import FinalModel, toys_of
from pipeline.gradient.work import Work

WORK = Work(*(None for _ in Work._fields))  # toys need none of its events


@pytest.mark.slow
@pytest.mark.long
def test_two_workers_make_the_same_toys(request, tmp_path):
    path = request.config.rootpath / "config" / "miniature.yaml"
    run = configuration.load(path, ["evaluate.toys=1100", "cluster.executor=local"])  # two blocks
    spec = counting(signal=8.0, background=30.0, observed=38.0)
    final = FinalModel("held_out", spec, None, None)
    alone = toys_of(run, InProcess(), WORK, final)
    with cluster.executor(run.cluster, 2, tmp_path) as two:
        assert two.workers == 2
        assert toys_of(run, two, WORK, final) == alone
