"""Groups of uncertainties: each parameter in one, and none that means something else."""

import pytest

from pipeline import config
from pipeline.config.fit.groups import members_of
from pipeline.errors import ConfigError

SYSTEMATICS = (
    "[{name: a, type: Normalization, up: 0.1, down: -0.1%s}, "
    "{name: b, type: Normalization, up: 0.2, down: -0.2%s}]"
)


@pytest.fixture
def path(request):
    return request.config.rootpath / "config" / "miniature.yaml"


def loaded(path, first="", second="", *more):
    return config.load(path, [f"model.systematics={SYSTEMATICS % (first, second)}", *more])


def test_parameters_without_a_group_are_their_own(path):
    norms = "model.normfactors=[{name: ttbar_norm, samples: [ttbar]}, {name: free, samples: [wjets], group: jets}]"
    run = loaded(path, ", group: jets", "", "model.luminosity_group=the machine", norms)
    assert run.groups == {
        "data_statistics": (),
        "mc_statistics": ("staterror_4j1b", "staterror_4j2b"),
        "jets": ("free", "a"),
        "b": ("b",),
        "the machine": ("lumi",),
    }
    assert "mc_statistics" not in loaded(path, "", "", "model.mc_statistics=false").groups


def test_a_group_decides_no_result(path):
    plain = loaded(path).physics()
    assert loaded(path, ", group: jets", ", group: jets", "model.luminosity_group=c").physics() == plain


@pytest.mark.parametrize(
    ("first", "more", "message"),
    [
        (", group: data_statistics", [], "the group 'data_statistics' of 'a' is the name of what the events"),
        (", group: mc_statistics", [], "the group 'mc_statistics' of 'a' is the name"),
        (", group: b", [], "the group 'b' of 'a' has the name of a parameter that is not in it"),
        (
            "",
            ["model.normfactors=[{name: ttbar_norm, samples: [ttbar], group: signal}]"],
            "the parameter of interest 'ttbar_norm' has the group 'signal'; .*; remove group",
        ),
        (
            "",
            ["model.luminosity_uncertainty=null", "model.luminosity_group=c"],
            "luminosity_group: 'c', but there is no luminosity_uncertainty",
        ),
    ],
)
def test_what_means_nothing_is_refused(path, first, more, message):
    with pytest.raises(ConfigError, match=message):
        loaded(path, first, "", *more)


TWO = "model.normfactors=[{name: ttbar_norm, samples: [ttbar]}, {name: other, samples: [wjets]%s}]"


def test_further_parameters_of_interest_are_in_no_group(path):
    run = loaded(path, "", "", TWO % "", "model.further_pois=[other]")
    assert run.model.pois == ("ttbar_norm", "other")
    assert "other" not in run.groups
    assert run.physics() == loaded(path, "", "", TWO % "").physics()
    with pytest.raises(ConfigError, match="parameter of interest 'other' has the group 'jets'"):
        loaded(path, "", "", TWO % ", group: jets", "model.further_pois=[other]")
    for further, message in (
        (
            "[ttbar_norm]",
            r"'ttbar_norm' is not one of the normfactors, or of theory, but the POI, \['other'\]",
        ),
        ("[a]", "'a' is not one of the normfactors"),
        ("[other, other]", "name one twice"),
    ):
        with pytest.raises(ConfigError, match=message):
            loaded(path, "", "", TWO % "", f"model.further_pois={further}")


def test_a_group_may_have_the_name_of_one_of_its_parameters(path):
    assert loaded(path, ", group: b", ", group: b").groups["b"] == ("a", "b")


def test_members_of_a_group_are_named_or_its_absence_is():
    groups = {"data_statistics": (), "jets": ("jes", "jer"), "free": ("mu_b",)}
    assert members_of("jets", groups, ["mu_b"], "objective") == ("jes", "jer")
    assert members_of("data_statistics", groups, ["mu_b"], "objective") == ()
    message = (
        "no systematic has the group 'jet'; groups are 'data_statistics', 'jets', 'free'; nearest: 'jets'"
    )
    with pytest.raises(ValueError, match=message):
        members_of("jet", groups, ["mu_b"], "objective")
    with pytest.raises(
        ValueError, match=r"group 'free' has free parameters alone, 'mu_b'.* is in 'data_statistics'"
    ):
        members_of("free", groups, ["mu_b"], "objective")


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("{kind: uncertainty_part}", "'uncertainty_part' needs either group or sources"),
        ("{kind: uncertainty_part, group: jets, sources: [a]}", "needs either group or sources"),
        (
            "{kind: uncertainty_part, group: jet}",
            "no systematic has the group 'jet'; groups are 'data_statistics', 'mc_statistics', 'jets', 'lumi'; near",
        ),
        ("{kind: uncertainty_part, sources: [c]}", "parameter 'c' is not in the model"),
        (
            "{kind: uncertainty_part, sources: [ttbar_norm]}",
            "'ttbar_norm' has no constraint term, and so no part",
        ),
        (
            "{kind: weighted_sum, terms: [{kind: uncertainty_part, group: b}]}",
            "no systematic has the group 'b'",
        ),
        ("{kind: poi_uncertainty, parameter: a, combination: {b: 1}}", "which is it of"),
        ("{kind: poi_uncertainty, combination: {a: 1, b: 0}}", "has a factor of 0"),
        ("{kind: poi_uncertainty, combination: {a: 1, c: 2}}", "parameter 'c' is not in the model"),
    ],
)
def test_objectives_of_parts_and_combinations_name_what_is_there(path, objective, message):
    with pytest.raises(ConfigError, match=message):
        loaded(path, ", group: jets", ", group: jets", f"objective={objective}")


def test_sources_may_be_parameters_of_single_bins(path):
    words = "model.shape_uncertainties=[{name: bins, sample: ttbar, size: 0.1, channels: [4j1b]}]"
    shape = "model.shapefactors=[{name: free, samples: [wjets], channels: [4j1b]}]"
    part = "objective={kind: uncertainty_part, sources: [a, bins_4j1b, staterror_4j2b]}"
    assert loaded(path, "", "", words, part).objective_of_parameters.quantity.sources[1] == "bins_4j1b"
    for name in ("bins_4j2b", "bins", "free", "staterror_4j3b"):
        with pytest.raises(ConfigError, match=f"parameter '{name}' is not in the model"):
            loaded(path, "", "", words, shape, f"objective={{kind: uncertainty_part, sources: [{name}]}}")
    with pytest.raises(ConfigError, match="parameter 'bins_4j1b' is not in the model"):  # one for each bin
        loaded(path, "", "", words, "objective={kind: poi_uncertainty, parameter: bins_4j1b}")


def test_an_objective_of_a_group_is_one_of_its_parameters(path):
    jets, part = ", group: jets", "{kind: uncertainty_part, group: jets, weight: 2}"
    run = loaded(path, jets, jets, f"objective={{kind: weighted_sum, terms: [{part}, {{kind: cls}}]}}")
    (found, other) = run.objective_of_parameters.parts
    assert found.sources == ("a", "b")
    assert found.title == "part of the uncertainty on the parameter of interest by jets"
    assert other == run.objective.parts[1]
    data = loaded(path, jets, "", "objective={kind: uncertainty_part, group: data_statistics, parameter: a}")
    assert data.objective_of_parameters.quantity.sources == ()
    assert (
        loaded(path, jets, jets, f"objective={part.replace(', weight: 2', '')}").physics()
        != loaded(path, jets, "", f"objective={part.replace(', weight: 2', '')}").physics()
    )
