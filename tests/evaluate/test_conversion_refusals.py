"""What a conversion refuses before it writes anything, by the name of what is wrong."""

import json

import numpy as np
import pytest
from workspaces import modifier, two_channels

from pipeline.errors import InputError
from pipeline.evaluate.workspaces.exchange.formats import convert


def refused(folder, content, written, error, message):
    """Convert a workspace that is to be refused, and nothing is written."""
    (folder / "in.json").write_text(json.dumps(content))
    target = folder / ("out" if written == "cabinetry" else "out.txt")
    with pytest.raises(error, match=message):
        convert(folder / "in.json", target, written)
    assert [path.name for path in folder.iterdir()] == ["in.json"]


def observed(data):
    return lambda content: content["observations"][0].update(data=data)


def twice(content):
    content["observations"].append(content["observations"][0])


def unknown(content):
    content["observations"].append({"name": "srr", "data": [1.0]})


def missing(content):
    content["observations"].pop()


def no_poi(content):
    content["measurements"][0]["config"]["poi"] = "muu"


@pytest.mark.parametrize("written", ["pyhf", "hs3", "combine"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (observed([1.0, 2.0]), r"observation 'sr': shape \(2,\), but the channel has 3 bins"),
        (observed([1.0, -2.0, 3.0]), "observation 'sr': -2 in bin 1; allowed are finite numbers of at least 0"),
        (observed([1.0, np.nan, 3.0]), "in.json is not JSON: "),
        (twice, "observations: name 'sr' appears twice"),
        (unknown, "observations of 'srr', which is no channel; .*'sr'"),
        (missing, "channel 'cr' has no observations; add them"),
        (no_poi, "POI 'muu' has 0 components in the model"),
    ],
)
def test_a_workspace_that_pyhf_would_refuse_is_not_converted(tmp_path, written, change, message):
    content = two_channels()
    change(content)
    refused(tmp_path, content, written, InputError, message)
