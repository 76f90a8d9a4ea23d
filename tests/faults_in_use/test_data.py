"""Numbers that were wrong without a word: of how events are normalised, and of lost, short, damaged, repeated files."""

import dataclasses
import functools
import hashlib
import json
import os
import re
import shutil
import uuid
import zlib
from pathlib import Path

import numpy as np
import pytest
import rootfiles
import servers
import uproot
from columnfiles import alone, columns_of, source_files, write_columns

from pipeline import config
from pipeline.cli import main
from pipeline.columns import rootfile
from pipeline.columns.rootfile import UnreadableFile
from pipeline.data import checksums, normalisation, store
from pipeline.data.datasets import ALL, HELD_OUT, TRAIN
from pipeline.data.provenance import outdated
from pipeline.data.run_files import provenances
from pipeline.errors import ConfigError, InputError
from pipeline.gradient.work import prepare_work
from pipeline.likelihood import HistFactory

EVENTS = 400
PB, LUMINOSITY = 2.0, 1000.0
GENERATED = [
    f"data.samples.signal.cross_section_pb={PB}",
    f"data.luminosity_per_pb={LUMINOSITY}",
    "data.normalise=weights",
]


@pytest.fixture
def run(tmp_path):
    """The tiny run, with another manifest for the signal, with overrides."""
    path = rootfiles.write_run(tmp_path)

    def load(*overrides, **samples):
        content = json.loads((tmp_path / "manifest.json").read_text())
        for sample, files in samples.items():
            content[sample] = {"nominal": {"files": files}}
        (tmp_path / "manifest.json").write_text(json.dumps(content))
        return config.load(path, overrides)

    return load


def signed(events=EVENTS, seed=3, size=25.0, negative=0.2):
    """Weights of a generator of next-to-leading order, in its own unit."""
    signs = np.where(np.random.default_rng(seed).random(events) < negative, -1.0, 1.0)
    return (size * signs).astype(np.float32)


def write(folder, name, seed=3, events=EVENTS, **changes):
    """A file of events, their weights the generator's where there are such; its entry in a manifest."""
    path = rootfiles.write(folder / name, events=events, seed=seed, **changes)
    return {"path": str(path), "nevts": events}


def with_runs(entry, sums, counts=None, version=""):
    """The same file with NanoAOD's tree of sums over what was generated."""
    with uproot.update(entry["path"]) as file:
        content = {f"genEventSumw{version}": np.asarray(sums, dtype=float)}
        if counts is not None:
            content[f"genEventCount{version}"] = np.asarray(counts, dtype=np.int64)
        file.mktree("Runs", {name: array.dtype for name, array in content.items()})
        file["Runs"].extend(content)
    return entry


def predicted(settings, folder, fold=ALL, sample="signal", least=-1.0):
    """Yield of a sample above a cut, by the factors and the columns of the run."""
    files = write_columns(settings, folder / "columns")
    (scale,) = {g.scale for g in prepare_work(settings, files, fold).groups if g.sample == sample}
    names = [TRAIN, HELD_OUT] if fold == ALL else [fold]
    made = [store.read_columns(path, name) for s, path in files if s == sample for name in names]
    return scale * sum(c["weight"][c["x"] > least].sum(dtype=float) for c in made if c)


def test_a7_generator_weights_normalise_themselves(run, tmp_path):
    """Weights +-25, 20 % negative: cross-section x luminosity x sum of the selected / sum of all, not 25 times that."""
    w = signed()
    right = PB * LUMINOSITY * w[rootfiles.arrays(EVENTS, 3)["x"] > 0.1].sum() / w.sum()
    entry = write(tmp_path, "nlo.root", w=w, genWeight=w)
    for most in (200_000, 150):
        settings = run(*GENERATED, f"data.max_events_per_job={most}", signal=[entry])
        np.testing.assert_allclose(predicted(settings, tmp_path, least=0.1), right, rtol=1e-6)
        for fold in (TRAIN, HELD_OUT):  # each predicts the whole luminosity
            np.testing.assert_allclose(predicted(settings, tmp_path, fold), PB * LUMINOSITY, rtol=1e-6)
    renamed = write(tmp_path, "renamed.root", w=w, mc_weight=w.astype(np.float64))
    settings = run(*GENERATED, "data.generator_weight=mc_weight", signal=[renamed])
    np.testing.assert_allclose(predicted(settings, tmp_path, least=0.1), right, rtol=1e-6)


@pytest.mark.parametrize("most", [200_000, 150])
def test_a7_the_sums_of_a_skim_are_those_before_it(run, tmp_path, most):
    """Each file's tree `Runs` counts once, however many ranges of it are read, and by the share that was read."""
    w = signed()
    one = with_runs(write(tmp_path, "a.root", seed=3, w=w, genWeight=w), [9e4, 1e4], [5000, 600])
    two = with_runs(write(tmp_path, "b.root", seed=4, w=w), [6e4], version="_")
    settings = run(*GENERATED, f"data.max_events_per_job={most}", signal=[one, two])
    right = PB * LUMINOSITY * 2 * w.sum() / 1.6e5
    np.testing.assert_allclose(predicted(settings, tmp_path), right, rtol=1e-6)
    for fold in (TRAIN, HELD_OUT):
        assert abs(predicted(settings, tmp_path, fold) / right - 1) < 0.2
    files = write_columns(settings, tmp_path / "columns")
    made_of = {"signal": [source for source in provenances(files) if source.sample == "signal"]}
    if most == 150:  # without the first third of the first file, whose share of its sum goes too
        first = made_of["signal"][0]
        nothing = {TRAIN: 0, HELD_OUT: 0}
        made_of["signal"][0] = first.changed(left_out="damaged", entries_read=nothing)
        share = 1 - first.entries_promised / EVENTS
        found = normalisation.scales(settings, made_of, ALL)["signal"]
        np.testing.assert_allclose(found, PB * LUMINOSITY / (1e5 * share + 6e4), rtol=1e-12)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            {"genWeight": signed(negative=1.0)},
            r"'signal': the generator weights of its events .* add up to -10000",
        ),
        ({"genWeight": np.zeros(EVENTS)}, "add up to 0, nothing to normalise by"),
        (
            {"genWeight": np.full(EVENTS, np.nan)},
            r"generator_weight 'genWeight' of .* must hold one finite number",
        ),
        ({"genWeight": np.ones((EVENTS, 2))}, "must hold one finite number per event"),
        ({"genweight": np.ones(EVENTS)}, r"'genWeight' is not in tree 'events' .*nearest: 'genweight'"),
    ],
)
def test_a7_weights_that_normalise_nothing_are_refused(run, tmp_path, weights, message):
    settings = run(*GENERATED, signal=[write(tmp_path, "nlo.root", **weights)])
    with pytest.raises(InputError, match=message):
        predicted(settings, tmp_path)


def test_a7_a_skim_that_is_normalised_by_its_events_is_warned_of(run, tmp_path):
    entry = with_runs(write(tmp_path, "skim.root", genWeight=signed()), [1e5], [5600])
    settings = run(*GENERATED[:2], "data.max_events_per_job=150", signal=[entry])
    made_of = provenances(write_columns(settings, tmp_path / "columns"))
    (note,) = normalisation.notes(settings, made_of)
    assert "its files hold 400 of the 5600 that were generated for them" in note


def test_a7_what_cannot_be_meant_is_refused(run, tmp_path):
    with pytest.raises(ConfigError, match=r"normalise: weights is for samples with a cross_section_pb"):
        run("data.normalise=weights")
    entry = with_runs(write(tmp_path, "a.root", genWeight=signed()), [100.0], [EVENTS - 1])
    with pytest.raises(
        InputError, match=r"tree 'Runs' .* of 399 events, and tree 'events' has 400: it is not of this"
    ):
        predicted(run(*GENERATED, signal=[entry]), tmp_path)


@pytest.mark.parametrize(
    ("weights", "overrides", "says"),
    [
        (
            signed(),
            GENERATED[:2],
            r"'signal' is normalised by its number of events, but its weights have mean 15",
        ),
        (signed(size=1.0), GENERATED[:2], r"18.2 % of them, by size, are negative"),
        (signed(), GENERATED, None),
        (
            np.ones(EVENTS, np.float32),
            GENERATED,
            r"by its generator weights, of mean 15.*, but .* have mean 1:",
        ),
        (np.full(EVENTS, 0.9, np.float32), GENERATED[:2], None),
        (signed(), (), None),  # absolute
    ],
)
def test_a7_weights_that_look_otherwise_are_warned_of(run, tmp_path, weights, overrides, says):
    settings = run(*overrides, signal=[write(tmp_path, "nlo.root", w=weights, genWeight=signed())])
    made_of = provenances(write_columns(settings, tmp_path / "columns"))
    found = normalisation.notes(settings, made_of)
    if says is None:
        assert not found
    else:
        (note,) = found
        assert re.search(says, note), note


@pytest.mark.parametrize("most", [200_000, 150])
def test_a10_absolute_weights_of_files_left_out_are_made_up_for(run, tmp_path, most):
    """A file of two is cut: the yield is that of the events read, scaled up by those promised."""
    one, two = write(tmp_path, "a.root"), write(tmp_path, "b.root", seed=4)
    lenient = ["data.unreadable_files=leave_out", f"data.max_events_per_job={most}"]
    whole = predicted(run(*lenient, signal=[one, two]), tmp_path)
    alone = predicted(run(*lenient, signal=[one]), tmp_path)
    os.truncate(two["path"], 1000)
    settings = run(*lenient, signal=[one, two])
    np.testing.assert_allclose(predicted(settings, tmp_path), 2 * alone, rtol=1e-12)
    assert abs(2 * alone / whole - 1) < 0.05
    for fold in (TRAIN, HELD_OUT):
        assert abs(predicted(settings, tmp_path, fold) / whole - 1) < 0.15
    unknown = run(*lenient, signal=[one, {"path": two["path"]}])
    with pytest.raises(
        InputError, match=r"'signal' has absolute weights, .*unreadable_files.* the manifest does not say"
    ):
        predicted(unknown, tmp_path)
    by_cross_section = run(*lenient, *GENERATED[:2])
    assert predicted(by_cross_section, tmp_path) > 0


def test_a10_absolute_weights_of_files_not_used_are_made_up_for(run, tmp_path):
    files = [write(tmp_path, "a.root"), write(tmp_path, "b.root", seed=4, events=100)]
    alone = predicted(run(signal=files[:1]), tmp_path)
    first = run("data.max_files_per_process=1", signal=files)
    np.testing.assert_allclose(predicted(first, tmp_path), 1.25 * alone, rtol=1e-12)
    with pytest.raises(
        InputError, match=r"max_files_per_process\) whose number of events the manifest does not say"
    ):
        predicted(
            run("data.max_files_per_process=1", signal=[files[0], {"path": files[1]["path"]}]), tmp_path
        )


@pytest.mark.parametrize("most", [200_000, 400, 150, 100])
def test_a11_fewer_events_than_promised_are_refused_however_they_are_read(run, tmp_path, most):
    entry = write(tmp_path, "short.root", events=200) | {"nevts": 400}
    ranges = [f for f in source_files(run(f"data.max_events_per_job={most}", signal=[entry]))]
    for file in (file for file in ranges if file.sample == "signal"):
        with pytest.raises(
            UnreadableFile, match=r"has 200 entries, fewer than the manifest promises; correct its"
        ):
            columns_of(run(), file)


def test_a11_more_events_than_promised_are_read_and_said(run, tmp_path):
    entry = write(tmp_path, "long.root", events=200)
    settings = run("data.max_events_per_job=50", signal=[entry | {"nevts": 150}])
    made_of = provenances(write_columns(settings, tmp_path / "columns"))
    assert sum(sum(p.entries_read.values()) for p in made_of if p.sample == "signal") == 200
    (note,) = normalisation.notes(settings, made_of)
    assert "long.root has 50 events more than the 150 that the manifest promises; all are read" in note


@pytest.mark.parametrize("compression", [None, uproot.ZSTD(1), uproot.LZ4(1)], ids=["none", "zstd", "lz4"])
@pytest.mark.parametrize("algorithm", ["adler32", "sha256"])
def test_a12_flipped_bits_are_refused_by_the_checksum(run, tmp_path, algorithm, compression):
    path = tmp_path / "data.root"
    with uproot.recreate(path, compression=compression) as file:
        file.mktree("events", {n: rootfiles._type(n, a) for n, a in rootfiles.arrays().items()})
        file["events"].extend(rootfiles.arrays())
    right = str(checksums.of(str(path), algorithm))
    entry = {"path": str(path), "nevts": 200, "checksum": right.upper().replace(algorithm.upper(), algorithm)}
    (file,) = (f for f in source_files(run(signal=[entry])) if f.sample == "signal")
    columns_of(run(), file)
    content = path.read_bytes()
    for place in np.random.default_rng(5).integers(0, len(content), 10):
        path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        with pytest.raises(
            UnreadableFile, match=rf"its checksum is {algorithm}:\w+, and the manifest promises {right}"
        ):
            columns_of(run(), file)


def test_a12_checksums_are_the_usual_ones(tmp_path):
    path = tmp_path / "wikipedia"
    path.write_bytes(b"Wikipedia")
    assert str(checksums.of(str(path), "adler32")) == "adler32:11e60398"
    assert checksums.of(str(path), "sha256").value == hashlib.sha256(b"Wikipedia").hexdigest()
    path.write_bytes(b"\x00")
    assert checksums.of(str(path), "adler32") == checksums.parse(
        "Adler32:10001"
    )  # as tools print it that drop zeros


def test_a12_a_remote_file_is_verified_as_well(run, tmp_path, monkeypatch):
    monkeypatch.setattr(rootfile, "FIRST_PAUSE", 0.01)
    entry = write(tmp_path, "signal.root", events=200)
    right = str(checksums.of(entry["path"], "sha256"))
    with servers.http(tmp_path) as (url, pending):
        there = {"path": f"{url}/signal.root", "nevts": 200}
        (file,) = (f for f in source_files(run(signal=[there | {"checksum": right}])) if f.sample == "signal")
        pending.extend([503])
        columns_of(run(), file)
        with pytest.raises(
            UnreadableFile, match=r"its checksum is adler32:.* the manifest promises adler32:00000001"
        ):
            columns_of(run(), dataclasses.replace(file, checksum="adler32:00000001"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"checksum": "md5:0123"}, r"files\[0\], a.root: 'checksum' is 'md5:0123'; write adler32:<8 hex"),
        ({"checksum": "0a1b2c3d"}, "write adler32:<8 hex"),
        ({"checksum": "adler32:"}, "write adler32:<8 hex"),
        ({"checksum": "adler32:012345678"}, "write adler32:<8 hex"),
        ({"checksum": "sha256:abc"}, "write adler32:<8 hex"),
        ({"checksum": 7}, "'checksum' is 7; write adler32"),
        ({"cheksum": "adler32:0a1b2c3d"}, "key 'cheksum' means nothing here; is 'checksum' meant"),
        ({"adler32": "0a1b2c3d"}, "key 'adler32'; write 'checksum': 'adler32:0a1b2c3d'"),
        ({"nevents": 3}, "key 'nevents' means nothing here; is 'nevts' meant"),
    ],
)
def test_a12_checksums_that_say_nothing_are_refused(run, keys, message):
    with pytest.raises(InputError, match=message):
        source_files(run(signal=[{"path": "a.root", **keys}]))


def test_a12_a_new_checksum_makes_columns_anew(run, tmp_path):
    entry = write(tmp_path, "a.root")
    settings = run(signal=[entry])
    (file,) = (f for f in source_files(settings) if f.sample == "signal")
    made_of = [columns_of(settings, file)[1]]
    assert outdated(settings, alone(file), made_of) is None
    other = dataclasses.replace(file, checksum="adler32:00000001")
    assert "checksum was None" in outdated(settings, alone(other), made_of)
    longer = dataclasses.replace(file, promised=401)
    assert "promised was 400" in outdated(settings, alone(longer), made_of)


def test_a14_a_key_twice_in_json_is_refused(run, tmp_path):
    one = '{"nominal": {"files": [{"path": "a.root"}]}}'
    manifest = tmp_path / "manifest.json"
    settings = run()
    for text, key in (
        (f'{{"signal": {one}, "background": {one}, "signal": {one}}}', "signal"),
        (f'{{"background": {one}, "signal": {one[:-1]}, "nominal": {{}}}}}}', "nominal"),
    ):
        manifest.write_text(text)
        with pytest.raises(InputError, match=rf"manifest\.json is not JSON: it gives the key '{key}' twice"):
            source_files(settings)
    manifest.write_text('[{"a": 1, "b": [{"c": 1, "c": 1}]}]')
    with pytest.raises(InputError, match="the key 'c' twice"):
        store.read_json(manifest)


def links(path):
    """The same file under other names: its path in other words, a link of each kind."""
    link, hard = path.with_name("link.root"), path.with_name("hard.root")
    link.symlink_to(path)
    os.link(path, hard)
    return [str(path), f"{path.parent}/../{path.parent.name}/{path.name}", str(link), str(hard)]


def test_a15_one_file_twice_is_an_error_before_anything_is_read(run, tmp_path):
    path = tmp_path / "a.root"
    shutil.copy(tmp_path / "signal.root", path)
    for name in links(path):
        both = {"signal": [{"path": str(path)}], "background": [{"path": name}]}
        with pytest.raises(
            InputError, match=r"signal/nominal: .*a\.root is read twice,.* for background/nominal"
        ):
            source_files(run(**both))
        assert len(source_files(run("data.allow_repeated=true", **both))) == 2
    with pytest.raises(InputError, match=r"signal/nominal: .*hard\.root is read twice, .* as .*a\.root"):
        source_files(
            run(
                signal=[{"path": str(path)}, {"path": f"{tmp_path}/hard.root"}],
                background=[{"path": "b.root"}],
            )
        )


def rewritten(source, path):
    """Another file of the same events, as `hadd` makes it."""
    with uproot.open(source) as old, uproot.recreate(path, compression=uproot.LZ4(1)) as new:
        content = {name: old["events"][name].array() for name in rootfiles.arrays(1)}
        new.mktree("events", {n: rootfiles._type(n, a) for n, a in content.items()})
        new["events"].extend(content)


@pytest.mark.parametrize("again", [shutil.copy, rewritten])
@pytest.mark.parametrize("sample", ["signal", "background"])
def test_a15_the_same_events_under_another_name_are_an_error(run, tmp_path, sample, again):
    entry = write(tmp_path, "a.root")
    again(entry["path"], tmp_path / "b.root")
    copy = {"path": str(tmp_path / "b.root")}  # without a promise: read in other ranges
    files = {"signal": [entry, copy]} if sample == "signal" else {"signal": [entry], "background": [copy]}
    with pytest.raises(InputError, match=r"'signal'.*[ab]\.root and .*[ab]\.root hold the same 400 events"):
        predicted(run("data.max_events_per_job=150", **files), tmp_path)
    assert predicted(run("data.allow_repeated=true", **files), tmp_path) > 0


def test_a15_other_events_may_be_alike(run, tmp_path, monkeypatch):
    """Files made in one way, with equal numbers, equal UUIDs even; or of toy events that do not differ."""
    flat = dict.fromkeys(("x", "w"), np.ones(EVENTS, np.float32)) | {
        "jets": rootfiles.ak.Array([[]] * EVENTS)
    }
    flat["jets"] = rootfiles.ak.values_astype(flat["jets"], np.float32)
    toys = [write(tmp_path, f"toy{i}.root", **flat) for i in range(2)]
    assert predicted(run(signal=toys), tmp_path) == 2 * EVENTS
    fixed = uuid.UUID(int=7)
    monkeypatch.setattr(uproot, "recreate", functools.partial(uproot.recreate, uuid_function=lambda: fixed))
    one, two = write(tmp_path, "a.root", seed=3), write(tmp_path, "b.root", seed=4)
    assert uproot.open(one["path"]).file.uuid == uproot.open(two["path"]).file.uuid == fixed
    assert predicted(run(signal=[one, two]), tmp_path) > 0


def test_b_a_promise_of_endless_events_is_refused(run, tmp_path):
    with pytest.raises(
        InputError, match=r"a\.root promises 10+ events, .* jobs of data\.max_events_per_job: 200000"
    ):
        source_files(run(signal=[{"path": "a.root", "nevts": 10**18}]))
    plan = "{files: 1000000000000, events_per_file: 10}"
    with pytest.raises(ConfigError, match=r"simulate\.samples\.signal\.files.*less than or equal to 100000"):
        run("data.manifest=null", f"simulate={{samples: {{signal: {plan}, background: {plan}}}}}")


def test_b_a_missing_file_says_where_data_come_from(run):
    settings = run(signal=[{"path": "nowhere.root"}])
    (file,) = (f for f in source_files(settings) if f.sample == "signal")
    with pytest.raises(
        UnreadableFile, match=r"nowhere\.root does not exist here .*data\.prefixes; .* docs/data\.md"
    ):
        columns_of(settings, file)
    with pytest.raises(UnreadableFile, match="run `simulate` first"):
        columns_of(settings, dataclasses.replace(file, simulated=True))


def manifest_of(*arguments):
    """Exit code of the verb `manifest`."""
    with pytest.raises(SystemExit) as caught:
        main(["manifest", "--output", "m.json", *map(str, arguments)])
    return caught.value.code


def test_verb_manifest_lists_events_checksums_and_sums(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    w = signed()
    for number in (2, 1):
        write(tmp_path, f"nlo{number}.root", seed=number, w=w, genWeight=w)
    with_runs(write(tmp_path, "skim.root", w=w), [5e4, 5e4])
    flat = ["--tree", "events", "--process", "background", "background.root"]
    files = [
        "--process",
        "signal",
        "nlo[12].root",
        "skim.root",
        "--process",
        "signal__up",
        tmp_path / "signal.root",
    ]
    assert manifest_of(*flat, *files) == 0
    found = json.loads((tmp_path / "m.json").read_text())
    assert list(found) == ["background", "signal"]
    assert found["background"]["nominal"]["files"] == [
        {"path": "background.root", "nevts": 200, "checksum": adler32_of("background.root")}
    ]
    signal = found["signal"]["nominal"]
    assert [file["path"] for file in signal["files"]] == ["nlo1.root", "nlo2.root", "skim.root"]
    assert [file["sumw"] for file in signal["files"]] == [w.sum(dtype=float)] * 2 + [1e5]
    assert signal["nevts_total"] == 3 * EVENTS
    assert signal["sumw_total"] == 2 * w.sum(dtype=float) + 1e5
    assert found["signal"]["up"]["nevts_total"] == 200
    settings = run(*GENERATED, "data.manifest=m.json")
    total = predicted(settings, tmp_path)  # the manifest as it was written is a run's
    np.testing.assert_allclose(total, PB * LUMINOSITY * 3 * w.sum() / (2 * w.sum() + 1e5), rtol=1e-6)


def adler32_of(name):
    return f"adler32:{zlib.adler32(Path(name).read_bytes()):08x}"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give either CONFIG, .* or --process NAME FILES"),
        (["tiny.yaml", "--process", "s", "signal.root"], "give either CONFIG"),
        (["--process", "s"], "--process s: name its files behind it"),
        (["--process", "s/t", "signal.root"], "'s/t' is no name of a sample"),
        (["--process", "s__nominal", "signal.root"], "'s__nominal' is no name of a sample"),
        (["--process", "s", "no*.root"], r"--process s: 'no\*\.root' matches no file; correct the pattern"),
        (["--process", "s", "no.root"], r"'no\.root' matches no file"),
        (["--process", "s", "."], r"'\.' matches no file, only \."),
        (
            ["--process", "s", "signal.root", "--process", "s", "background.root"],
            "--process s is given twice",
        ),
        (
            ["--process", "s", "signal.root", "./si*.root"],
            r"signal\.root is .*signal\.root of --process s, the same",
        ),
        (
            ["--process", "s", "signal.root", "--process", "b", "copy.root"],
            r"copy\.root is signal\.root of --process s",
        ),
        (["--process", "s", "tiny.py"], r"tiny\.py cannot be read: it is truncated, damaged or no ROOT file"),
        (["--process", "s", "http://127.0.0.1:9/a.root"], r"a\.root cannot be read"),
        (["--tree", "evnts", "--process", "s", "signal.root"], "nearest: 'events'; the options are --tree"),
        (
            ["--generator-weight", "ww", "--process", "s", "signal.root"],
            "'ww' is not in tree .*; the options are",
        ),
    ],
)
def test_verb_manifest_refuses(run, tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    shutil.copy("signal.root", "copy.root")
    tree = [] if "--tree" in arguments else ["--tree", "events"]
    assert manifest_of(*arguments, *tree) == 1
    text = capsys.readouterr().err
    assert re.search(says, text, re.DOTALL), text
    assert "Traceback" not in text
    assert not Path("m.json").exists()


def test_verb_manifest_takes_what_is_repeated_where_that_is_meant(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy("signal.root", "copy.root")
    both = ["--tree", "events", "--checksum", "sha256", "--process", "s", "signal.root", "copy.root"]
    assert manifest_of("--allow-repeated", *both) == 0
    one, two = json.loads(Path("m.json").read_text())["s"]["nominal"]["files"]
    assert (
        one["checksum"]
        == two["checksum"]
        == f"sha256:{hashlib.sha256(Path('copy.root').read_bytes()).hexdigest()}"
    )


def test_a14_a_workspace_with_a_key_twice_is_refused(tmp_path):
    path = tmp_path / "workspace.json"
    path.write_text(
        '{"channels": [], "observations": [], "measurements": [], "channels": [], "version": "1.0.0"}'
    )
    with pytest.raises(InputError, match=r"workspace\.json is not JSON: it gives the key 'channels' twice"):
        HistFactory.from_workspace(path)
