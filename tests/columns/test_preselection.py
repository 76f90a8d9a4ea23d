"""Cuts as text: what they select, and what is refused."""

import contextlib

import awkward as ak
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.columns.preselection import fulfilled, requirements
from pipeline.errors import ConfigError

OBJECTS = {
    "eta": np.array([-2.5, -1.0, 0.0, 2.0]),
    "jetId": np.array([0, 2, 4, 6]),
    "ok": np.array([True, False] * 2),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("eta < 0", [1, 1, 0, 0]),
        ("abs(eta) <= 2", [0, 1, 1, 1]),
        ("eta>=-1.0", [0, 1, 1, 1]),
        ("jetId == 6", [0, 0, 0, 1]),
        ("jetId & 4", [0, 0, 1, 1]),
        ("jetId & 6", [0, 0, 0, 1]),
        ("ok == 1", [1, 0, 1, 0]),
        (" ok != 1 ", [0, 1, 0, 1]),
    ],
)
def test_what_is_selected(text, expected):
    assert fulfilled(OBJECTS, requirements([text], "x"), np.ones(4, bool)).tolist() == [
        bool(e) for e in expected
    ]


def test_all_must_hold():
    both = requirements(["eta > -2", "jetId & 2"], "x")
    assert fulfilled(OBJECTS, both, np.array([True, True, True, False])).tolist() == [
        False,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "text",
    ["", "eta", "eta = 3", "eta < x", "abs(eta < 3", "eta) < 3", "a < 1.2.3", 7, "a.b < 1", "jetId & 4.5"],
)
def test_other_shapes_are_refused(text):
    with pytest.raises(
        ConfigError, match=r"analysis\.options\.jet: .* is no requirement; allowed: FIELD SIGN NUMBER"
    ):
        requirements([text], "analysis.options.jet")


@given(st.text(max_size=12))
def test_no_text_ends_in_anything_else(text):
    with contextlib.suppress(ConfigError):
        requirements([text], "x")


@pytest.mark.parametrize("texts", ["pt > 25", None, 5])
def test_a_list_is_needed(texts):
    with pytest.raises(ConfigError, match="is no list of requirements"):
        requirements(texts, "x")


def test_only_whole_numbers_have_bits():
    objects = ak.Array({"pt": [1.0, 2.0]})
    with pytest.raises(ConfigError, match=r"'pt & 4': .* float64"):
        fulfilled(objects, requirements(["pt & 4"], "x"), np.ones(2, bool))
