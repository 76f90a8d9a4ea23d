"""Without pyhf, the structure of a workspace is checked as by pyhf's schema, by which `validate` goes here."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workspaces import counting, everything

from pipeline.likelihood.checks import validate
from pipeline.likelihood.structure import require_structure

WRONG = (None, "text", "lumi", 1.5, True, [], {}, [1.0], ["text"], [[1.0]], {"name": "a"})


def places(content, path=()):
    """Paths to everything in a workspace."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


@st.composite
def damaged(draw):
    """A workspace in which one thing is gone, of another kind, or too much."""
    content = copy.deepcopy(draw(st.sampled_from([counting(), everything()])))
    *above, key = draw(st.sampled_from([*places(content)]))
    holder = content
    for step in above:
        holder = holder[step]
    match draw(st.sampled_from(["gone", "other", "more"])):
        case "gone":
            del holder[key]
        case "other":
            holder[key] = copy.deepcopy(draw(st.sampled_from(WRONG)))
        case "more" if isinstance(holder, dict):
            holder[f"{key}_"] = 1.0
    return content


def refused(check, content):
    try:
        check(content)
    except ValueError:
        return True
    return False


@settings(max_examples=400)
@given(damaged())
def test_it_refuses_what_pyhfs_schema_refuses(content):
    assert refused(require_structure, content) == refused(validate, content)


def test_arrays_and_tuples_are_lists_of_numbers():
    content = counting()
    content["channels"][0]["samples"][0]["data"] = (10.0,)
    require_structure(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("observations"), "observations: Field required"),
        (lambda w: w["channels"][0].update(more=1), r"channels\[0\].more: Extra inputs are not permitted, not 1"),
        (lambda w: w["observations"][0].update(data=["a"]), r"observations\[0\].data\[0\]: .* valid number, not 'a'"),
    ],
)  # fmt: skip
def test_the_message_says_where(change, message):
    content = counting()
    change(content)
    with pytest.raises(ValueError, match=message):
        require_structure(content)
