"""The epoch that is kept, patience, several starts, and cuts on a plateau."""

import numpy as np
import pytest
from columnfiles import write_columns
from hypothesis import given
from hypothesis import strategies as st
from messages import heard
from rootfiles import write, write_analysis, write_run

from pipeline import config, optimise
from pipeline.cluster import InProcess
from pipeline.data import datasets, progress, store
from pipeline.data.record import Check
from pipeline.errors import ConfigError, InputError
from pipeline.gradient.loss import judge
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.optimise import kept
from pipeline.optimise.parameters import edges_at, initial_parameters, start_parameters
from pipeline.optimise.plateaus import plateaus
from pipeline.templates.fill import EXACT

ONLY_SOFT = """
import jax.numpy as jnp
from pipeline.relax import Exact
c = c.replace(weight=c.weight * (jnp.nan if isinstance(relax, Exact) else 1.0))
"""
NOTHING_ABOVE = """
import jax.numpy as jnp
c = c.replace(weight=c.weight * jnp.where(p.cut > 0.6, jnp.nan, 1.0))
"""
TWO = [
    "optimise.seed=2",
    "parameters.cut=0.3",
    "widths.cut={initial: 0.04, final: 0.02}",
    "optimise.learning_rate=0.03",
]
TWO += ["optimise.epochs=8", "optimise.check_every=2"]
STUCK = ["optimise.learning_rate=1e-9", "optimise.check_every=1", "optimise.patience=2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Configurations and work of tiny runs: the signal is in two narrow places, and nothing is in a gap."""
    folder = tmp_path_factory.mktemp("tiny")
    path = write_run(folder, optimise={"epochs": 7, "epochs_per_job": 7, "learning_rate": 0.08}, events=400)
    rng = np.random.default_rng(3)
    twice = np.concatenate([rng.uniform(0.35, 0.45, 130), rng.uniform(0.9, 1.0, 270)]).astype(np.float32)
    write(folder / "signal.root", events=400, x=twice)
    with_gap = np.concatenate([rng.uniform(0, 0.6, 200), rng.uniform(0.7, 1, 200)]).astype(np.float32)
    write(folder / "background.root", events=400, x=with_gap)
    targets = {
        "only_soft": write_analysis(folder, "only_soft.py", observe=ONLY_SOFT),
        "nothing_above": write_analysis(folder, "nothing_above.py", observe=NOTHING_ABOVE),
    }
    columns = {}

    def make(*overrides, analysis=None):
        more = [f"analysis.target={targets[analysis]}"] if analysis else []
        found = config.load(path, [*overrides, *more])
        if analysis not in columns:
            columns[analysis] = write_columns(found, folder / f"columns_{analysis}")
        return found, prepare_work(found, columns[analysis], datasets.TRAIN)

    return make


def run(found, work, folder, until=None, state=None):
    state = state or optimise.initial_state(found, initial_parameters(found))
    return optimise.run(
        found, InProcess(), work, state, until=until or found.optimise.all_epochs, checkpoints=folder, fingerprint="",
        progress=lambda record: None,
    )  # fmt: skip


def exact_objective(found, work, parameters):
    return judge(found, work.axes)(forward(InProcess(), work, parameters, EXACT), parameters).objective


def noted(records):
    """What is in records, but for the time that it took."""
    return [(r.epoch, r.start, r.begun, r.objective, r.parameters, r.check, r.last_check) for r in records]


def bits(state):
    best = (int(state.best.start), int(state.best.epoch), float(state.best.minimised), int(state.best.since))
    return (state.epoch, int(state.start), int(state.begun), best, state.result["cut"].tobytes())


def test_a_run_that_only_gets_worse_keeps_the_start(made, tmp_path):
    """Cuts so soft that the relaxed objective draws the cut away from where the exact one is best."""
    found, work = made()
    cuts = np.linspace(0.02, 0.98, 97)
    best = max(cuts, key=lambda cut: exact_objective(found, work, {"cut": np.float64(cut)}))
    soft = [f"parameters.cut={best}", "widths.cut={initial: 3, final: 3}", "optimise.check_every=1"]
    found, work = made(*soft, "optimise.learning_rate=0.02")
    state, records = run(found, work, tmp_path)
    assert abs(state.parameters["cut"] - best) > 0.02
    assert state.result["cut"] == best
    assert progress.kept(records) == (0, 0, 0)


def test_checks_do_not_change_the_way(made, tmp_path):
    states = [
        run(*made(f"optimise.check_every={n}"), tmp_path / str(n))[0].parameters["cut"]
        for n in ("1", "100", "null")
    ]
    assert len({state.tobytes() for state in states}) == 1


def test_without_an_exact_objective_the_last_epoch_is_kept(made, tmp_path):
    found, work = made("optimise.patience=1", "optimise.starts=2", analysis="only_soft")
    with heard() as lines:
        state, records = run(found, work, tmp_path)
    assert (state.epoch, progress.kept(records)) == (
        7,
        (0, 7, 0),
    )  # nothing to be patient with, or to compare
    assert state.result["cut"] == state.parameters["cut"] != 0.5
    assert any("no exact objective on training events: " in line and "not finite" in line for line in lines)
    assert [start.best for start in progress.reached(found.optimise, records)] == [None]
    assert progress.is_whole(found.optimise, records, 7)


def test_patience_ends_a_run_and_what_comes_later_does_nothing(made, tmp_path):
    found, work = made(*STUCK)
    with heard() as lines:
        state, records = run(found, work, tmp_path / "whole")
    assert [r.epoch for r in records] == [0, 1, 2]  # the start, and two checks that are no better
    assert any(
        "start 0 ends after 3 epochs by optimise.patience: 2 checks in a row" in line for line in lines
    )
    assert progress.is_whole(found.optimise, records, 3)
    assert not progress.is_whole(found.optimise, records[:2], 2)
    again, none = run(found, work, tmp_path / "later", state=state)
    assert none == []
    assert bits(again) == bits(state)
    optimise.save(tmp_path / "block_1.npz", state, "", records, 1)
    loaded, stored = optimise.load(tmp_path / "block_1.npz", found, initial_parameters(found), "", 1)
    assert bits(loaded) == bits(state)
    assert stored == records


def test_a_run_that_improves_is_not_ended(made, tmp_path):
    found, work = made("optimise.patience=1", *TWO, "parameters.cut=0.1")
    _, records = run(found, work, tmp_path)
    values = [check.minimised for check in progress.checks(records).values()]
    assert len(values) > 2
    assert values[1] < values[0]


def test_an_unfinished_block_is_refused(made, tmp_path):
    found, work = made(*STUCK)
    state, records = run(found, work, tmp_path / "a", until=2)
    optimise.save(tmp_path / "block_1.npz", state, "", records, 1)
    with pytest.raises(InputError, match="holds epoch 2, not 7"):
        optimise.load(tmp_path / "block_1.npz", found, initial_parameters(found), "", 1)


@pytest.mark.parametrize("job", [3, 8])
def test_starts_and_patience_are_the_same_after_a_kill_and_over_blocks(made, tmp_path, job):
    settings = ["optimise.starts=3", "optimise.patience=2", "optimise.check_every=1"]
    found, work = made(*TWO, *settings, f"optimise.epochs_per_job={job}")
    whole, records = run(found, work, tmp_path / "whole")
    assert {r.start for r in records} == {0, 1, 2}
    run(found, work, tmp_path / "killed", until=job)
    killed, again = run(found, work, tmp_path / "killed")
    assert bits(killed) == bits(whole)
    assert noted(again) == noted(records)
    state, every = None, []
    for block in range(1, found.optimise.jobs + 1):
        until = min(block * job, found.optimise.all_epochs)
        state, own = run(found, work, tmp_path / f"block_{block}", until=until, state=state)
        path = tmp_path / f"block_{block}.npz"
        optimise.save(path, state, "", own, block)
        state, stored = optimise.load(path, found, initial_parameters(found), "", block)
        every += stored
    assert bits(state) == bits(whole)
    assert noted(every) == noted(records)
    assert progress.is_whole(found.optimise, every, store.read_state(path)[1]["epoch"])


def test_several_starts_find_the_better_of_two_optima_and_one_does_not(made, tmp_path):
    one, work = made(*TWO)
    alone, first = run(one, work, tmp_path / "one")
    assert alone.result["cut"] < 0.5
    found, work = made(*TWO, "optimise.starts=4")
    state, records = run(found, work, tmp_path / "four")
    assert noted(records[:8]) == noted(first)
    assert 0.8 < state.result["cut"] < 1
    assert exact_objective(found, work, state.result) > 1.1 * exact_objective(one, work, alone.result)
    reached = progress.reached(found.optimise, records)
    moment = progress.kept(records)
    assert (int(state.best.start), int(state.best.epoch)) == moment[:2]
    assert moment.start > 0
    assert reached[moment.start].best == max(start.best for start in reached)  # a significance
    assert reached[moment.start].best == exact_objective(found, work, state.result)
    assert [(start.epochs, start.ended) for start in reached] == [(8, "all_epochs")] * 4
    for number, start in enumerate(reached):
        begin = start_parameters(found, number)
        assert start.initial == exact_objective(found, work, begin)
        assert records[8 * number].parameters["cut"] == begin["cut"]


def test_each_start_is_a_run_of_its_own(made, tmp_path):
    """Fresh widths, steps and memory of the optimiser."""
    found, work = made(*TWO, "optimise.starts=2")
    _, records = run(found, work, tmp_path / "two")
    begin = start_parameters(found, 1)["cut"]
    other, _ = made(*TWO, f"parameters.cut={float(begin)!r}")
    _, alone = run(other, work, tmp_path / "one")
    assert [r.objective for r in records[8:]] == [r.objective for r in alone]
    assert [r.parameters for r in records[8:]] == [r.parameters for r in alone]


def test_a_start_without_an_objective_is_left_and_the_next_one_begins(made, tmp_path):
    settings = [*TWO, "optimise.starts=4", "optimise.epochs=4"]
    found, work = made(*settings, analysis="nothing_above")
    begins = [float(start_parameters(found, n)["cut"]) for n in range(4)]
    with heard() as lines:
        state, records = run(found, work, tmp_path / "whole")
    reached = progress.reached(found.optimise, records)
    dead = [n for n, cut in enumerate(begins) if cut > 0.6]
    assert 0 < len(dead) < 3
    assert [n for n, start in enumerate(reached) if start.epochs == 0] == dead
    assert all(reached[n].ended == "no_objective" and reached[n].best is None for n in dead)
    assert sum("ends: epoch" in line for line in lines) >= len(dead)
    assert progress.is_whole(found.optimise, records, state.epoch)
    run(found, work, tmp_path / "killed", until=4)
    killed, again = run(found, work, tmp_path / "killed")
    assert bits(killed) == bits(state)
    assert noted(again) == noted(records)


def test_drawn_starts_are_inside_the_bounds_and_of_the_seed(made, request):
    found, _ = made()
    cuts = [float(start_parameters(found, n)["cut"]) for n in range(20)]
    assert cuts[0] == 0.5
    assert cuts == [float(start_parameters(found, n)["cut"]) for n in range(20)]
    assert len(set(cuts)) == 20
    assert all(0 <= cut <= 1 for cut in cuts)
    assert np.ptp(cuts) > 0.5
    other, _ = made("optimise.seed=3")
    assert not set(cuts[1:]) & {float(start_parameters(other, n)["cut"]) for n in range(20)}
    folder = request.config.rootpath / "config"
    edges = config.load(folder / "bin_edges.yaml")
    drawn = [edges_at(edges, start_parameters(edges, n)) for n in range(3)]
    for channel, first in drawn[0].items():
        assert first != drawn[1][channel] != drawn[2][channel]
        assert all(np.all(np.diff(own[channel]) > 0) for own in drawn)
        assert all((own[channel][0], own[channel][-1]) == (first[0], first[-1]) for own in drawn)
    network = config.load(folder / "inferno.yaml")
    first, second = (start_parameters(network, n) for n in (0, 1))
    assert {n: a.shape for n, a in first.items()} == {n: a.shape for n, a in second.items()}
    assert any(not np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("key", ["patience", "starts"])
def test_what_needs_checks_says_so(made, key):
    with pytest.raises(
        ConfigError, match=rf"{key}: 3 needs checks of the exact objective, and check_every is null"
    ):
        made(f"optimise.{key}=3", "optimise.check_every=null")


@given(
    st.lists(
        st.lists(st.one_of(st.none(), st.integers(-3, 3)), min_size=1, max_size=6), min_size=1, max_size=3
    )
)
def test_the_best_is_the_first_smallest_of_all_starts(made, starts):
    """The state beside what a list of all checks says."""
    best = kept.unchecked(made()[0], {"cut": np.float64(-1)})
    for start, values in enumerate(starts):
        best = kept.at_next_start(best) if start else best
        for epoch, value in enumerate(values):
            found = None if value is None else Check(objective=-value, minimised=value)
            best = kept.better(best, start, epoch, found, {"cut": np.float64(10 * start + epoch)})
        own = [value for value in values if value is not None]
        assert best.since == (len(own) - 1 - own.index(min(own)) if own else 0)
    every = [
        (value, start, epoch)
        for start, own in enumerate(starts)
        for epoch, value in enumerate(own)
        if value is not None
    ]
    assert best.is_there == bool(every)
    if every:
        value, start, epoch = min(every)
        assert (best.minimised, best.start, best.epoch) == (value, start, epoch)
        assert best.parameters["cut"] == 10 * start + epoch


def test_a_cut_in_a_gap_is_on_a_plateau_and_one_among_events_is_not(made):
    """The gap is 0.6 to 0.7, in the x of all samples; the variation x_up moves it to 0.66 to 0.77."""

    def of(cut, width, **more):
        found, work = made(f"widths.cut={{initial: 1, final: {width}}}")
        at = {"cut": np.float64(cut)}
        exact = forward(InProcess(), work, at, EXACT)
        return plateaus(found, InProcess(), work, at, progress.Moment(0, more.get("epoch", 7), 0), exact)

    (told,) = of(0.68, 0.005)
    assert (told.parameter, told.value) == ("cut", 0.68)
    assert told.width == pytest.approx(0.005)
    assert of(0.68, 0.05) == ()
    assert of(0.68, 0.005, epoch=0) == ()  # the width of the epoch that is kept counts
    assert of(0.3, 0.005) == ()
    assert of(0.61, 0.005) == ()  # only one side is empty
    assert of(0.0, 0.005) == ()  # at its bound, with events above
