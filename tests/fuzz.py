"""Damages the files that the program reads and counts what its own readers make of them.

ROOT files of every compression, TTrees and RNTuples, with and without a checksum in the manifest; column files
(Parquet), states (npz), manifests, evaluations and workspaces (JSON), configurations (YAML). Bytes are flipped,
zeroed, exchanged, replaced by others or cut off; texts are also damaged by their structure. Each case is read in a
process of its own, with limits on memory and time. From the repository: `.venv/bin/python tests/fuzz.py --cases 500`.

refused: an error of ours, one sentence. same: what was hit is not read. different: another result, without a word; for
bytes that nothing could notice it is `undetectable` instead: there is no checksum in the format and none in the
manifest, or a text is another text as right as the first. traceback: any other exception, or a crash. hang: no end.
"""

import argparse
import collections
import contextlib
import copy
import functools
import hashlib
import json
import os
import pickle
import random
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import jax
import numpy as np
import uproot
import yaml

sys.path.insert(0, str(Path(__file__).parent / "support"))
import contracts
import rootfiles
from columnfiles import columns_of, source_files

from pipeline import analysis, config
from pipeline.columns import pad
from pipeline.data import column_file, store
from pipeline.errors import ThalwegError
from pipeline.evaluate.evaluation import read, write
from pipeline.likelihood import HistFactory

CODECS = {
    "none": None,
    "zlib": uproot.ZLIB(1),
    "lzma": uproot.LZMA(1),
    "lz4": uproot.LZ4(1),
    "zstd": uproot.ZSTD(1),
}
UNCHECKED = ("none", "lz4", "zstd")  # compressions whose blocks uproot does not check
MEMORY = 4 << 30  # bytes that a reader may take; the events are some kilobytes
OUTCOMES = ("refused", "same", "undetectable", "different", "traceback", "hang")
BAD = ("different", "traceback", "hang")
SHOWN = 3  # bad cases of a kind that are shown
NANO = """
import awkward as ak
import numpy as np
from pipeline.analysis import Analysis, NanoAOD


class Nano(Analysis):
    reads = NanoAOD(("Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass", "MET_pt"))
    parameters = {}

    def columns(self, events, dataset):
        jets = {"px": ak.sum(events.Jet.px, axis=1), "mass": ak.sum(events.Jet.mass, axis=1)}
        return {"weight": np.ones(len(events)), "met": events.MET.pt, **jets}
"""


class Kind(NamedTuple):
    """A file, its sound content, what reads it, what damages it, and the damages that nothing could notice."""

    name: str
    path: Path
    content: bytes
    read: Callable[[], Any]
    damages: tuple[Callable[[random.Random, bytes], bytes], ...]
    undetectable: tuple[str, ...] = ()
    refusals: tuple[type[Exception], ...] = (ThalwegError,)


# What damages bytes


def flip(rng, data):
    """One bit."""
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def flips(rng, data):
    """Up to 20 bits."""
    return functools.reduce(lambda found, _: flip(rng, found), range(rng.randrange(2, 21)), data)


def _block(rng, data, most=4096):
    place = rng.randrange(len(data))
    return place, min(len(data), place + rng.randrange(1, most))


def zeros(rng, data):
    """A block of zeros."""
    start, stop = _block(rng, data)
    return data[:start] + bytes(stop - start) + data[stop:]


def garbage(rng, data):
    """A block of random bytes."""
    start, stop = _block(rng, data)
    return data[:start] + rng.randbytes(stop - start) + data[stop:]


def ones(rng, data):
    """Four or eight bytes of the largest, or the smallest, number: lengths, counts and offsets."""
    place = rng.randrange(max(1, len(data) - 8))
    size = rng.choice((2, 4, 8))
    number = rng.choice((b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x80" + bytes(7)))[:size]
    return data[:place] + number + data[place + size :]


def swapped(rng, data):
    """Two blocks in each other's place."""
    size = rng.randrange(1, max(2, len(data) // 4))
    first = rng.randrange(max(1, len(data) - 2 * size))
    second = rng.randrange(first + size, max(first + size + 1, len(data) - size))
    a, b = data[first : first + size], data[second : second + size]
    return data[:first] + b + data[first + size : second] + a + data[second + size :]


def cut(rng, data):
    """The end is missing."""
    return data[: rng.randrange(len(data))]


def longer(rng, data):
    """Bytes that do not belong there, at the end or within."""
    place = rng.choice((len(data), rng.randrange(len(data))))
    return data[:place] + rng.randbytes(rng.randrange(1, 300)) + data[place:]


def replaced(rng, data):
    """Nothing, or nothing of it."""
    return rng.choice((b"", rng.randbytes(len(data)), b"no such file, but text\n" * 50, bytes(len(data))))


BYTES = (flip, flips, zeros, garbage, ones, swapped, cut, longer, replaced)


# What damages the structure of JSON and YAML


def _nodes(content, path=()):
    """Paths of everything in nested mappings and lists."""
    items = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for key, value in items:
        yield (*path, key)
        yield from _nodes(value, (*path, key))


def _changed(rng, content, change, fits=lambda path, value: True):
    """A copy in which one value that fits is another."""
    found = copy.deepcopy(content)
    paths = [path for path in _nodes(found) if fits(path, _at(found, path))]
    path = rng.choice(paths)
    _at(found, path[:-1])[path[-1]] = change(_at(found, path))
    return found


def _at(content, path):
    return functools.reduce(lambda of, key: of[key], path, content)


def _wrong_type(value):
    """Something that no reader takes for the value."""
    wrong = {dict: [True], list: {"a": [1]}, str: {"b": 2}, bool: [[]]}
    return next((w for kind, w in wrong.items() if isinstance(value, kind)), {"c": []})


def _texts(load, dump, free):
    """Damages of a text by its structure; `free` are keys under which anything may stand."""

    def bound(path, value):
        return value is not None and not set(path) & set(free)

    def types(rng, data):
        """A value of another type."""
        return dump(_changed(rng, load(data), _wrong_type, bound))

    def truths(rng, data):
        """A truth value for a number."""
        is_number = lambda path, v: bound(path, v) and isinstance(v, int | float) and not isinstance(v, bool)  # noqa: E731
        return dump(_changed(rng, load(data), lambda value: rng.choice((True, False)), is_number))

    def huge(rng, data):
        """A number of thousands of digits, or one that is none."""
        made = dump(_changed(rng, load(data), lambda value: "NUMBER", bound))
        return made.replace(b'"NUMBER"', b"NUMBER").replace(
            b"NUMBER",
            rng.choice((b"9" * 5000, b"-1" + b"0" * 4400, b"[" * 5000, b"{" * 5000, b"\x00", b"\xff\xfe")),
        )

    def nested(rng, data):
        """Hundreds to thousands of levels."""
        deep = rng.choice((400, 3000, 100_000))
        made = dump(_changed(rng, load(data), lambda value: "DEEP", bound))
        return made.replace(b'"DEEP"', b"DEEP").replace(b"DEEP", b"[" * deep + b"]" * deep)

    def unknown(rng, data):
        """A key that does not exist."""
        found = load(data)
        places = [()] + [p for p in _nodes(found) if isinstance(_at(found, p), dict) and bound(p, 1)]
        _at(found, rng.choice(places))["no_such_key"] = rng.choice((1, "x", [], {}))
        return dump(found)

    def encoded(rng, data):
        """Another encoding, a byte that is no text, a NUL, a lone surrogate."""
        text = data.decode()
        place = rng.randrange(len(data))
        return rng.choice(
            (
                text.encode("utf-16"),
                text.encode("utf-32"),
                data[:place] + b"\xe9\xff" + data[place:],
                data[:place] + b"\x00" + data[place:],
                data[:place] + b"\xed\xa0\x80" + data[place:],
            )
        )

    return {f.__name__: f for f in (types, truths, huge, nested, unknown, encoded)}


def twice(rng, data):
    """A line of JSON or YAML once more: a key twice."""
    lines = data.splitlines(keepends=True)
    keyed = [i for i, line in enumerate(lines) if line.rstrip().endswith((b",", b":")) or b": " in line]
    chosen = rng.choice(keyed)
    return b"".join([*lines[: chosen + 1], lines[chosen], *lines[chosen + 1 :]])


def bombs(rng, data):
    """Aliases that stand for millions of values, under a key that exists."""
    wide = ", ".join(["*a0"] * 9)
    levels = "".join(f"  - &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(rng.choice((4, 9, 30))))
    text = f"  - &a0 [x, x, x]\n{levels}  - [{wide}]\n".encode()
    return rng.choice((b"channels:\n", b"data:\n", b"widths:\n")) + text + data


# The kinds


def _digest(value: Any) -> str:
    """Fingerprint of arrays, mappings and records."""
    return hashlib.sha256(pickle.dumps(_plain(value))).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, _plain(item)) for key, item in value.items()]
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    return value if isinstance(value, bytes | int | float | str) else repr(value)


def _root_kinds(folder: Path) -> list[Kind]:
    """ROOT files, read by the stage of the columns."""
    found = []
    for codec, compression in CODECS.items():
        for checked in (False, True):
            name = f"ROOT {codec}{', checksum' if checked else ''}"
            found.append(_root_kind(folder / name.replace(" ", "_"), name, "ttree", compression, checked))
    for form in ("nano", "rntuple"):
        found.append(_root_kind(folder / form, f"ROOT {form}", form, CODECS["zlib"], False))
    return found


def _root_kind(folder: Path, name: str, form: str, compression: Any, checked: bool) -> Kind:
    folder.mkdir()
    run = rootfiles.write_run(folder)
    path = folder / "signal.root"
    made = _compressible(rootfiles.arrays(3000, seed=7))
    if form == "ttree":
        with uproot.recreate(path, compression=compression) as file:
            file.mktree("events", {n: a.dtype if n != "jets" else "var * float32" for n, a in made.items()})
            for start in (0, 1500):  # two baskets each
                file["events"].extend({n: a[start : start + 1500] for n, a in made.items()})
    else:
        (folder / "nano.py").write_text(NANO)
        jets = ak.zip({n: made["jets"] for n in ("pt", "eta", "phi", "mass")})
        events = {"event": made["number"], "MET_pt": made["x"]}
        with uproot.recreate(path, compression=compression) as file:
            if form == "nano":
                file.mktree("Events", {n: a.dtype for n, a in events.items()} | {"Jet": jets.type})
                file["Events"].extend({**events, "Jet": jets})
            else:
                file.mkrntuple("Events", {**events, **{f"Jet_{n}": jets[n] for n in jets.fields}})
    content = path.read_bytes()
    entry = {"path": "signal.root", "nevts": 3000}
    if checked:
        entry["checksum"] = f"adler32:{zlib.adler32(content):08x}"
    manifest = folder / "manifest.json"
    manifest.write_text(
        json.dumps({**json.loads(manifest.read_text()), "signal": {"nominal": {"files": [entry]}}})
    )
    target = f"analysis.target={folder}/" + ("tiny.py:Tiny" if form == "ttree" else "nano.py:Nano")
    settings = config.load(run, [target])
    analysis.load(settings.analysis.target, settings.analysis.options_json)
    (source,) = (file for file in source_files(settings) if file.sample == "signal")

    def read() -> str:
        return _digest(columns_of(settings, source)[0])

    unseen = not checked and (name.removeprefix("ROOT ") in UNCHECKED or form == "rntuple")
    names = tuple(damage.__name__ for damage in BYTES)
    return Kind(name, path, content, read, BYTES, names if unseen else ())


def _compressible(made: dict[str, Any]) -> dict[str, Any]:
    """The same rounded: what does not get shorter is stored as it is, without the checksum of its compression."""
    return {
        name: array if name == "number" else np.round(64 * array) / np.float32(64)
        for name, array in made.items()
    }


def _binary_kinds(folder: Path) -> list[Kind]:
    """Column files and states."""
    made = rootfiles.arrays(300)
    arrays = {"weight": made["w"], "x": made["x"], "jet": pad(made["jets"], 3)}
    parquet, npz = folder / "columns.parquet", folder / "state.npz"
    folds = {"train": arrays, "held_out": {n: a[:7] for n, a in arrays.items()}}
    column_file.write(parquet, folds, [contracts.provenance("signal", 300, 7)])
    store.write_state(
        npz, {"cut": np.float64(0.5), "network": np.ones((20, 30))}, {"epoch": 3, "records": [1.0] * 20}
    )

    def columns_read() -> str:
        return _digest(
            [column_file.read(parquet).as_json(), *(store.read_columns(parquet, fold) for fold in folds)]
        )

    return [
        Kind("Parquet columns", parquet, parquet.read_bytes(), columns_read, BYTES),
        Kind("npz state", npz, npz.read_bytes(), lambda: _digest(store.read_state(npz)), BYTES),
    ]


def _text_kinds(folder: Path) -> list[Kind]:
    """Manifests, evaluations, workspaces, configurations."""
    run = rootfiles.write_run(folder)
    settings = config.load(run)
    manifest, evaluation, workspace = (folder / f"{n}.json" for n in ("manifest", "evaluation", "workspace"))
    header = {"kind": "evaluation", store.FINGERPRINT: "0" * 64}
    write(evaluation, contracts.evaluation(), header)
    store.write_json(workspace, WORKSPACE)
    manifest.write_text(json.dumps(json.loads(manifest.read_text()), indent=1))
    of_json = _texts(json.loads, lambda content: json.dumps(content, indent=1).encode(), ("measurements",))
    of_yaml = _texts(
        yaml.safe_load, lambda content: yaml.safe_dump(content, default_style='"').encode(), ("options",)
    )
    of_yaml |= {n: f for n, f in _texts(yaml.safe_load, _yaml, ("options",)).items()}
    structure = (*of_json.values(), twice, cut)
    unseen = tuple(f.__name__ for f in BYTES if f is not cut)  # a digit that is another one is a right text
    model = lambda: _digest(repr(_model(workspace)))  # noqa: E731
    kinds = [
        Kind(
            "JSON manifest", manifest, b"", lambda: _digest(source_files(settings)),
            (*structure, *BYTES), (*unseen, "unknown"),
        ),
        Kind(
            "JSON evaluation", evaluation, b"", lambda: _digest(repr(read(evaluation, header))),
            (*structure, *BYTES),
        ),
        Kind(
            "JSON workspace", workspace, b"", model, (*structure, *BYTES), (*unseen, "unknown"),
            (ThalwegError, ValueError),  # the likelihood is a library of its own
        ),
        Kind(
            "YAML configuration", run, b"", lambda: _digest(config.load(run)),
            (*of_yaml.values(), twice, bombs, *BYTES), (*unseen, "cut"),
        ),
    ]  # fmt: skip
    return [kind._replace(content=kind.path.read_bytes()) for kind in kinds]


def _yaml(content: Any) -> bytes:
    return yaml.safe_dump(content, width=10_000).encode()


WORKSPACE = {
    "channels": [
        {
            "name": "all",
            "samples": [
                {
                    "name": "signal",
                    "data": [5.0, 7.0],
                    "modifiers": [{"name": "mu", "type": "normfactor", "data": None}],
                },
                {
                    "name": "background",
                    "data": [50.0, 60.0],
                    "modifiers": [
                        {
                            "name": "scale",
                            "type": "histosys",
                            "data": {"hi_data": [55.0, 61.0], "lo_data": [45.0, 59.0]},
                        },
                        {"name": "norm", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}},
                        {"name": "mc", "type": "staterror", "data": [2.0, 2.5]},
                    ],
                },
            ],
        }
    ],
    "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
    "observations": [{"name": "all", "data": [56.0, 66.0]}],
    "version": "1.0.0",
}


def _model(path: Path) -> Any:
    """A workspace as the likelihood has it."""
    model = HistFactory.from_workspace(path)
    return [
        (str(place), np.asarray(leaf).tolist()) for place, leaf in jax.tree_util.tree_leaves_with_path(model)
    ]


# One case


def attempt(kind: Kind, seconds: float) -> tuple[str, str]:
    """What the reader makes of the file as it is, in a process of its own: how it ends, and what was said or found."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        os.setsid()
        with os.fdopen(send, "wb") as stream:
            stream.write(pickle.dumps(_outcome(kind)))
        os._exit(0)
    os.close(send)
    said, until = b"", time.monotonic() + seconds
    with os.fdopen(receive, "rb", buffering=0) as stream:
        while (left := until - time.monotonic()) > 0 and select.select([stream], [], [], left)[0]:
            part = stream.read(1 << 16)
            if not part:
                break
            said += part
    ended = left > 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL) if not ended else None
    _, status = os.waitpid(child, 0)
    if not ended:
        return "hang", f"no end within {seconds:g} s"
    return pickle.loads(said) if said else ("traceback", f"the process died: wait status {status}")


def _outcome(kind: Kind) -> tuple[str, str]:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        return "read", kind.read()
    except kind.refusals as error:
        return "refused", str(error)
    except BaseException:
        return "traceback", traceback.format_exc()


def run(kind: Kind, cases: int, seed: int, seconds: float) -> tuple[collections.Counter[str], list[str]]:
    """Outcomes of so many damages of one kind, and the first bad ones in words."""
    counts: collections.Counter[str] = collections.Counter()
    lines = []
    kind.path.write_bytes(kind.content)
    outcome, expected = attempt(kind, seconds)
    if outcome != "read":
        return collections.Counter({"traceback": 1}), [f"the sound file is {outcome}: {expected}"]
    for number in range(cases):
        damage = kind.damages[number % len(kind.damages)]
        rng = random.Random(f"{seed} {kind.name} {number}")
        content = damage(rng, kind.content)
        if content == kind.content:
            continue
        kind.path.write_bytes(content)
        outcome, words = attempt(kind, seconds)
        if outcome == "read":
            other = "undetectable" if damage.__name__ in kind.undetectable else "different"
            outcome, words = ("same" if words == expected else other), ""
        counts[outcome] += 1
        if outcome in BAD and counts[outcome] <= SHOWN:
            lines.append(f"{outcome}: {damage.__name__}, case {number}: {words.strip()[-1500:]}")
    kind.path.write_bytes(kind.content)
    return counts, lines


def main() -> int:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=500, help="of all kinds together (default: 500)")
    parser.add_argument("--seed", type=int, default=1, help="of the damages (default: 1)")
    parser.add_argument("--seconds", type=float, default=60.0, help="that a reader may take (default: 60)")
    parser.add_argument("--only", default="", help="kinds whose name holds this")
    options = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: Path(scratch) / name for name in ("root", "binary", "text")}
        for folder in folders.values():
            folder.mkdir()
        kinds = [
            *_root_kinds(folders["root"]),
            *_binary_kinds(folders["binary"]),
            *_text_kinds(folders["text"]),
        ]
        chosen = [kind for kind in kinds if options.only in kind.name]
        print(
            "| file | cases | " + " | ".join(OUTCOMES) + " |\n| --- |" + " ---: |" * (len(OUTCOMES) + 1),
            flush=True,
        )
        shown, total = [], collections.Counter()
        for number, kind in enumerate(chosen):
            share = options.cases * (number + 1) // len(chosen) - options.cases * number // len(chosen)
            counts, lines = run(kind, share, options.seed, options.seconds)
            total += counts
            print(_row(kind.name, counts), flush=True)
            shown += [f"{kind.name}: {line}" for line in lines]
        print(_row("all", total))
        bad = sum(total[outcome] for outcome in BAD)
    print("\n".join(shown), file=sys.stderr)
    return 1 if bad else 0


def _row(name: str, counts: collections.Counter[str]) -> str:
    return f"| {name} | {counts.total()} | " + " | ".join(str(counts[outcome]) for outcome in OUTCOMES) + " |"


if __name__ == "__main__":
    sys.exit(main())
