"""Lines of a datacard that contradict each other, or hold no number or an unknown name."""

import hist
import numpy as np
import pytest
import uproot

from pipeline.errors import InputError
from pipeline.evaluate.workspaces.exchange.combine_reading import read_card

COUNTING = """imax 2
jmax 1
kmax 2
bin b1 b2
observation 12 9
bin b1 b1 b2
process sig bkg bkg
process 0 1 1
rate 2.5 10 8
lumi lnN 1.1 1.1 1.1
one lnN - 0.8/1.3 -
scale rateParam b1 bkg 1 [0.5,2]
"""


def read(folder, text):
    (folder / "card.txt").write_text(text)
    return read_card(folder / "card.txt")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "bin b1 b1 b2",
            "bin b1 b1 b3",
            "line 6, 'bin b1 b1 b3': bin 'b3' has no observation; nearest: ",
        ),
        ("bin b1 b1 b2", "bin b1 b1 b1", "bin 'b2' has no process|process 'bkg' is given twice"),
        ("sig bkg bkg", "bkg bkg bkg", "process 'bkg' is given twice in bin 'b1'; keep one"),
        ("bin b1 b2\n", "bin b1 b1\n", "line 4, 'bin b1 b1': bin 'b1' is given twice"),
        ("imax 2", "imax 3", r"line 1, 'imax 3': imax 3, but the card has 2 bins; write 2 or \*"),
        ("jmax 1", "jmax 2", "jmax 2, but the card has 1 processes minus 1"),
        ("kmax 2", "kmax 5", "kmax 5, but the card has 2 nuisance parameters"),
        ("kmax 2", "kmax", r"line 3, 'kmax': ''; allowed is 2 or \*"),
        ("observation 12", "observation -1", "line 5, 'observation -1 9': -1 is for cards with histograms"),
        ("rate 2.5", "rate -1", "line 9, 'rate -1 10 8': -1 is for cards with histograms"),
        ("observation 12", "observation nan", "'nan'; allowed is a finite number"),
        ("observation 12", "observation -3", "-3 in bin 'b1'; allowed is a number of at least 0"),
        ("rate 2.5", "rate many", "line 9, 'rate many 10 8': 'many'; allowed is a finite number"),
        ("lnN 1.1 1.1", "lnN abc 1.1", "line 10, .*: 'abc'; allowed is a number above 0"),
        ("0.8/1.3", "-/1.1", "line 11, .*: '-'; allowed is .* lnN 'one': kappa -/1.1"),
        ("[0.5,2]", "[0]", r"line 12, .* bounds '\[0\]'; allowed is \[low,high\] around the start value 1"),
        ("[0.5,2]", "[2,3]", r"bounds '\[2,3\]'; allowed is"),
        ("rateParam b1 bkg", "rateParam b3 bkg", "line 12, .*: no process 'bkg' in a bin 'b3'"),
        ("rateParam b1 bkg", "rateParam b2 sig", "no process 'sig' in a bin 'b2'"),
        ("scale rateParam b1 bkg 1 [0.5,2]", "b7 autoMCStats 0", "line 12, 'b7 autoMCStats 0': no bin 'b7'"),
        ("scale rateParam b1 bkg 1 [0.5,2]", "b1 autoMCStats abc", "'b1 autoMCStats abc': 'abc'; allowed"),
        ("one lnN - 0.8/1.3 -", "rate lnN 1.1 - -", "line 11, .*'rate' is a word of Combine's own; rename"),
        ("one lnN - 0.8/1.3 -", "bin lnN 1.1 - -", "'bin' is a word of Combine's own; rename"),
        ("one lnN - 0.8/1.3 -", "one shape abc - -", "line 11, 'one shape abc -': 'abc'; allowed"),
    ],
)
def test_what_a_card_says_wrongly_is_named_with_its_line(tmp_path, old, new, message):
    assert old in COUNTING
    with pytest.raises(InputError, match=message):
        read(tmp_path, COUNTING.replace(old, new, 1))


def test_counts_may_be_left_open_and_comments_of_others_mean_nothing(tmp_path):
    plain = read(tmp_path, COUNTING)
    comments = (
        "# name: sig = 'it's'\n# name: bkg = 'a', 'b'\n# parameter of interest: 'mu' = one [low, high]\n"
        "# parameter of interest: 'mu' = 5 [0, 1]\n"
    )
    text = COUNTING.replace("imax 2", "imax *").replace("jmax 1", "jmax *").replace("kmax 2", "kmax *")
    assert read(tmp_path, comments + text) == plain


SHAPES = """imax 1
jmax 1
kmax *
shapes * * card.root $CHANNEL/$PROCESS $CHANNEL/$PROCESS_$SYSTEMATIC
bin b1
observation 12
bin b1 b1
process sig bkg
process 0 1
rate -1 -1
tilt shape? - 1
b1 autoMCStats 5
"""


def written(folder, **changes):
    """Write the histograms of the card: contents of bins, each with an error of a fifth, the signal's small."""
    contents = {
        "data_obs": [5.0, 7.0],
        "sig": [1.0, 2.0],
        "bkg": [4.0, 6.0],
        "bkg_tiltUp": [3.0, 7.0],
        "bkg_tiltDown": [5.0, 5.0],
    } | changes
    with uproot.recreate(folder / "card.root") as file:
        for name, own in contents.items():
            if own is None:
                continue
            made = hist.Hist(hist.axis.Regular(len(own), 0, 1), storage=hist.storage.Weight())
            error = 1e-3 if name == "sig" else 0.2
            made.values()[:], made.variances()[:] = own, (error * np.array(own)) ** 2
            file[f"b1/{name}"] = made


def test_histograms_of_a_card_are_read_where_it_leaves_their_sums_open(tmp_path):
    written(tmp_path)
    assert read(tmp_path, SHAPES) == read(tmp_path, SHAPES.replace("observation 12", "observation -1"))


@pytest.mark.parametrize(
    ("changes", "old", "new", "message"),
    [
        ({}, "observation 12", "observation 13", "observation 13 in 'b1', but its histogram has 12"),
        ({"bkg_tiltDown": None}, "", "", "no histogram 'b1/bkg_tiltDown' in card.root, but the other one of"),
        ({"bkg_tiltUp": None}, "", "", "no histogram 'b1/bkg_tiltUp' in card.root, but the other one of"),
        ({"bkg_tiltUp": [0.0, 0.0]}, "", "", "a template of b1/bkg has no yield"),
        (
            {"sig": [1.0]},
            "",
            "",
            "histograms of bin 'b1' have different numbers of bins: {'sig': 1, 'bkg': 2}",
        ),
        ({}, "Stats 5", "Stats 25", "autoMCStats 25 of channel 'b1': bin 0 has fewer effective events"),
        ({"sig": [100.0, 100.0]}, "Stats 5", "Stats 26", "autoMCStats 26 of channel 'b1': bin 0 has fewer"),
    ],
)
def test_histograms_that_contradict_the_card_are_named(tmp_path, changes, old, new, message):
    written(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        read(tmp_path, SHAPES.replace(old, new, 1))


def test_signal_counts_as_effective_events_where_the_card_says_so(tmp_path):
    written(tmp_path, sig=[100.0, 100.0])
    found = read(tmp_path, SHAPES.replace("Stats 5", "Stats 26 1"))
    assert [m["type"] for m in found["channels"][0]["samples"][0]["modifiers"]] == ["normfactor", "staterror"]
