"""What a ROOT file can do to us, whose fault an exception is: the rows A21 and B of what was found in use."""

import json
import os
import pickle
import re
from pathlib import Path

import awkward as ak
import jax.numpy as jnp
import numpy as np
import pytest
import rootfiles
import uproot
from columnfiles import columns_of, source_files
from messages import heard

from pipeline import analysis as contract
from pipeline import config
from pipeline.analysis import Analysis, FlatTree, Free, NanoAOD, Simulated, Transform, WeightFactor
from pipeline.cli import main
from pipeline.columns import rootfile
from pipeline.columns.one_file import read_events
from pipeline.columns.rootfile import UnreadableFile
from pipeline.containers import Columns, Parameters
from pipeline.data import datasets
from pipeline.data.jobs import SourceFile
from pipeline.errors import AnalysisError, ConfigError, InputError, Noting
from pipeline.gradient.black_box import _called
from pipeline.optimise.parameters import initial_parameters
from pipeline.relax import Exact
from pipeline.templates.variations import Observer, families, observe

COUNTS = [2, 0, 1, 3]


def read(path, analysis):
    """All events of a file, one fold."""
    return read_events(SourceFile("a", str(path)), analysis, held_out_fraction=0.0)[0][datasets.TRAIN]


# A21: whose fault an exception is


@pytest.mark.parametrize("leave_out", ["fail", "leave_out"])
def test_a21_an_error_of_columns_is_the_users_and_drops_no_file(leave_out, tmp_path, capsys):
    rootfiles.write_run(tmp_path)
    target = rootfiles.write_analysis(tmp_path, "own.py", columns="return len(3)")
    overrides = [f"analysis.target={target}", f"data.unreadable_files={leave_out}"]
    settings = config.load(tmp_path / "tiny.yaml", overrides)
    (file, *_) = source_files(settings)
    with pytest.raises(
        AnalysisError, match=rf"TypeError in Tiny\.columns\(.*{tmp_path}/own\.py, line 17: return"
    ):
        columns_of(settings, file)
    place = ["--sample", "signal", "--index", "0", "--output", str(tmp_path / "out.parquet")]
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "columns",
                str(tmp_path / "tiny.yaml"),
                *place,
                *(word for o in overrides for word in ("--set", o)),
            ]
        )
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert "error: TypeError in Tiny.columns(events, 'signal')" in said
    assert "Traceback" not in said
    assert "left out" not in said
    assert not (tmp_path / "out.parquet").exists()


def test_a21_it_travels_between_processes():
    error = pickle.loads(pickle.dumps(AnalysisError("said", "Traceback ...")))
    assert (str(error), error.details) == ("said", "Traceback ...")


def test_a21_an_error_of_the_user_is_not_tried_again_as_a_remote_file_would_be():
    def fails():
        raise AnalysisError("own") from ConnectionError("of the user's own code")

    with heard() as tries, pytest.raises(AnalysisError):
        rootfile.retried(SourceFile("a", "https://host/a.root"), 4)(fails)
    assert not tries


class Failing(Analysis):
    """Every method fails."""

    reads = FlatTree(("x",))
    parameters = {"cut": Free(0.5, (0.0, 1.0))}  # noqa: RUF012
    simulated = Simulated(("cut",), ("weight",), ("y",))

    def columns(self, events, dataset):
        return 1 / 0

    def observe(self, p, c, relax):
        return c.no_such_column

    def variations(self):
        return {
            "x_up": Transform(lambda c: {"weight": [][0]}),
            "w_up": WeightFactor(lambda p, c, relax: {}["factor"]),
        }

    def simulate(self, p, c, rng):
        raise OSError("no generator here")


def of_observe(analysis, variation=None):
    observer, c = Observer(analysis, [], Parameters({}), Exact()), Columns({"weight": jnp.ones(2)})
    if variation is None:
        return observe(observer, c)
    return families(observer, [variation], c)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            of_observe,
            "AttributeError in Failing.observe(p, c, relax): no 'no_such_column' here; there are: weight",
        ),
        (lambda a: of_observe(a, "x_up"), "IndexError in variation 'x_up' of Failing:"),
        (lambda a: of_observe(a, "w_up"), "KeyError in variation 'w_up' of Failing: 'factor'"),
        (
            lambda a: _called(a, a.simulated, [0.5], {"weight": np.ones(2)}, np.random.default_rng(1)),
            "OSError in Failing.simulate(p, c, rng) of 2 events at {'cut': 0.5}: no generator here",
        ),
    ],
)
def test_a21_every_method_names_itself_and_its_line(call, message):
    with pytest.raises(AnalysisError, match=re.escape(message) + rf".*; {__file__}, line \d+: "):
        call(Failing())


@pytest.mark.parametrize(
    ("head", "within", "error", "message"),
    [
        (
            "import no_such_package",
            "",
            AnalysisError,
            "ModuleNotFoundError in {path}, imported for analysis.target",
        ),
        ("1 / 0", "", AnalysisError, "ZeroDivisionError in {path}, imported for analysis.target"),
        ("def broken(:", "", AnalysisError, "SyntaxError in {path}, imported for analysis.target"),
        ("", "def __init__(self): {}['key']", AnalysisError, "KeyError in Tiny(): 'key'; {path}, line"),
        ("", "def init(self, key): return key.missing", AnalysisError, "AttributeError in Tiny.init(key)"),
        (
            "",
            "def init(self, key): return None",
            ConfigError,
            "Tiny.init(key) returns None (NoneType); it must",
        ),
        ("", "def variations(self): [][0]", AnalysisError, "IndexError in Tiny.variations()"),
        (
            "",
            "def variations(self): pass",
            ConfigError,
            "Tiny.variations() returns None (NoneType); it must return",
        ),
        ("", "def shifts(self): pass", ConfigError, "Tiny.shifts: analyses have no such hook any more"),
        (
            "",
            "parameters = None",
            ConfigError,
            "Tiny.parameters is None (NoneType); it must be {{name: Free(",
        ),
        ("", "reads = ('x',)", ConfigError, "Tiny.reads is ('x',) (tuple); it must be NanoAOD("),
        (
            "",
            "weight_variations = ('up',)",
            ConfigError,
            "Tiny.weight_variations: analyses have no such hook",
        ),
    ],
)
def test_a21_an_analysis_that_cannot_start(head, within, error, message, tmp_path):
    path = tmp_path / "own.py"
    text = f"from pipeline.analysis import Analysis, FlatTree, Free\n{head}\nclass Tiny(Analysis):\n"
    path.write_text(f"{text}    reads, parameters = FlatTree(('x',)), {{}}\n    {within}\n")
    settings = config.load(rootfiles.write_run(tmp_path))
    settings = settings.model_copy(
        update={"analysis": settings.analysis.model_copy(update={"target": f"{path}:Tiny"})}
    )
    with pytest.raises(error, match=re.escape(message.format(path=path))):
        started(settings)


def started(settings):
    """What every verb asks of an analysis first."""
    initial_parameters(settings)
    return contract.load(settings.analysis.target).variation_names


def test_a21_damaged_offsets_are_the_files_fault(tmp_path):
    """Offsets that go back: uproot makes an array of them, and awkward notices in the analysis, if ever."""
    content = rootfiles.arrays(50)
    path = tmp_path / "a.root"
    with uproot.recreate(path, compression=None) as file:
        file.mktree("events", {"number": "int64", "x": "float32", "w": "float32", "jets": "var * float32"})
        file["events"].extend(content)
    data = bytearray(path.read_bytes())
    steps = 4 * ak.to_numpy(ak.num(content["jets"]))
    place = next(
        p for p in range(len(data) - 200) if np.all(np.diff(np.frombuffer(data, ">i4", 50, p)) == steps[:-1])
    )
    data[place + 40 : place + 44] = (2**30).to_bytes(4, "big")
    path.write_bytes(data)
    analysis = contract.load(rootfiles.write_analysis(tmp_path, "own.py"))
    with pytest.raises(UnreadableFile, match=r"a\.root cannot be read: it is truncated, damaged"):
        read(path, analysis)


def test_a21_counters_that_contradict_their_objects_are_the_files_fault(tmp_path):
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("Events", {"event": "int64", "nJet": "int32", "Jet_pt": "var * float32"})
        pt = ak.unflatten(np.arange(6, dtype=np.float32), COUNTS)
        file["Events"].extend({"event": np.arange(4), "nJet": np.int32([2, 1, 0, 3]), "Jet_pt": pt})
    with pytest.raises(UnreadableFile, match="branch 'Jet_pt' has other numbers of objects than 'nJet' says"):
        read(tmp_path / "a.root", Jets())


# B: NanoAOD as RNTuple, branches without a rule, groups, incomplete vectors


class Jets(Analysis):
    """Sums over the jets of an event, of NanoAOD."""

    parameters = {}  # noqa: RUF012

    def __init__(self, branches=("Jet_pt",), made=lambda e: {"pt": ak.sum(e.Jet.pt, axis=1)}):
        self.reads = NanoAOD(branches)
        self._made = made

    def columns(self, events, dataset):
        return {"weight": np.ones(len(events)), **self._made(events)}


JETS = ("Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass", "MET_pt", "MET_phi")


def layouts():
    """The same events as a TTree of NanoAOD, and as the RNTuples that programs make of it."""
    rng = np.random.default_rng(1)
    jets = {
        n: ak.unflatten(rng.uniform(1, 2, 6).astype(np.float32), COUNTS) for n in ("pt", "eta", "phi", "mass")
    }
    met = {n: rng.uniform(1, 2, 4).astype(np.float32) for n in ("pt", "phi")}
    flat = {"event": np.arange(4) + 10, **{f"MET_{n}": a for n, a in met.items()}}
    named = {f"Jet_{n}": a for n, a in jets.items()}
    return {
        "counters": {**flat, "nJet": np.int32(COUNTS), **named},
        "no counters": {**flat, **named},
        "collections": {"event": flat["event"], "Jet": ak.zip(jets), "MET": ak.zip(met)},
        "importer": {**flat, "_collection0": ak.zip(named)},
    }, {**flat, "Jet": ak.zip(jets)}


@pytest.mark.parametrize("layout", ["counters", "no counters", "collections", "importer"])
def test_b_rntuple_nanoaod_gives_the_events_of_the_ttree(layout, tmp_path):
    made, tree = layouts()
    with uproot.recreate(tmp_path / "ttree.root") as file:
        file.mktree("Events", {n: a.type if isinstance(a, ak.Array) else a.dtype for n, a in tree.items()})
        file["Events"].extend(tree)
    with uproot.recreate(tmp_path / "rntuple.root") as file:
        file.mkrntuple("Events", made[layout])

    def sums(events):
        jets = {"px": ak.sum(events.Jet.px, axis=1), "mass": events.Jet.sum(axis=1).mass}
        return {"met": events.MET.px, "number": events.event, "pt": ak.sum(events.Jet.pt, axis=1), **jets}

    found, expected = (read(tmp_path / f"{kind}.root", Jets(JETS, sums)) for kind in ("rntuple", "ttree"))
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    np.testing.assert_allclose(found["pt"], ak.sum(tree["Jet"].pt, axis=1), rtol=1e-6)


def test_b_rntuple_branches_of_other_numbers_of_objects(tmp_path):
    pt = ak.unflatten(np.arange(6, dtype=np.float32), COUNTS)
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mkrntuple("Events", {"event": np.arange(4), "Jet_pt": pt, "Jet_eta": pt[::-1]})
    with pytest.raises(
        InputError, match=r"branch 'Jet_eta' of .* other numbers of objects than others of its"
    ):
        read(tmp_path / "a.root", Jets(("Jet_pt", "Jet_eta")))


@pytest.mark.parametrize("kind", ["mktree", "mkrntuple"])
def test_an_optional_branch_is_read_where_it_is(kind, tmp_path):
    """A tagger that one file has and another lacks; and what all must have is still asked for."""
    pt = ak.unflatten(np.arange(6, dtype=np.float32), COUNTS)
    flat = {"event": np.arange(4), "nJet": np.int32(COUNTS), "Jet_pt": pt}
    files = {"new": {**flat, "Jet_tag": 2 * flat["Jet_pt"]}, "old": flat}
    for name, content in files.items():
        with uproot.recreate(tmp_path / f"{name}.root") as file:
            getattr(file, kind)(
                "Events",
                content
                if kind == "mkrntuple"
                else {n: a.type if isinstance(a, ak.Array) else a.dtype for n, a in content.items()},
            )
            if kind == "mktree":
                file["Events"].extend(content)

    def made(events):
        tag = events.Jet.tag if "tag" in events.Jet.fields else -events.Jet.pt
        return {"tag": ak.sum(tag, axis=1)}

    reading = Jets(("Jet_pt",), made)
    reading.reads = NanoAOD(("Jet_pt",), optional=("Jet_tag", "Jet_other"))
    for name, factor in (("new", 2), ("old", -1)):
        found = read(tmp_path / f"{name}.root", reading)
        np.testing.assert_allclose(found["tag"], factor * ak.sum(flat["Jet_pt"], axis=1))
    reading.reads = NanoAOD(("Jet_pt", "Jet_tag"))
    with pytest.raises(
        InputError, match=r"branch 'Jet_tag' not in tree .*; if some files lack it, name it in `optional`"
    ):
        read(tmp_path / "old.root", reading)


def test_a_muon_is_a_vector_with_its_charge(tmp_path):
    """Without it pt alone is read, where coffea would refuse even that."""
    names = [f"Muon_{name}" for name in ("pt", "eta", "phi", "mass", "charge")]
    jagged = {name: ak.unflatten(np.arange(1, 7, dtype=np.float32), COUNTS) for name in names}
    content = {"event": np.arange(4), "nMuon": np.int32(COUNTS), **jagged}
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("Events", {n: a.type if isinstance(a, ak.Array) else a.dtype for n, a in content.items()})
        file["Events"].extend(content)
    found = read(tmp_path / "a.root", Jets(tuple(names[:4]), lambda e: {"pt": ak.sum(e.Muon.pt, axis=1)}))
    np.testing.assert_allclose(found["pt"], ak.sum(jagged["Muon_pt"], axis=1))
    sums = lambda e: {"px": ak.sum(e.Muon.px, axis=1)}  # noqa: E731
    with pytest.raises(AnalysisError, match="Muon is no vector, for that add Muon_charge to branches"):
        read(tmp_path / "a.root", Jets(tuple(names[:4]), sums))
    assert read(tmp_path / "a.root", Jets(tuple(names), sums))["px"].shape == (4,)


def test_b_vector_without_its_coordinates(tmp_path):
    """The branch alone is read; what needs a vector says which branches to add."""
    _, tree = layouts()
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("Events", {n: a.type if isinstance(a, ak.Array) else a.dtype for n, a in tree.items()})
        file["Events"].extend(tree)
    found = read(tmp_path / "a.root", Jets())
    np.testing.assert_allclose(found["pt"], ak.sum(tree["Jet"].pt, axis=1), rtol=1e-6)
    for use in (lambda e: e.Jet.px, lambda e: (e.Jet + e.Jet).pt, lambda e: e.Jet.delta_r(e.Jet)):
        with pytest.raises(
            AnalysisError, match="add Jet_eta, Jet_phi, Jet_mass to branches, or use FlatTree"
        ):
            read(tmp_path / "a.root", Jets(made=lambda e, use=use: {"x": ak.sum(use(e), axis=1)}))


# scikit-hep-testdata's uproot-issue-1229.root (BSD 3-Clause): a class with pointers, split into branches
POINTERS = Path(__file__).parent / "pointers.root"


@pytest.mark.parametrize(
    ("branch", "said"),
    [
        (
            "branch",
            "is a group; read what it holds: 'branch/TObject', 'branch/pointer', 'branch/const_pointer'",
        ),
        (
            "pointer",
            "holds 'TFooMember*', which uproot cannot read as arrays (arbitrary pointer); read other",
        ),
        (
            "branch/pointer",
            "holds 'TFooMember*', which uproot cannot read as arrays (arbitrary pointer); read",
        ),
    ],
)
@pytest.mark.parametrize("leave_out", ["fail", "leave_out"])
def test_b_group_and_pointer_branches_of_a_sound_file(branch, said, leave_out, tmp_path):
    path = rootfiles.write_run(tmp_path)
    text = (tmp_path / "tiny.py").read_text()
    (tmp_path / "own.py").write_text(
        re.sub(r"reads = .*", f"reads = FlatTree(tree='tree', branches=('{branch}',))", text)
    )
    manifest = {name: {"nominal": {"files": [{"path": str(POINTERS)}]}} for name in ("signal", "background")}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    target = f"analysis.target={tmp_path}/own.py:Tiny"
    settings = config.load(path, [target, f"data.unreadable_files={leave_out}"])
    file = SourceFile("signal", str(POINTERS))
    with pytest.raises(InputError, match=re.escape(f"branch {branch!r} in tree 'tree' of {POINTERS} {said}")):
        columns_of(settings, file)


def test_b_group_members_are_read_by_either_name(tmp_path):
    for name in ("branch/TObject/fBits", "fBits"):
        source, reads = SourceFile("a", str(POINTERS)), FlatTree((name,), tree="tree")
        with rootfile.opened(source, reads) as root:
            events, _ = rootfile.events(source, reads, root, 0, 1)
        assert events[name].to_list() == [33554432]  # TObject::kNotDeleted


def test_b_a_branch_without_a_rule(tmp_path):
    path = tmp_path / "a.root"
    with uproot.recreate(path, compression=None) as file:
        file.mktree("events", {"x": "float64", "y": "float32"})
        file["events"].extend({"x": np.arange(3.0), "y": np.arange(3, dtype=np.float32)})
    path.write_bytes(path.read_bytes().replace(b"TLeafD", b"TLeafX"))  # a class that uproot does not know
    source = SourceFile("a", str(path))
    said = (
        r"branch 'x' in tree 'events' of .* which uproot cannot read as arrays \(none of the rules matched\)"
    )
    with pytest.raises(InputError, match=said), rootfile.opened(source, FlatTree(("x",))):
        pass
    with rootfile.opened(source, FlatTree(("y",))) as root:
        assert rootfile.events(source, FlatTree(("y",)), root, 0, 3)[0].y.to_list() == [0.0, 1.0, 2.0]


def test_b_names_places_and_cycles(tmp_path):
    """Names that are no Python names, a tree in a folder, a cycle, a folder in place of a tree."""
    names = ("pt-x", "a.b", "1st", "pt[GeV]")
    with uproot.recreate(tmp_path / "a.root") as file:
        for scale in (1, 2):
            file.mktree("d/Events", dict.fromkeys(names, "float32"))
            file["d/Events"].extend({n: scale * np.arange(3, dtype=np.float32) for n in names})
    for tree, scale in (("d/Events", 2), ("d/Events;2", 2), ("d/Events;1", 1)):
        source, reads = SourceFile("a", str(tmp_path / "a.root")), FlatTree(names, tree=tree)
        with rootfile.opened(source, reads) as root:
            events, _ = rootfile.events(source, reads, root, 1, 3)
        assert all(events[name].to_list() == [scale * 1.0, scale * 2.0] for name in names)
    for tree, said in (
        ("d", "'d' is a TDirectory there"),
        ("Events", "no tree 'Events' there; nearest: 'd/Events'"),
    ):
        with pytest.raises(InputError, match=said), rootfile.opened(source, FlatTree(names, tree=tree)):
            pass


def test_b_isal_is_chosen_by_the_program_and_gives_the_same(tmp_path):
    path = rootfiles.write(tmp_path / "a.root")
    analysis = contract.load(rootfiles.write_analysis(tmp_path, "own.py"))
    before = read(path, analysis)
    rootfile.decompress_faster()
    for name, array in read(path, analysis).items():
        np.testing.assert_array_equal(array, before[name])


def test_b_a_fifo_in_place_of_a_file_does_not_wait(tmp_path):
    os.mkfifo(tmp_path / "fifo.root")
    with pytest.raises(UnreadableFile, match=r"fifo\.root is no file"):
        read(tmp_path / "fifo.root", Jets())


class Strange(BaseException):
    """No `Exception`, and without words."""

    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SystemExit(0), "SystemExit in Tiny.observe: 0"),
        (GeneratorExit(), "GeneratorExit in Tiny.observe: no message"),
        (Strange(), "Strange in Tiny.observe: its own text cannot be made"),
    ],
)
def test_a21_whatever_the_own_code_raises_is_its_own(error, said):
    """Also what would end the process without a word."""
    with pytest.raises(AnalysisError, match=re.escape(said)), Noting("in Tiny.observe"):
        raise error
