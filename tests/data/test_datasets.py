"""Manifests become files and normalisations, the AGC's as it is."""

import contextlib
import json
import math

import pytest
import rootfiles
from columnfiles import source_files
from contracts import provenance
from hypothesis import given
from hypothesis import strategies as st

from pipeline import config
from pipeline.data import datasets, normalisation
from pipeline.data.datasets import ALL, HELD_OUT, TRAIN
from pipeline.errors import ConfigError, InputError

# process, variation: files, events; notes on the AGC's code of version 2
AGC = {
    ("ttbar", "nominal"): (243, 276_079_127),
    ("ttbar", "scaledown"): (32, 39_329_663),
    ("ttbar", "scaleup"): (33, 38_424_467),
    ("ttbar", "ME_var"): (16, 19_098_219),
    ("ttbar", "PS_var"): (15, 19_337_064),
    ("single_top_s_chan", "nominal"): (6, 2_867_199),
    ("single_top_t_chan", "nominal"): (90, 109_305_936),
    ("single_top_tW", "nominal"): (3, 1_999_400),
    ("wjets", "nominal"): (349, 433_719_099),
}


@pytest.fixture
def run(tmp_path):
    """A configuration, and a function that gives it another manifest."""
    path = rootfiles.write_run(tmp_path)

    def load(manifest=None, overrides=()):
        if manifest is not None:
            content = manifest if isinstance(manifest, str) else json.dumps(manifest)
            (tmp_path / "manifest.json").write_text(content)
        return config.load(path, overrides)

    return load


def listing(**files):
    return {
        s: {"nominal": {"files": files.get(s, [{"path": f"{s}.root"}])}} for s in ("signal", "background")
    }


def test_the_agc_manifest_as_it_is(shared_data, tmp_path):
    variations = {p: [v for q, v in AGC if q == p and v != "nominal"] for p, _ in AGC}
    samples = {
        process: {"cross_section_pb": 1.0, "variations": names} for process, names in variations.items()
    }
    data = {
        "manifest": str(shared_data / "agc" / "nanoaod_inputs.json"),
        "luminosity_per_pb": 3378,
        "samples": samples,
    }
    model = {"poi": "mu", "normfactors": [{"name": "mu", "samples": ["ttbar"]}]}
    path = rootfiles.write_run(tmp_path, data=data, model=model)
    run = config.load(path, ["data.max_events_per_job=2000000"])
    files = source_files(run)
    assert len(files) == 787
    assert sum(f.entries for f in files) == 940_160_174
    for (process, variation), (count, events) in AGC.items():
        name = process if variation == "nominal" else f"{process}__{variation}"
        chosen = [f for f in files if f.sample == name]
        assert (len(chosen), sum(f.entries for f in chosen)) == (count, events), name
        assert [f.path for f in chosen] == sorted(f.path for f in chosen)
        jobs = [job for job in datasets.columns_jobs(run) if job.sample == name]
        assert [job.index for job in jobs] == list(range(len(jobs)))
        assert all(sum(f.entries for f in job.files) <= 2_000_000 for job in jobs)
    assert all(f.is_remote and f.path.startswith("https://xrootd-local.unl.edu:1094//store/") for f in files)
    first = source_files(
        config.load(path, ["data.max_files_per_process=1", "data.max_events_per_job=2000000"])
    )
    listed = json.loads((shared_data / "agc" / "nanoaod_inputs.json").read_text())
    assert {f.path for f in first} == {listed[p][v]["files"][0]["path"] for p, v in AGC}


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("{", r"data\.manifest: .*manifest\.json is not JSON"),
        ("[1]", r"data\.manifest .*manifest\.json holds a list; a manifest is process -> variation"),
        (
            {"signal": listing()["signal"]},
            r"sample 'background' of data\.samples is not in manifest .*'signal'",
        ),
        ({**listing(), "signal": [1]}, r"signal is \[1\]; a manifest is"),
        ({**listing(), "signal": {"nominl": {}}}, r"variation 'nominal' is not in .*nearest: 'nominl'"),
        ({**listing(), "signal": {"nominal": []}}, r"signal/nominal is \[\]; a manifest is"),
        ({**listing(), "signal": {"nominal": {}}}, r"signal/nominal: 'files' is missing, not a list"),
        (listing(signal=[]), r"signal/nominal: 'files' is \[\], not a list with at least one file"),
        (listing(signal={"a": 1}), r"signal/nominal: 'files' is \{'a': 1\}, not a list"),
        (listing(signal=["a.root"]), r"signal/nominal: files\[0\] is 'a\.root'; a manifest is"),
        (listing(signal=[{"pth": "a.root"}]), r"files\[0\]: 'path' is missing, not the path"),
        (listing(signal=[{"path": 3}]), r"files\[0\]: 'path' is 3, not the path"),
        (listing(signal=[{"path": "a", "nevts": "x"}]), r"files\[0\]: 'nevts' is 'x', not a number"),
        (listing(signal=[{"path": "a", "nevts": -1}]), r"files\[0\]: 'nevts' is -1, not a number"),
        (listing(signal=[{"path": "a\0b"}]), r"is not JSON: the text 'a.x00b' holds the character U\+0000"),
        (listing(signal=[{"path": "a" * 256}]), r"files\[0\]: 'path' 'a+\.\.\. is none that a file can have"),
        (listing(signal=[{"path": "a/" * 2500}]), r"files\[0\]: 'path' 'a/.*is none that a file can have"),
        (
            listing(signal=[{"path": "a\ud800"}]),
            r"is not JSON: the text 'a.ud800' holds the character U\+D800",
        ),
        (listing(signal=[{"path": "a"}, {"path": "a"}]), r"files\[1\]: a is listed twice; .*count twice"),
    ],
)
def test_wrong_manifests(manifest, message, run):
    with pytest.raises(InputError, match=message):
        source_files(run(manifest))


def test_missing_manifest(run):
    with pytest.raises(InputError, match=r"data\.manifest: nowhere\.json cannot be read: No such file"):
        source_files(run(overrides=["data.manifest=nowhere.json"]))


def test_variations_are_samples_of_their_own(run):
    manifest = listing()
    manifest["signal"]["up"] = {"files": [{"path": "up.root"}, {"path": "up2.root"}]}
    loaded = run(manifest, ["data.samples.signal.variations=[up]"])
    assert datasets.sample_names(loaded) == ["background", "signal", "signal__up"]
    found = [(job.name, job.place) for job in datasets.columns_jobs(loaded) if job.sample == "signal__up"]
    assert found == [("signal__up/0000", "up.root"), ("signal__up/0001", "up2.root")]  # of unknown lengths
    with pytest.raises(InputError, match=r"sample 'signal': variation 'upp' is not in manifest .*'up'"):
        source_files(run(overrides=["data.samples.signal.variations=[upp]"]))


def test_relative_paths(run, tmp_path):
    """From the working directory first, then from the manifest's folder; else as they are, for the error."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "signal.root").touch()
    with contextlib.chdir(elsewhere):
        files = {f.sample: f.path for f in source_files(run())}
    assert files == {"signal": "signal.root", "background": str(tmp_path / "background.root")}
    (file,) = (f for f in source_files(run(listing(signal=[{"path": "no.root"}]))) if f.sample == "signal")
    assert file.path == "no.root"


counts = st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**9)), min_size=1, max_size=5)


@given(files=counts, cross_section=st.none() | st.floats(1e-3, 1e6))
def test_each_fold_predicts_the_whole_luminosity(files, cross_section, scaled_run):
    """Weight 1 per event processed: every fold's sum is cross-section x luminosity, or all events."""
    loaded = scaled_run(cross_section)
    read = [provenance("a", train, held_out) for held_out, train in files]
    processed = {
        TRAIN: sum(t for _, t in files),
        HELD_OUT: sum(h for h, _ in files),
        ALL: sum(h + t for h, t in files),
    }
    expected = processed[ALL] if cross_section is None else cross_section * 3378
    for fold, events in processed.items():
        if events == 0:
            with pytest.raises(InputError, match="sample 'a' has no event in fold 'held_out'"):
                normalisation.scales(loaded, {"a": read}, fold)
            continue
        found = normalisation.scales(loaded, {"a": read}, fold)["a"]
        assert math.isclose(found * events, expected, rel_tol=1e-12)


@pytest.fixture(scope="session")
def scaled_run(tmp_path_factory):
    """A run whose one sample has a given cross-section."""
    path = rootfiles.write_run(tmp_path_factory.mktemp("scaled"))
    loaded = config.load(path, ["data.luminosity_per_pb=3378"])

    def with_cross_section(value):
        samples = {"a": config.Sample(cross_section_pb=value)}
        return loaded.model_copy(update={"data": loaded.data.model_copy(update={"samples": samples})})

    return with_cross_section


def test_simulated_files(run):
    seeds = [datasets.file_seed(s, p, i) for s in (1, 2) for p in ("a", "b") for i in range(50)]
    assert len(set(seeds)) == 200
    assert all(1 <= seed <= 900_000_000 for seed in seeds)
    with pytest.raises(
        ConfigError, match=r"run 'tiny' has no section simulate: its manifest is .*manifest\.json"
    ):
        datasets.planned_manifest(run())
