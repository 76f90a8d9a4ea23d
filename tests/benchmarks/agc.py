"""The Analysis Grand Challenge at size: against plain uproot and coffea, memory, and what the whole of it takes.

Run from the repository: `.venv/bin/python tests/benchmarks/agc.py`. It replicates a simulated ttbar file
(tests/benchmarks/replicate.py), and with `--real FILE` a real NanoAOD file too; all in one process, one thread each.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.runtime import environment

os.environ.update(environment())

import jax
import numpy as np
import uproot

jax.config.update("jax_enable_x64", True)
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "support")]

from coffea_agc import histograms as by_coffea
from columnfiles import source_files, write_columns
from replicate import replicate

from pipeline import config
from pipeline.analysis import analysis_of
from pipeline.cluster import InProcess
from pipeline.columns.make import make_columns
from pipeline.data import column_file, datasets
from pipeline.data.run_files import provenances
from pipeline.evaluate.histograms import histograms
from pipeline.gradient.resident import Resident
from pipeline.gradient.sweeps import forward, pullback
from pipeline.gradient.work import Work, prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.simulate.pythia import simulate
from pipeline.templates.binning import Binning
from pipeline.templates.fill import EXACT

ROOT = Path(__file__).parent.parent.parent
STEP = 200_000  # entries at a time, for everybody
MANIFEST_EVENTS, SELECTED_EVENTS = 940_160_174, 12_500_000  # of the challenge; those after its exact cuts
SYSTEMATICS = (
    "[{name: JES, type: NormPlusShape, up: pt_scale_up}, {name: JER, type: NormPlusShape, up: pt_res_up}"
    + "".join(
        f", {{name: b{i}, type: NormPlusShape, up: btag_var_{i}_up, down: btag_var_{i}_down}}"
        for i in range(4)
    )
    + "]"
)


def settings_of(path: Path, events: int, corrections: Path | None) -> config.Config:
    """config/agc.yaml on one file of ttbar."""
    manifest = path.with_suffix(".json")
    files = [{"path": str(path), "nevts": events}]
    manifest.write_text(json.dumps({"ttbar": {"nominal": {"nevts_total": events, "files": files}}}))
    files = {} if corrections is None else {"corrections": str(corrections)}
    overrides = [
        f"data.manifest={manifest}",
        "data.samples={ttbar: {cross_section_pb: 729.84}}",
        f"analysis.files={json.dumps(files)}",
        f"model.systematics={SYSTEMATICS}",
        "model.pseudodata={}",
        f"data.max_events_per_job={STEP}",
    ]
    return config.load(ROOT / "config" / "agc.yaml", overrides)


def seconds(function: Callable[[], object], repetitions: int) -> tuple[float, float]:
    """Medians of wall and processor time; the first call, which compiles, is not counted."""
    function()
    walls, processors = [], []
    for _ in range(repetitions):
        wall, processor = time.perf_counter(), time.process_time()
        function()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return statistics.median(walls), statistics.median(processors)


@contextlib.contextmanager
def as_installed() -> Iterator[None]:
    """uproot as a user has it: with zlib, where our reader sets isal for the whole process."""
    decompressor = uproot.compression._decompress_ZLIB
    ours, decompressor.library = decompressor.library, "zlib"
    try:
        yield
    finally:
        decompressor.library = ours


def plain_uproot(settings: config.Config) -> None:
    """Read the branches of the analysis, range by range, and do nothing with them."""
    reads = analysis_of(settings).reads
    for file in source_files(settings):
        with uproot.open({file.path: reads.tree}) as tree:
            names = [*reads.branches, reads.event]
            tree.arrays(names, entry_start=file.start, entry_stop=file.stop)


def exact(settings: config.Config, files: list[tuple[str, Path]]) -> dict[str, object]:
    """Exact histograms of all variations from column files, read anew."""
    work = prepare_work(settings, files, datasets.ALL)
    return histograms(settings, InProcess(), work, initial_parameters(settings))


def compare(name: str, path: Path, events: int, corrections: Path, folder: Path, repetitions: int) -> None:
    """One file's table."""
    settings = settings_of(path, events, corrections)
    weight = settings.data.samples["ttbar"].cross_section_pb * 3378 / events

    @as_installed()
    def coffea() -> None:
        for file in source_files(settings):
            by_coffea(
                path,
                "ttbar",
                weight=weight,
                corrections=corrections,
                entry_start=file.start,
                entry_stop=file.stop,
            )

    files = write_columns(settings, folder)
    kept = sum(sum(source.entries_kept.values()) for source in provenances(files))
    size = sum(p.stat().st_size for _, p in files)
    rows = {
        "plain uproot, same branches": as_installed()(lambda: plain_uproot(settings)),
        "the same with isal": lambda: plain_uproot(settings),
        "columns stage": lambda: write_columns(settings, folder),
        "coffea, 11 variations": coffea,
        "ROOT file -> exact histograms": lambda: exact(settings, write_columns(settings, folder)),
        "columns -> exact histograms": lambda: exact(settings, files),
    }
    times = {row: seconds(function, repetitions) for row, function in rows.items()}
    print(
        f"\n{name}: {events} events, {path.stat().st_size / events:.0f} bytes each; {kept / events:.1%} pass the"
    )
    print(f"preselection, {size / max(kept, 1):.0f} bytes each on disk")
    print(f"{'':32}{'wall s':>8}{'CPU s':>8}{'events/s':>12}{'/ uproot':>10}{'/ coffea':>10}")
    for row, (wall, processor) in times.items():
        ratios = [
            times[peer][1] / processor for peer in ("plain uproot, same branches", "coffea, 11 variations")
        ]
        print(
            f"{row:32}{wall:8.2f}{processor:8.2f}{events / processor:12.3g}"
            + "".join(f"{r:9.2f}x" for r in ratios)
        )


def resident_megabytes() -> float:
    """Memory of this process at this moment."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1000


def epoch(settings: config.Config, work: Work, executor: InProcess) -> float:
    """Seconds of both sweeps."""
    started = time.perf_counter()
    start, widths = initial_parameters(settings), widths_at(settings, 10)
    templates = forward(executor, work, start, widths)
    pullback(executor, work, start, widths, templates)
    return time.perf_counter() - started


def at_size(path: Path, events: int, folder: Path) -> None:
    """Memory while reading and during epochs, and what follows for the whole challenge."""
    settings = settings_of(path, events, None)
    files, megabytes = [], []
    started = time.process_time()
    for job in datasets.columns_jobs(settings):
        target = folder / f"{job.name}.parquet"
        column_file.write(target, *make_columns(settings, job))
        files.append((job.sample, target))
        megabytes.append(resident_megabytes())
    reading_rate = events / (time.process_time() - started)
    shown = ", ".join(f"{m:.0f}" for m in megabytes[:: max(1, len(megabytes) // 6)])
    print(
        f"\nreading {events} events in {len(files)} ranges: {reading_rate:.3g} events/s of CPU; resident MB: {shown}"
    )
    work = prepare_work(settings, files, datasets.ALL)
    before = resident_megabytes()
    resident = Resident()
    times, megabytes = [], []
    for _ in range(5):
        times.append(epoch(settings, work, InProcess(resident)))
        megabytes.append(resident_megabytes())
    rate = work.events / statistics.median(times[1:])
    per_event = resident.used / work.events
    shown = ", ".join(f"{m:.0f}" for m in megabytes)
    print(f"epochs of {work.events} preselected events, 12 templates each: {rate:.3g} events/s on one core")
    print(
        f"resident MB: {before:.0f} before, {shown} after each epoch; columns take {per_event:.0f} bytes an event"
    )
    full_size(reading_rate, rate, per_event, work)


def full_size(reading_rate: float, rate: float, per_event: float, work: Work) -> None:
    """Replay of the measured rates for all files of the challenge."""
    kept_per_selected = preselected_per_selected(work)
    kept = SELECTED_EVENTS * kept_per_selected
    templates = sum(b.bins for b in work.problem.binnings) * (len(work.axes.variations) + 1) * 8
    wire = 2 * templates * len(work.axes.samples)
    print(f"\nthe whole challenge, {MANIFEST_EVENTS / 1e6:.0f} M events:")
    ratio = f"{kept_per_selected:.2f} times as many our preselection"
    print(f"{SELECTED_EVENTS / 1e6:.1f} M pass its exact cuts, {ratio}:")
    print(f"{kept / 1e6:.0f} M, {kept * per_event / 1e9:.1f} GB in memory;")
    print(f"the process of the epochs sends and receives {wire / 1e6:.1f} MB an epoch")
    print(f"{'cores':>8}{'reading h':>12}{'an epoch s':>12}{'40 epochs h':>13}{'GB each':>9}")
    for cores in (1, 16, 256):
        seconds_per_epoch = kept / rate / cores
        row = MANIFEST_EVENTS / reading_rate / cores / 3600, seconds_per_epoch, 40 * seconds_per_epoch / 3600
        print(f"{cores:8}{row[0]:12.2f}{row[1]:12.1f}{row[2]:13.3f}{kept * per_event / 1e9 / cores:9.2f}")


def preselected_per_selected(work: Work) -> float:
    """Preselected events for each one in either region."""
    parameters = {"lepton_pt": np.float64(30.0), "jet_pt": np.float64(30.0), "btag": np.float64(0.5)}
    counting = tuple(Binning(b.channel, None) for b in work.problem.binnings)
    counted = work._replace(problem=dataclasses.replace(work.problem, binnings=counting))
    found = forward(InProcess(), counted, parameters, EXACT)
    events = sum(y[0, 0, 0] for y in found.yields.values()) / work.groups[0].scale
    return float(work.events / events)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--events", type=int, default=400_000, help="of the comparisons (default: %(default)s)"
    )
    parser.add_argument(
        "--size", type=int, default=5_000_000, help="of the run at size (default: %(default)s)"
    )
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--real", type=Path, help="a real NanoAOD file to replicate as well")
    parser.add_argument("--corrections", type=Path, required=True, help="the challenge's correctionlib file")
    arguments = parser.parse_args()
    print(
        f"machine: {os.uname().machine}, {os.cpu_count()} cores; jax {jax.__version__}, one process, one thread"
    )
    print(
        f"medians of {arguments.repetitions}; ratios of processor time, which other people's load changes least"
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        small = folder / "small.root"
        simulate("ttbar", small, events=8000, seed=1)
        sources = {"ttbar, simulated": small, **({"real file": arguments.real} if arguments.real else {})}
        for name, source in sources.items():
            path = folder / "replica.root"
            replicate(source, path, events=arguments.events, branches=wanted())
            compare(
                name, path, arguments.events, arguments.corrections, folder / "columns", arguments.repetitions
            )
        path = folder / "large.root"
        replicate(small, path, events=arguments.size, branches=wanted())
        at_size(path, arguments.size, folder / "large")


def wanted() -> list[str]:
    """Branches of the analysis, and what NanoAODSchema insists on."""
    reads = analysis_of(config.load(ROOT / "config" / "agc.yaml", ["analysis.files={}"])).reads
    return [*reads.branches, "run", "luminosityBlock"]


if __name__ == "__main__":
    main()
