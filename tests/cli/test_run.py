"""A run from Python: its files are those of the command line, its errors are sentences, and it goes on where it was."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import awkward as ak
import numpy as np
import pytest
import rootfiles
from window import Window

import pipeline
from pipeline import LivePlot, Run, value_and_grad
from pipeline.config import targets
from pipeline.errors import ConfigError, RunError

ROOT = Path(pipeline.__file__).parents[1]


SETTINGS = {
    "run": "window",
    "data": {
        "luminosity_per_pb": 1,
        "samples": {"signal": {"cross_section_pb": 50}, "background": {"cross_section_pb": 1000}},
    },
    "channels": {"all": {"edges": [0, 0.5, 0.8, 1], "bandwidth": {"initial": 0.05, "final": 0.02}}},
    "widths": {"cut": {"initial": 0.1, "final": 0.05}},
    "model": {"poi": "mu", "normfactors": [{"name": "mu", "samples": ["signal"]}]},
    "objective": {"kind": "asimov_significance"},
    "optimise": {"epochs": 4, "epochs_per_job": 2, "check_every": 2},
    "evaluate": {"bootstrap": 2},
    "cluster": {"executor": "in_process"},
}


def events(seed=1):
    rng = np.random.default_rng(seed)
    jets = ak.unflatten(rng.random(1200).astype(np.float32), np.full(400, 3))
    return {
        "signal": {"x": np.sqrt(rng.random(400)), "jets": jets},
        "background": {"x": rng.random(400), "jets": jets},
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run of events in memory: its stages one after the other, and what was called meanwhile."""
    folder = tmp_path_factory.mktemp("window")
    run, seen = Run.of(Window, events(), SETTINGS, folder), []
    run.columns(workers=2)
    optimised = run.optimise(callback=seen.append)
    return run, optimised, run.evaluate(), seen


def test_every_epoch_is_told_once_and_in_order(done):
    _, optimised, _, seen = done
    assert [record.epoch for record in seen] == [0, 1, 2, 3]
    assert seen == optimised.records


def test_the_result_is_that_of_the_summary(done):
    run, optimised, summary, _ = done
    assert summary.parameters["cut"].optimised == float(optimised.parameters["cut"])
    assert summary.change.replicas == 2
    assert run.report().read_text().startswith("<!doctype html>")


def test_the_exact_histograms_are_numpys(done):
    run, optimised, _, _ = done
    cut, x = float(optimised.parameters["cut"]), events()["background"]["x"]
    found = run.histograms("optimised")["all"][{"process": "background", "variation": "nominal"}]
    expected, _ = np.histogram(x[x > cut], bins=[0, 0.5, 0.8, 1])
    np.testing.assert_allclose(found.values(), expected * 1000 / 400, rtol=1e-12)
    np.testing.assert_allclose(found.variances(), expected * (1000 / 400) ** 2, rtol=1e-12)


def test_a_summary_is_a_table_in_a_notebook(done):
    _, _, summary, _ = done
    shown = ElementTree.fromstring(f"<div>{summary._repr_html_()}</div>")
    cells = [cell.text for cell in shown.iter("td")]
    assert f"{summary.parameters['cut'].optimised:.4g}" in cells
    assert f"{summary.values['optimised']['held_out'].exact.value:.4g}" in cells
    assert str(summary.change) in shown.find("p").find("b").tail
    assert re.fullmatch(r"pyhf, held-out events: \S+ -> \S+, [+-]\S+ \+- \S+ %", str(summary.change))


def test_a_loop_of_ones_own_has_the_epochs_numbers(done):
    run, optimised, _, _ = done
    for record in optimised.records:
        value, gradient = value_and_grad(run, record.parameters, epoch=record.epoch)
        assert -value == record.objective  # more of it is better
        assert float(gradient["cut"]) == record.gradient["cut"]
        assert run.loss.exact(record.parameters) == (
            record.check.minimised if record.check else pytest.approx(value, rel=0.1)
        )


def test_its_gradient_is_the_derivative(done):
    run, step = done[0], 1e-5
    low, high = (value_and_grad(run, {"cut": 0.4 + side})[0] for side in (-step, step))
    _, gradient = value_and_grad(run, {"cut": 0.4})
    assert gradient["cut"] == pytest.approx((high - low) / (2 * step), rel=1e-6)


def test_it_needs_no_setting_of_jax(done):
    run = done[0]
    program = (
        "import sys, jax, jax.numpy as jnp\nfrom pipeline import Run, value_and_grad\n"
        "run = Run(sys.argv[1], folder=sys.argv[2])\nvalue, gradient = value_and_grad(run, {'cut': jnp.array(0.4)})\n"
        "assert jnp.ones(1).dtype == 'float32' and not jax.config.jax_enable_x64\nprint(repr(value))"
    )
    command = [sys.executable, "-c", program, str(run.path), str(run.folder)]
    printed = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout
    assert float(printed) == pytest.approx(value_and_grad(run, {"cut": np.float32(0.4)})[0], rel=1e-12)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"cutt": 0.4}, "'cutt' is no free parameter of the run; nearest: 'cut'"),
        ({"cut": np.array([0.4])}, r"shape \(1,\)"),
    ],
)
def test_a_wrong_parameter_is_named(done, parameters, says):
    with pytest.raises(ConfigError, match=says):
        value_and_grad(done[0], parameters)


def test_a_plot_grows_with_the_epochs(done):
    shown = []

    class Handle:
        update = staticmethod(shown.append)

    def display(figure, *, display_id):
        assert display_id
        shown.append(figure)
        return Handle

    plot = LivePlot(display)
    for record in done[1].records:
        plot(record)
    assert len(shown) == 4
    objective, cut = shown[-1].axes
    np.testing.assert_array_equal(objective.lines[0].get_ydata(), [r.objective for r in plot.records])
    np.testing.assert_array_equal(cut.lines[0].get_ydata(), [r.parameters["cut"] for r in plot.records])
    checked = [(r.epoch, r.check.objective) for r in plot.records if r.check]
    checked.append((4, plot.records[-1].last_check.objective))
    np.testing.assert_array_equal(np.transpose(objective.lines[1].get_data()), checked)


def test_what_is_done_is_not_done_again(done):
    run, optimised, _, _ = done
    files = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*.parquet")}
    blocks = {path: path.stat().st_mtime_ns for path in run.folder.rglob("block_*.npz")}
    assert len(blocks) == 2
    seen = []
    run.columns()
    again = run.optimise(callback=seen.append)
    assert not seen
    assert again.records == optimised.records
    assert {path: path.stat().st_mtime_ns for path in (*files, *blocks)} == files | blocks


def test_blocks_that_are_there_are_not_made_again(done, tmp_path):
    """The states of their epochs are gone by the next block, so they would be computed from the beginning."""
    run, optimised, _, _ = done
    copied = shutil.copytree(run.folder, tmp_path / "copy")
    (copied / "results/window/optimise/block_2.npz").unlink()
    shutil.rmtree(copied / "results/window/checkpoints")
    first = copied / "results/window/optimise/block_1.npz"
    made, seen = first.stat().st_mtime_ns, []
    again = Run(run.path, folder=copied).optimise(callback=seen.append)
    assert [record.epoch for record in seen] == [2, 3]
    assert first.stat().st_mtime_ns == made
    assert again.parameters["cut"].tobytes() == optimised.parameters["cut"].tobytes()


def test_a_callback_that_raises_ends_the_stage(tmp_path):
    run = Run(
        rootfiles.write_run(tmp_path),
        "optimise.epochs=100000",
        "optimise.epochs_per_job=100000",
        folder=tmp_path,
    )
    run.columns()
    with pytest.raises(ZeroDivisionError):
        run.optimise(callback=lambda record: 1 / 0)
    assert not (tmp_path / "results/tiny/optimise/block_1.npz").exists()


def test_the_command_line_goes_on_with_the_same_bits(done, tmp_path):
    run, optimised, _, _ = done
    block = tmp_path / "block_2.npz"
    command = ["optimise", str(run.path), "--block", "2", "--output", str(block)]
    subprocess.run([sys.executable, "-m", "pipeline", *command], check=True, cwd=run.folder)
    own = np.load(run.folder / "results/window/optimise/block_2.npz")
    other = np.load(block)
    leaves = [name for name in own.files if name.startswith("leaf_")]
    assert leaves
    assert all(own[name].tobytes() == other[name].tobytes() for name in leaves)
    assert any(own[name].tobytes() == optimised.parameters["cut"].tobytes() for name in leaves)


@pytest.mark.workflow
def test_the_workflow_has_nothing_of_it_left_to_do(done):
    run, *_ = done
    run.report()
    command = [
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--directory",
        str(run.folder),
        "--cores",
        "1",
    ]
    target = "results/window/report.html"
    found = subprocess.run(
        [sys.executable, "-m", *command, "--configfile", str(run.path), "--dry-run", target],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "Nothing to be done" in found.stdout + found.stderr


def test_a_yaml_file_with_overrides(tmp_path):
    path = rootfiles.write_run(tmp_path)
    run = Run(path, "optimise.epochs=1", folder=tmp_path / ".")
    assert [record.epoch for record in run.optimise().records] == [0]


def test_a_stage_that_fails_says_why_in_one_sentence(tmp_path):
    path = rootfiles.write_run(tmp_path)
    with pytest.raises(
        RunError, match=r"evaluate: column file .* does not exist; run the .columns. stage"
    ) as raised:
        Run(path, folder=tmp_path).evaluate()
    assert "Traceback" not in str(raised.value)


def test_what_cannot_be_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"titel: unknown key; nearest: 'title'"):
        Run.of(Window, events(), {**SETTINGS, "titel": "x"}, tmp_path)
    with pytest.raises(ConfigError, match="'run', the name of the run, is missing"):
        Run.of(Window, events(), {}, tmp_path)
    uneven = {"signal": {"x": np.ones(3), "jets": np.ones(2)}}
    with pytest.raises(ConfigError, match=r"sample 'signal': branches of lengths \{'x': 3, 'jets': 2\}"):
        Run.of(Window, uneven, SETTINGS, tmp_path)
    made = type("Made", (Window,), {"__module__": "__main__"})
    with pytest.raises(ConfigError, match="Made is in no file"):
        Run.of(made, events(), SETTINGS, tmp_path)


def test_importing_the_package_alone_stays_light():
    code = "import sys, pipeline; assert not {'jax', 'hist', 'uproot'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_manifest_of_variations(tmp_path):
    varied = {**events(), "background__up": events(2)["background"]}
    Run.of(Window, varied, SETTINGS, tmp_path)
    found = json.loads((tmp_path / "window/manifest.json").read_text())
    assert set(found["background"]) == {"nominal", "up"}
    assert found["signal"]["nominal"]["nevts_total"] == 400


@pytest.mark.parametrize(
    "begins", ["Run('{path}').columns()", "Run.of(Tiny, {{}}, {{'run': 'tiny'}}).columns()"]
)
def test_a_program_that_begins_a_run_wherever_it_is_imported_is_refused(tmp_path, begins):
    """Its stages import it: without an end, each would begin the next."""
    path = rootfiles.write_run(tmp_path)
    program = tmp_path / "tiny.py"
    own = "from pipeline import Run\n" + program.read_text() + "\n"
    program.write_text(f"{own}{begins.format(path=path)}\n")
    with pytest.raises(
        ConfigError, match=r"tiny\.py begins a run while it is imported, .* under `if __name__"
    ):
        targets.module(f"{program}:Tiny", "analysis.target")
    assert not (tmp_path / "results").exists()
    program.write_text(f"{own}if __name__ == '__main__':\n    {begins.format(path=path)}\n")
    assert targets.module(f"{program}:Tiny", "analysis.target").Tiny
