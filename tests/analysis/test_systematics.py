"""The three kinds of variations: what each makes of the events, what is shared, and what is refused."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline import analysis as contract
from pipeline.analysis import Analysis, FlatTree, Free, Shift, Transform, WeightFactor, systematics
from pipeline.containers import Columns, Observation, Parameters
from pipeline.errors import AnalysisError, ConfigError
from pipeline.relax import Exact, Relaxed
from pipeline.templates.binning import Binning
from pipeline.templates.fill import EXACT, Recipe, Widths, fill
from pipeline.templates.variations import Observer, families

X, JETS = [0.2, 0.6, 0.9], [[0.1, 0.2], [0.3, 0.0], [0.7, 0.9]]
BINNINGS = (Binning("all", None),)
WIDTHS = Widths(operations={"cut": jnp.asarray(0.2)}, bandwidths={})


class Counted(Analysis):
    """Events above a cut; which variations there are is given, and what was called is written down."""

    reads = FlatTree(("x",))
    parameters = {"cut": Free(0.5, (0.0, 1.0))}  # noqa: RUF012

    def __init__(self, **made):
        self.made, self.calls = made, []

    def variations(self):
        return self.made

    def observe(self, p, c, relax):
        self.calls.append("observe")
        return {"all": Observation(weight=c.weight * relax.greater(c.x, p.cut))}

    def factors(self, p, c, relax):
        self.calls.append("factors")
        return {"up": 1 + c.x * relax.greater(c.x, p.cut), "down": 1 - c.x * relax.greater(c.x, p.cut)}


def columns():
    return Columns({"weight": jnp.ones(3), "x": jnp.asarray(X), "jets": jnp.asarray(JETS)})


def yields(analysis, mode=EXACT, *, linear=False):
    """Of every variation, by name, the nominal among them."""
    names = analysis.variation_names
    found = fill(Recipe(analysis, BINNINGS, names, linear), {"cut": 0.5}, columns(), mode)
    return dict(zip(("nominal", *names), np.asarray(found.yields["all"])[:, 0], strict=True))


def half_more(c, size):
    return {"x": (1 + 0.5 * size) * c.x}


def test_every_kind_makes_the_template_of_what_it_says():
    found = yields(
        Counted(
            up=Transform(lambda c: {"x": 4 * c.x}),
            whole=Transform(lambda c: c.replace(x=4 * c.x)),
            heavy=Transform(lambda c: {"weight": 2 * c.weight}),
            down=Shift(half_more, -1),
            far=Shift(half_more, 4.0),
            tagged=WeightFactor(lambda p, c, relax: 1 + c.x * relax.greater(c.x, p.cut)),
            flat=WeightFactor(lambda p, c, relax: 1.5),
        )
    )
    expected = {"nominal": 2, "up": 3, "whole": 3, "heavy": 4, "down": 0, "far": 3, "tagged": 3.5, "flat": 3}
    assert found == pytest.approx(expected)


def test_what_is_observed_how_often():
    """Variations of the same columns together, those of the weight with the nominal one; several factors at once."""
    analysis = Counted()
    analysis.made = {
        "a": Transform(lambda c: {"x": 2 * c.x}),
        "b": Shift(half_more, +1),
        "c": Transform(lambda c: {"weight": 2 * c.weight}),
        **{name: WeightFactor(analysis.factors, name) for name in ("up", "down")},
    }
    observer = Observer(analysis, BINNINGS, Parameters({"cut": jnp.asarray(0.5)}), Exact())
    found = families(observer, analysis.variation_names, columns())
    assert [family.variations for family in found] == [("nominal", "c", "up", "down"), ("a", "b")]
    assert analysis.calls == ["factors", "observe", "observe"]
    np.testing.assert_allclose(found[0].weights["all"].sum(axis=1), [2, 4, 3.5, 0.5])


def test_shifts_with_one_function_have_one_derivative_times_their_sizes():
    calls = []

    def noted(c, size):
        calls.append(size)
        return half_more(c, size)

    analysis = Counted(up=Shift(noted, +1), down=Shift(noted, -1), more=Shift(noted, 3))
    found = yields(analysis, WIDTHS, linear=True)
    assert len(calls) == 1

    def count(size):
        relax = Relaxed(WIDTHS.operations)
        passes = relax.greater((1 + 0.5 * size) * jnp.asarray(X), 0.5, width="cut")
        return passes.sum()

    slope = jax.grad(count)(0.0)
    for name, size in (("nominal", 0), ("up", 1), ("down", -1), ("more", 3)):
        np.testing.assert_allclose(found[name], count(0.0) + size * slope, rtol=1e-12)
    assert yields(analysis, EXACT, linear=True) == yields(analysis)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda c: c, 'is a bare function; write {"v": Transform(...)} around it'),
        (Transform, "it must be Transform(...), Shift(...) or WeightFactor(...)"),
        (1.1, "is 1.1 (float); it must be Transform(...), Shift(...) or WeightFactor(...)"),
        (Shift(half_more, 0.0), "is a Shift of size 0.0; it must be a number other than 0"),
        (Shift(half_more, float("nan")), "is a Shift of size nan; it must be a number other than 0"),
    ],
)
def test_what_is_no_variation_is_refused(made, message):
    with pytest.raises(ConfigError, match=r"Counted\.variations\(\): variation 'v' .*" + re.escape(message)):
        _ = Counted(v=made).variation_names


@pytest.mark.parametrize(
    ("made", "field", "value", "message"),
    [
        (Transform(len), "change", 1.03, "is Transform(1.03 (float)); it must be given a function"),
        (WeightFactor(len), "factor", None, "is WeightFactor(None (NoneType)); it must be given a function"),
        (WeightFactor(len), "entry", 3, "is a WeightFactor with entry 3; it must be a text"),
        (Shift(len, 1), "size", "up", "is a Shift of size 'up'; it must be a number"),
    ],
)
def test_what_a_variation_cannot_be_made_of(made, field, value, message):
    object.__setattr__(made, field, value)  # the tests' type checks refuse it sooner
    with pytest.raises(ConfigError, match=re.escape(f"Counted.variations(): variation 'v' {message}")):
        _ = Counted(v=made).variation_names


@pytest.mark.parametrize("name", ["nominal", "", 3])
def test_names_that_no_variation_can_have(name):
    analysis = Counted()
    analysis.made = {name: Transform(lambda c: c)}
    with pytest.raises(ConfigError, match=rf"Counted\.variations\(\): variation {name!r} "):
        _ = analysis.variation_names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: None, "returns None (NoneType); it must return the columns that change, {column: array}"),
        (lambda c: 2 * c.x, "it must return the columns that change, {column: array}, or all of them"),
        (
            lambda c: Columns({"weight": c.weight, "x": c.x}),
            "removes column 'jets'; return c.replace(...), which keeps those that do not change",
        ),
        (lambda c: {"jet": c.jets}, "changes column 'jet', which columns() does not make; nearest: 'jets'"),
        (lambda c: {"x": c.x[:2]}, "makes of column 'x' an array of shape (2,); it must stay an array of shape (3,)"),
        (lambda c: {"jets": c.jets[:, :1]}, "makes of column 'jets' an array of shape (3, 1); it must stay"),
        (lambda c: {"x": 1.0}, "makes of column 'x' a single number; it must stay an array of shape (3,)"),
        (lambda c: {"x": X}, "makes of column 'x' [0.2, 0.6, 0.9] (list); it must stay an array"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["transform", "shift", "derivative"])
def test_a_change_that_columns_cannot_take(kind, change, message):
    made = Transform(change) if kind == "transform" else Shift(lambda c, size: change(c), +1)
    derivative = (WIDTHS,) if kind == "derivative" else ()
    with pytest.raises(ConfigError, match=r"variation 'jes_up' of Counted .*" + re.escape(message)):
        yields(Counted(jes_up=made), *derivative, linear=kind == "derivative")


@pytest.mark.parametrize(
    ("factor", "entry", "message"),
    [
        (lambda p, c, r: c.jets, None, "its factor is an array of shape (3, 2); it must be a number for each event"),
        (lambda p, c, r: c.x[:2], None, "its factor is an array of shape (2,); it must be a number for each event"),
        (lambda p, c, r: None, None, "its factor is None (NoneType); it must be a number for each event"),
        (lambda p, c, r: {"up": c.x}, None, "its function returns several factors, ['up'] (list); say which"),
        (lambda p, c, r: {"upp": c.x}, "up", "its function makes no entry 'up'; nearest: 'upp'"),
        (lambda p, c, r: c.x, "up", "with `entry` it must return {name: factor}"),
    ],
)  # fmt: skip
def test_a_factor_that_is_none(factor, entry, message):
    with pytest.raises(ConfigError, match=r"variation 'btag_up' of Counted: .*" + re.escape(message)):
        yields(Counted(btag_up=WeightFactor(factor, entry)))


def test_an_exception_of_a_variation_names_it():
    with pytest.raises(AnalysisError, match="AttributeError in variation 'v' of Counted: no 'y' here"):
        yields(Counted(v=Transform(lambda c: c.replace(y=c.x))))


def loaded(folder, body):
    """An analysis of this body, as a configuration names it."""
    path = folder / "own.py"
    names = "Analysis, FlatTree, Shift, Transform, WeightFactor"
    path.write_text(
        f"from pipeline.analysis import {names}\n\n\nclass Own(Analysis):\n"
        f"    reads, parameters = FlatTree(('x',)), {{}}\n    {body}\n"
    )
    return contract.load(f"{path}:Own")


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        ("def variations(self): return {'up': lambda c: c}", ("'up' is a bare function", '{"up": Transform(...)}')),
        ("def shifts(self): return {}", ("Own.shifts: analyses have no such hook any more", "Shift(lambda c, size")),
        ("weight_variations = ()", ("Own.weight_variations: analyses have no", "WeightFactor(lambda p, c, relax")),
        ("def weights(self, p, c, relax): return {}", ("Own.weights: analyses have no such hook", "self.factors")),
        (
            "def variations(self): return {'up': Transform(len), 'up': Transform(len)}",
            ("Own.variations(): 'up' is there twice, and Python would take the second", "its own name"),
        ),
    ],
)  # fmt: skip
def test_the_old_form_and_a_name_used_twice_are_refused_when_loaded(body, messages, tmp_path):
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, body)
    for message in messages:
        assert message in str(refused.value)


def test_a_weight_that_is_no_method_is_the_physicists_own(tmp_path):
    assert loaded(tmp_path, "weights = 'network.npz'").weights == "network.npz"


def test_methods_of_one_object_are_the_same_function():
    analysis = Counted()
    assert systematics.identity(analysis.factors) == systematics.identity(analysis.factors)
    assert systematics.identity(analysis.factors) != systematics.identity(Counted().factors)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"weight": jnp.ones((3, 2))}, "a weight that is an array of shape (3, 2)"),
        ({"weight": 1.0}, "a weight that is a single number"),
        ({"weight": None}, "a weight that is None (NoneType)"),
        ({"weight": jnp.ones(3), "value": jnp.ones((3, 2))}, "a value that is an array of shape (3, 2)"),
    ],
)
def test_an_observation_has_a_number_for_each_event(made, message):
    class Wrong(Counted):
        def observe(self, p, c, relax):
            found = Observation(weight=c.weight)
            for name, array in made.items():
                object.__setattr__(found, name, array)  # whatever its class says of the types
            return {"all": found}

    with pytest.raises(ConfigError, match=re.escape(f"Wrong observes {message}")):
        yields(Wrong())
