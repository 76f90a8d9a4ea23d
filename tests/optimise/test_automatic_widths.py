"""Widths that a configuration leaves out: the rule by hand for each operation, and what a run makes of them."""

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import rootfiles
from columnfiles import write_columns

from pipeline import config, optimise
from pipeline.cluster import InProcess
from pipeline.data import datasets
from pipeline.data.progress import checks
from pipeline.errors import ConfigError
from pipeline.gradient.work import prepare_work
from pipeline.optimise.automatic_widths import with_all_widths
from pipeline.optimise.parameters import initial_parameters

ROOT = Path(__file__).parent.parent.parent
EVENTS = 400

IMPORTS = "import jax\nimport jax.numpy as jnp"
OBSERVE = {
    "cut": "passes = relax.greater(c.x, p.cut)",
    "named": "passes = relax.less(c.x, 0.7, width='cut')",
    "window": "passes = relax.between(c.x, 0.1, p.cut)",
    "vmapped": "passes = jax.vmap(lambda x: relax.greater(x, p.cut, width='cut'))(c.x)",
    "jitted": "passes = jax.jit(lambda x: relax.greater(x, p.cut, width='cut'))(c.x)",
    "objects": "passes = relax.at_least(relax.greater(c.jet_x, p.cut, mask=c.jet), 1)",
    "kinds": "passes = relax.greater(c.jet.sum(axis=1), 1.5, width='cut')",
    "choice": "passes = relax.take(c.jet_x, relax.choose(c.jet_x, mask=c.jet, width='cut'))",
    "largest": "passes = relax.max(c.jet_x, mask=c.jet, width='cut')",
    "sorted": "passes = relax.sort(c.jet_x, mask=c.jet, width='cut')[:, 0]",
    "mixed": "passes = relax.mixture(jnp.stack([c.x, 1 - c.x], axis=-1), jnp.array([1.0, 2.0]), width='cut')",
    "constant": "passes = relax.greater(jnp.ones_like(c.x), p.cut)",
    "sentinels": "passes = relax.greater(jnp.where(c.x < 0.2, -999, c.x), p.cut)",
    "array": "passes = relax.greater(3 + 2 * c.x, p.cut * jnp.ones_like(c.x) + 3 + c.x, width='cut')",
    "rounded": "passes = relax.greater(jnp.floor(4 * c.x) / 10 + 1e-17 * c.x, 0.15, width='cut')",
    "mixed events": "either = jnp.stack([c.x, 1 - c.x], axis=1)\n"
    "passes = jax.vmap(lambda logits: relax.mixture(jnp.array([1.0, 0.0]), logits, width='cut'))(either)",
    "padded": "passes = relax.at_least(relax.greater(c.jet_x, p.cut), 1)",
    "trained": "passes = relax.greater(p.weights[0] * c.x, p.cut)",
}
COLUMNS = """
jet = pad(events.jets, 3)
return {"weight": events.w, "x": events.x, "jet": pad(events.jets > -1, 3), "jet_x": jet}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("widths")
    rootfiles.write_run(made, events=EVENTS)
    return made


def found(folder, how, tmp_path, *more, init="return {}"):
    """The width of `cut` of an analysis that observes in one way."""
    body = f'{OBSERVE[how]}\nreturn {{"all": Observation(weight=c.weight * passes)}}'
    target = rootfiles.write_analysis(
        folder, f"{how.replace(' ', '_')}.py", columns=COLUMNS, observe=body, head=IMPORTS
    )
    path = target.partition(":")[0]
    text = (
        Path(path)
        .read_text()
        .replace(
            "    def variations(self)",
            f"    def init(self, key):\n        {init}\n\n    def variations(self)",
        )
    )
    Path(path).write_text(text)
    run = config.load(
        folder / "tiny.yaml", [f"analysis.target={target}", "widths=auto", "data.held_out_fraction=0", *more]
    )
    work = prepare_work(run, write_columns(run, tmp_path), datasets.TRAIN)
    return with_all_widths(run, work, initial_parameters(run)).widths["cut"]


def values(branch):
    samples = [rootfiles.arrays(EVENTS, seed) for seed in (0, 1)]  # as many of each: none counts more
    return [sample[branch] for sample in samples]


def of_cut(above):
    """Of the distances above a threshold."""
    low, high = np.quantile(above, [0.15865, 0.84135], method="inverted_cdf")
    spread = (high - low) / 2
    near = np.quantile(abs(above), 0.05, method="inverted_cdf") / 7
    return max(spread / 4, near), spread * (2 * EVENTS) ** -0.25 / 2


@pytest.mark.parametrize("how", ["cut", "named", "window", "vmapped", "jitted"])
def test_a_cut_has_the_spread_and_the_number_of_the_events(folder, how, tmp_path):
    width = found(folder, how, tmp_path)
    assert (width.initial, width.final) == pytest.approx(of_cut(np.concatenate(values("x")) - 0.5), rel=1e-6)


def test_padded_objects_do_not_count(folder, tmp_path):
    width = found(folder, "objects", tmp_path)
    x = np.concatenate([ak.to_numpy(ak.flatten(jets)) for jets in values("jets")])
    assert width.final == pytest.approx(of_cut(x - 0.5)[1], rel=0.02)  # samples have not quite as many jets
    assert found(folder, "padded", tmp_path) == width


def test_a_start_far_from_the_events_is_reached(folder, tmp_path):
    far = found(folder, "cut", tmp_path, "parameters.cut=1.0")
    x = np.concatenate(values("x"))
    assert far.initial == pytest.approx(of_cut(x - 1.0)[0], rel=1e-6)
    steep = 1 / np.cosh(np.quantile(abs(x - 1.0), 0.05) / (2 * far.initial)) ** 2
    assert steep > 1e-3


def test_numbers_that_stand_for_none_do_not_count(folder, tmp_path):
    x = np.concatenate(values("x"))
    width = found(folder, "sentinels", tmp_path)
    assert width.final == pytest.approx(of_cut(x[x >= np.float32(0.2)] - 0.5)[1], rel=0.02)


def test_a_threshold_may_be_another_one_in_each_event(folder, tmp_path):
    width = found(folder, "array", tmp_path)
    assert (width.initial, width.final) == pytest.approx(of_cut(np.concatenate(values("x")) - 0.5), rel=1e-5)


def test_kinds_are_the_same_but_for_rounding(folder, tmp_path):
    width = found(folder, "rounded", tmp_path)
    assert (width.initial, width.final) == pytest.approx((0.05, 0.01))


def test_a_choice_in_each_event_is_one_of_events(folder, tmp_path):
    x = np.concatenate(values("x"))
    assert found(folder, "mixed events", tmp_path).initial == pytest.approx(
        np.median(abs(2 * x - 1)) / 4, rel=1e-6
    )


def test_what_is_not_trained_yet_has_no_spread(folder, tmp_path):
    with pytest.raises(
        ConfigError, match=r"'cut'.*made by free arrays, which are not trained yet; add widths\.cut"
    ):
        found(folder, "trained", tmp_path, init="return {'weights': jnp.full(1, 1e-3)}")


def test_few_events_are_no_kinds(tmp_path):
    rootfiles.write_run(tmp_path, events=12)
    (tmp_path / "columns").mkdir()
    width = found(tmp_path, "cut", tmp_path / "columns")
    assert 0.05 < width.final < 0.1


def test_whole_numbers_have_the_distance_between_them(folder, tmp_path):
    width = found(folder, "kinds", tmp_path)
    assert (width.initial, width.final) == (0.5, 0.1)


@pytest.mark.parametrize("how", ["choice", "largest", "sorted"])
def test_a_choice_has_the_distance_between_objects(folder, how, tmp_path):
    width = found(folder, how, tmp_path)
    gaps = [ak.to_numpy(ak.flatten(j[:, 1:] - j[:, :-1])) for jets in values("jets") for j in [ak.sort(jets)]]
    distance = np.median(np.concatenate(gaps))
    expected = (0.25 / distance, 0.05 / distance) if how == "sorted" else (0.25 * distance, 0.05 * distance)
    assert (width.initial, width.final) == pytest.approx(expected, rel=1e-6)


def test_logits_have_their_own_unit(folder, tmp_path):
    width = found(folder, "mixed", tmp_path)
    assert (width.initial, width.final) == (1.0, 0.1)


def test_what_no_event_shows_is_asked_for(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"asks for the width 'cut', .*add widths\.cut: \{initial"):
        found(folder, "constant", tmp_path)


def test_auto_removes_what_is_inherited(folder, tmp_path):
    (folder / "more.yaml").write_text("extends: tiny.yaml\nwidths: {cut: auto}\n")
    assert config.load(folder / "tiny.yaml").widths
    assert not config.load(folder / "more.yaml").widths
    assert not config.load(folder / "tiny.yaml", ["widths=auto"]).widths


@pytest.mark.parametrize("given", ["", ", bandwidth: auto", ", bandwidth: null"])
def test_bins_have_a_bandwidth(folder, given):
    run = config.load(folder / "tiny.yaml", [f"channels.all={{edges: [0, 1, 4]{given}}}"])
    found = run.channels["all"].bandwidth
    assert (found.initial, found.final, found.unit) == (0.3, 0.1, "bin")


def test_the_order_of_the_files_does_not_matter(folder, tmp_path):
    run = config.load(folder / "tiny.yaml", ["widths=auto"])
    columns = write_columns(run, tmp_path)
    widths = [
        with_all_widths(run, prepare_work(run, own, datasets.TRAIN), initial_parameters(run)).widths
        for own in (columns, columns[::-1])
    ]
    assert widths[0] == widths[1]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("start", [-1.0, 0.3, 1.0, 4.5])  # plateaus, and beyond most events
def test_a_plateau_is_no_trap(start, shared_data, tmp_path):
    run = config.load(ROOT / "config/single_top.yaml", ["widths=auto", f"parameters.btag={start}"])
    work = prepare_work(run, write_columns(run, tmp_path), datasets.TRAIN)
    first = initial_parameters(run)
    run = with_all_widths(run, work, first)
    state = optimise.initial_state(run, first)
    epochs = optimise.each_epoch(run, InProcess(), work, state, until=run.optimise.epochs)
    found = checks([record for _, record in epochs])
    assert max(check.objective for check in found.values()) >= 24.40
