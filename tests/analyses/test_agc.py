"""The Analysis Grand Challenge by its own files: manifest, reference histograms, fit model, a real NanoAOD file."""

import json
from pathlib import Path

import cabinetry
import hist
import numpy as np
import pyhf
import pytest
import uproot
import yaml
from coffea_agc import V1, V2
from coffea_agc import histograms as by_coffea
from columnfiles import source_files, write_columns

from pipeline import analysis as contract
from pipeline import config
from pipeline.analyses.agc_ttbar import JET_RESOLUTION_UP
from pipeline.analysis import analysis_of
from pipeline.cluster import InProcess
from pipeline.containers import Templates
from pipeline.data import datasets, event_random
from pipeline.errors import ConfigError
from pipeline.evaluate.by_pyhf.fit import fit_table
from pipeline.evaluate.histograms import differences, histograms
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.likelihood.configured.run_workspace import workspace
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.templates.axes import axes_of
from pipeline.templates.fill import EXACT

ROOT = Path(__file__).parents[2]
V1_STYLE = ["analysis.options={electron: [], muon: [], jet: []}", "parameters={lepton_pt: 25, jet_pt: 25}"]


@pytest.fixture(scope="module")
def agc(shared_data):
    """Folder of the challenge's files."""
    return shared_data / "agc"


@pytest.fixture(scope="module")
def reference(agc):
    return json.loads((agc / "histos_1_file_per_process.json").read_text())


def resolution(events):
    """The draws of pt_res_up, one per jet, from event number and place in the event alone."""
    ak = pytest.importorskip("awkward")
    counts = ak.num(events.Jet.pt)
    numbers = np.repeat(ak.to_numpy(events.event), ak.to_numpy(counts))
    places = ak.to_numpy(ak.flatten(ak.local_index(events.Jet.pt)))
    # As the columns hold them: in float32.
    return ak.unflatten(
        event_random.normal(numbers, places, "pt_res_up").astype(np.float32).astype(float), counts
    )


def load(agc, *overrides):
    files = [f"analysis.files.corrections={agc / 'corrections.json'}"]
    manifest = [f"data.manifest={agc / 'nanoaod_inputs.json'}", "cluster.executor=in_process"]
    return config.load(ROOT / "config" / "agc.yaml", [*files, *manifest, *overrides])


def exact_histograms(run, folder):
    work = prepare_work(run, write_columns(run, folder), datasets.ALL)
    return histograms(run, InProcess(), work, initial_parameters(run))


@pytest.fixture
def real_file(agc, tmp_path):
    """A run on one real file of the challenge as every sample; weight 1."""
    file = {"path": str(agc / "cms_open_data_2015_wjets_200_events.root"), "nevts": 200}
    manifest = json.loads((agc / "nanoaod_inputs.json").read_text())
    for variations in manifest.values():
        for entry in variations.values():
            entry["files"] = [file]
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))
    return lambda *overrides: load(agc, f"data.manifest={path}", "data.allow_repeated=true", *overrides)


@pytest.mark.slow
@pytest.mark.parametrize(("overrides", "selection"), [(V1_STYLE, V1), ([], V2)], ids=["v1", "v2"])
def test_a_real_file_gives_what_coffea_gives(real_file, agc, tmp_path, overrides, selection):
    run = real_file(*overrides)
    found = exact_histograms(run, tmp_path)
    file = agc / "cms_open_data_2015_wjets_200_events.root"
    for sample, settings in run.data.samples.items():
        weight = settings.cross_section_pb * 3378 / 200
        expected = by_coffea(
            file,
            sample,
            weight=weight,
            corrections=agc / "corrections.json",
            resolution=resolution,
            selection=selection,
        )
        for name, contents in expected.items():
            np.testing.assert_allclose(found[name]["contents"], contents, rtol=1e-9, err_msg=name)


@pytest.mark.slow
def test_a_real_file_has_the_events_that_are_known(real_file, tmp_path):
    """Four events in 4j1b at H_T 469.73, 302.47, 248.27 and 165.98 GeV, none in 4j2b."""
    run = real_file(*V1_STYLE, "data.samples.wjets.cross_section_pb=0.059206631142687984")  # weight 1
    found = exact_histograms(run, tmp_path)
    expected = np.histogram([469.73, 302.47, 248.27, 165.98], found["4j1b_wjets"]["edges"])[0]
    np.testing.assert_allclose(found["4j1b_wjets"]["contents"], [0, *expected, 0], rtol=1e-12)
    assert sum(found["4j2b_wjets"]["contents"]) == 0


@pytest.fixture(scope="module")
def site(agc, simulated, tmp_path_factory):
    """The run on a site's own copy of the challenge's first files: small simulated ones under the same paths."""
    folder = tmp_path_factory.mktemp("site")
    prefix = "https://xrootd-local.unl.edu:1094//store/user/AGC/nanoAOD/"
    sources = sorted(simulated.parent.glob("*.root"))
    manifest = json.loads((agc / "nanoaod_inputs.json").read_text())
    entries = [entry for variations in manifest.values() for entry in variations.values()]
    for i, entry in enumerate(entries):
        copy = folder / entry["files"][0]["path"].removeprefix(prefix)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(sources[i % len(sources)])
        del entry["files"][0]["nevts"]  # a promise that a small file does not keep
    (folder / "manifest.json").write_text(json.dumps(manifest))
    there = [
        f"data.manifest={folder}/manifest.json",
        f"data.prefixes={{{prefix!r}: '{folder}/'}}",
        "data.allow_repeated=true",
    ]
    return load(agc, *there, "data.max_events_per_job=10000000")


@pytest.mark.slow
@pytest.mark.simulate
def test_the_manifest_as_it_is_gives_the_histograms_of_the_reference(site, reference, agc, tmp_path):
    found = exact_histograms(site, tmp_path)
    assert len(found) == 124
    assert set(found) == set(reference)
    assert not differences({**found, **reference}, reference)
    for file in source_files(site):
        process, _, variation = file.sample.partition("__")
        events = uproot.open(file.path)["Events"].num_entries
        weight = site.data.samples[process].cross_section_pb * 3378 / events
        expected = by_coffea(
            file.path,
            process,
            weight=weight,
            corrections=agc / "corrections.json",
            resolution=resolution,
            systematics=not variation,
        )
        for name, contents in expected.items():
            ours = found[f"{name}_{variation}" if variation else name]
            np.testing.assert_allclose(ours["contents"], contents, rtol=1e-9, err_msg=name)
    mixed = (
        np.array(found["4j1b_ttbar_ME_var"]["contents"]) + np.array(found["4j1b_ttbar_PS_var"]["contents"])
    ) / 2
    expected = mixed + np.array(found["4j1b_wjets"]["contents"])
    np.testing.assert_allclose(found["4j1b_pseudodata"]["contents"], expected)


def reference_templates(run, reference):
    """The reference histograms in the bins of the fit; as all weights are equal, a variance is content x weight."""
    rows = axes_of(run, contract.load(run.analysis.target, run.analysis.options_json).variation_names)
    manifest = json.loads(Path(run.data.manifest).read_text())

    def merged(name):
        return np.array(reference[name]["contents"])[4:26].reshape(11, 2).sum(axis=1)

    def weight(sample):
        process, _, variation = sample.partition("__")
        events = manifest[process][variation or "nominal"]["files"][0]["nevts"]
        return run.data.samples[process].cross_section_pb * run.data.luminosity_per_pb / events

    yields, sumw2 = {}, {}
    for channel in run.channels:
        names = [f"{channel}_{sample.replace('__', '_')}" for sample in rows.samples]
        varied = [
            [f"{name}_{v}" if f"{name}_{v}" in reference else name for v in rows.variations] for name in names
        ]
        yields[channel] = np.array([[merged(name) for name in row] for row in varied])
        sumw2[channel] = np.stack([merged(n) * weight(s) for n, s in zip(names, rows.samples, strict=True)])
    return Templates(yields, sumw2), rows


def by_cabinetry(agc, reference, run, folder):
    """The workspace that cabinetry builds from the reference histograms with the challenge's own configuration.

    As in the challenge, bins below 110 GeV are dropped and the others merged in pairs before.
    """
    manifest = json.loads((agc / "nanoaod_inputs.json").read_text())
    with uproot.recreate(folder / "histograms.root") as file:
        for name, content in reference.items():
            process = next((p for p in run.data.samples if name.partition("_")[2].startswith(p)), "ttbar")
            events = manifest[process]["nominal"]["files"][0]["nevts"]
            weight = run.data.samples[process].cross_section_pb * 3378 / events
            filled = hist.Hist(hist.axis.Regular(11, 110, 550), storage=hist.storage.Weight())
            filled.view().value = np.array(content["contents"])[4:26].reshape(11, 2).sum(axis=1)
            filled.view().variance = filled.view().value * weight
            file[name] = filled
    settings = yaml.safe_load((agc / "cabinetry_config.yml").read_text())
    settings["General"]["HistogramFolder"] = str(folder / "histograms")
    settings["General"]["InputPath"] = (
        f"{folder}/histograms.root:{{RegionPath}}_{{SamplePath}}{{VariationPath}}"
    )
    cabinetry.templates.collect(settings)
    return cabinetry.workspace.build(settings)


def test_the_model_is_the_challenge_s(agc, reference, tmp_path):
    """Our workspace of the reference histograms is cabinetry's of the challenge's own configuration: 34 parameters."""
    run = load(agc)
    templates, rows = reference_templates(run, reference)
    ours = pyhf.Workspace(workspace(templates, rows, run, pseudodata=True))
    theirs = pyhf.Workspace(by_cabinetry(agc, reference, run, tmp_path))
    settings = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}
    a, b = (w.model(modifier_settings=settings) for w in (ours, theirs))
    assert a.config.npars == b.config.npars == 34

    def named(model):
        """Parameters by a name that does not depend on how channels are called."""
        order = [n.replace("4j1b-CR", "4j1b").replace("4j2b-SR", "4j2b") for n in model.config.par_names]
        return {name: i for i, name in enumerate(order)}

    ours_at, theirs_at = named(a), named(b)
    assert set(ours_at) == set(theirs_at)
    random = np.random.default_rng(3)
    for _ in range(20):
        near_one = {name: "stat" in name or "norm" in name for name in ours_at}
        values = {n: 1 + 0.1 * random.normal() if one else random.normal() for n, one in near_one.items()}
        at = [np.array([values[n] for n in sorted(index, key=index.get)]) for index in (ours_at, theirs_at)]
        expected = [sorted(m.expected_actualdata(x)) for m, x in zip((a, b), at, strict=True)]
        np.testing.assert_allclose(expected[0], expected[1], rtol=1e-9)
    np.testing.assert_allclose(sorted(ours.data(a)), sorted(theirs.data(b)), rtol=1e-9, atol=1e-12)


def test_the_fit_of_the_reference(agc, reference):
    """ttbar_norm 0.9608 +- 0.1082 by the exact Hessian (shared/notes/agc.md, 1.8)."""
    run = load(agc)
    table = fit_table(workspace(*reference_templates(run, reference), run, pseudodata=True))
    assert len(table) == 34
    row = next(row for row in table if row.label == "ttbar_norm")
    np.testing.assert_allclose([row.ours, row.hessian], [0.96077, 0.10821], atol=2e-5)
    assert abs(row.bestfit - row.ours) < 5e-4


def test_other_corrections_are_refused(agc, tmp_path):
    changed = (agc / "corrections.json").read_text().replace("x*0.075 / 50", "x*0.076 / 50")
    (tmp_path / "corrections.json").write_text(changed)
    run = load(agc, f"analysis.files.corrections={tmp_path / 'corrections.json'}")
    with pytest.raises(ConfigError, match=r"differ by up to 0\.02 from the formula"):
        analysis_of(run)
    (tmp_path / "corrections.json").write_text("{}")
    with pytest.raises(ConfigError, match="is not the challenge's correctionlib file"):
        analysis_of(run)


@pytest.mark.simulate
def test_relaxed_yields_converge_to_the_exact_ones(miniature, miniature_columns):
    work = prepare_work(miniature, miniature_columns, datasets.ALL)
    start = initial_parameters(miniature)
    exact = forward(InProcess(), work, start, EXACT)
    apart = []
    for factor in (1.0, 0.1, 0.01, 0.001):
        narrow = widths_at(miniature, 0)
        narrow = type(narrow)(
            {n: factor * w for n, w in narrow.operations.items()},
            {n: factor * w for n, w in narrow.bandwidths.items()},
        )
        relaxed = forward(InProcess(), work, start, narrow)
        apart.append(
            max(
                np.max(np.abs(relaxed.yields[c] - exact.yields[c]) / np.maximum(exact.yields[c].max(), 1))
                for c in exact.yields
            )
        )
    assert apart == sorted(apart, reverse=True)
    assert apart[-1] < 5e-3
    assert JET_RESOLUTION_UP == 0.05
