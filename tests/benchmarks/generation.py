"""What the weighted processes of the embedded data set cost: effective events behind one lepton and four jets.

Exactly one lepton above 30 GeV and four jets above 25 GeV, as in docs/simulation.md; the effective number of weighted
events is (sum w)^2 / sum w^2. Processor time, with detector and writing. From the repository:
`.venv/bin/python tests/benchmarks/generation.py` (two minutes).
"""

import argparse
import tempfile
import time
from pathlib import Path

import awkward as ak
import uproot

from pipeline.simulate.pythia import simulate

EVENTS = {
    "ttbar": 6000,
    "ttbar_leptonic": 6000,
    "zprime_ttbar": 4000,
    "wjets_weighted": 24000,
    "single_top_t_leptonic": 8000,
    "single_top_tW_leptonic": 4000,
}


def selections(e):
    """Events with four jets, and those of them with a b-tag."""
    electrons = (abs(e.Electron_eta) < 2.1) & (e.Electron_cutBased == 4) & (e.Electron_sip3d < 4)
    muons = (abs(e.Muon_eta) < 2.1) & e.Muon_tightId & (e.Muon_sip3d < 4) & (e.Muon_pfRelIso04_all < 0.15)
    leptons = ak.sum(electrons & (e.Electron_pt > 30), axis=1) + ak.sum(muons & (e.Muon_pt > 30), axis=1)
    jets = (e.Jet_pt > 25) & (abs(e.Jet_eta) < 2.4) & (e.Jet_jetId == 6)
    four = (leptons == 1) & (ak.sum(jets, axis=1) >= 4)
    return four, four & (ak.sum(jets & (e.Jet_btagCSVV2 > 0.5), axis=1) >= 1)


def effective(weights):
    return float(ak.sum(weights) ** 2 / ak.sum(weights**2)) if len(weights) else 0.0


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=int, default=7)
    given = options.parse_args()
    print("| process | events/s | mean weight | with four jets | effective per s | of them with a b-tag |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, number in EVENTS.items():
        with tempfile.TemporaryDirectory() as folder:
            path, start = Path(folder) / "events.root", time.process_time()
            simulate(name, path, events=number, seed=given.seed)
            seconds = time.process_time() - start
            events = uproot.open(path)["Events"].arrays()
        weights, (four, tagged) = events.genWeight, selections(events)
        cells = [
            f"{number / seconds:.0f}",
            f"{ak.mean(weights):.3f}",
            f"{ak.sum(weights[four]) / ak.sum(weights):.4f}",
            f"{effective(weights[four]) / seconds:.1f}",
            f"{effective(weights[tagged]) / seconds:.1f}",
        ]
        print(f"| `{name}` | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
