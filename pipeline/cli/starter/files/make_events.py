"""Make small ROOT files, so that everything runs as it stands: a signal, two backgrounds, weights and their variations.

The numbers are invented. Put your own files in place of these; README.md has the command that makes their manifest.
"""

import subprocess
import sys
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

FOLDER = Path(__file__).resolve().parent
EVENTS = {"zprime": 20_000, "ttbar": 60_000, "wjets": 90_000}
MOST_JETS = 10
# Mean number of jets beyond 3, share of b-jets; mean pt of jets, of leptons, and missing E_T in GeV.
SHAPES = {
    "zprime": (1.8, 0.35, 80.0, 70.0, 90.0),
    "ttbar": (1.8, 0.35, 50.0, 40.0, 50.0),
    "wjets": (0.9, 0.04, 40.0, 35.0, 45.0),
}


def events(sample, number, rng):
    """Return the branches of some events of a sample, by NumPy's generator `rng`."""
    more_jets, b_jets, jet_pt, lepton_pt, missing_et = SHAPES[sample]
    jets = np.minimum(3 + rng.poisson(more_jets, number), MOST_JETS)
    of_b = rng.random(jets.sum()) < b_jets
    mass = rng.normal(750, 60, number) if sample == "zprime" else 300 + rng.exponential(160, number)
    weight = rng.uniform(0.5, 1.5, number)
    harder = 0.06 * (jets - jets.mean())  # with another scale there are more jets, or fewer
    return {
        "event": np.arange(number),
        "jet_pt": ak.unflatten(20 + rng.exponential(jet_pt - 20, jets.sum()), jets),
        "jet_btag": ak.unflatten(
            np.where(of_b, rng.beta(5, 2, jets.sum()), rng.beta(1, 5, jets.sum())), jets
        ),
        "lepton_pt": 15 + rng.exponential(lepton_pt - 10, number),
        "missing_et": rng.gamma(2, missing_et / 2, number),
        "mass": mass,
        "weight": weight,
        "weight_scale_up": weight * (1 + harder),
        "weight_scale_down": weight * (1 - harder),
    }


def write(path, branches):
    """Write the branches of a tree `Events`."""
    with uproot.recreate(path) as file:
        jagged = [name for name in branches if name.startswith("jet_")]
        file.mktree("Events", {n: "var * float64" if n in jagged else a.dtype for n, a in branches.items()})
        file["Events"].extend(branches)


def main():
    """Write a file for each sample, and the manifest, which says which files are of which sample."""
    (FOLDER / "events").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pipeline", "manifest", "--output", "events.json"]
    for seed, (sample, number) in enumerate(EVENTS.items()):
        path = f"events/{sample}.root"
        write(FOLDER / path, events(sample, number, np.random.default_rng(seed)))
        command += ["--process", sample, path]
    subprocess.run(command, check=True, cwd=FOLDER)


if __name__ == "__main__":
    main()
