"""The house's rules on the code itself: order of imports, sizes, no imports hidden in functions."""

import ast
import statistics
from pathlib import Path

import pytest

import pipeline

PACKAGE = Path(pipeline.__file__).parent
# Left to right; a module imports only from the ones before it. `analyses` are loaded by name, from configurations.
ORDER = [
    "errors",
    "textfiles",
    "runtime",
    "containers",
    "relax",
    "draws",
    "sources",
    "targets",
    "config",
    "atomic",
    "store",
    "results",
    "checksums",
    "manifest",
    "datasets",
    "normalisation",
    "provenance",
    "runs",
    "declarations",
    "analysis",
    "resolution",
    "ntuples",
    "branches",
    "reading",
    "programs",
    "bookkeeping",
    "inventory",
    "padding",
    "selection",
    "columns",
    "requirements",
    "binning",
    "observing",
    "surrogate",
    "templates",
    "shapes",
    "workspace",
    "diagnosis",
    "cautions",
    "likelihood",
    "fit",
    "hypotest",
    "objective",
    "poi",
    "interval",
    "nuisance",
    "fingerprint",
    "problem",
    "widths",
    "chunks",
    "simulator",
    "compiled",
    "gradient",
    "outset",
    "centre",
    "cluster",
    "histograms",
    "calls",
    "checkpoints",
    "optimise",
    "pyhf_state",
    "conditional",
    "judges",
    "minos",
    "final",
    "verdict",
    "evaluate",
    "report",
    "simulate",
    "analyses",
    "reference",
    "progress",
    "signals",
    "points",
    "scan",
    "arguments",
    "verbs",
    "cli",
    "__main__",
]
MODULE_LINES, FUNCTION_LINES, MEDIAN_MODULE, MEDIAN_FUNCTION = 300, 60, 160, 12
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path):
    """The concept a file belongs to."""
    part = path.relative_to(PACKAGE).parts[0]
    return part.removesuffix(".py")


def imports(tree, path):
    """Concepts of the package that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pipeline":
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from [a.name.split(".")[1] for a in node.names if a.name.startswith("pipeline.")]


def functions(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_left_only(path):
    here = module_of(path)
    if here == "__init__":
        assert not list(imports(ast.parse(path.read_text()), path))
        return
    for other in imports(ast.parse(path.read_text()), path):
        assert other == here or ORDER.index(other) < ORDER.index(here), (
            f"{here} imports {other}, which stands right of it"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_sizes_and_hidden_imports(path):
    text = path.read_text()
    assert text.count("\n") <= MODULE_LINES
    for function in functions(ast.parse(text)):
        assert function.end_lineno - function.lineno + 1 <= FUNCTION_LINES, function.name
        if path.name not in ("cli.py", "verbs.py"):
            hidden = [n for n in ast.walk(function) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert not hidden, f"{function.name} imports"


def test_the_order_names_every_module():
    assert {module_of(path) for path in FILES} - {"__init__"} == set(ORDER)


def test_medians():
    lines = [path.read_text().count("\n") for path in FILES]
    sizes = [n.end_lineno - n.lineno for path in FILES for n in functions(ast.parse(path.read_text()))]
    assert statistics.median(lines) <= MEDIAN_MODULE
    assert statistics.median(sizes) <= MEDIAN_FUNCTION


def test_gpl_libraries_are_imported_by_the_simulation_only():
    for path in FILES:
        if module_of(path) != "simulate":
            names = {
                a.name.split(".")[0]
                for n in ast.walk(ast.parse(path.read_text()))
                if isinstance(n, ast.Import)
                for a in n.names
            }
            assert not names & {"pythia8mc", "fastjet"}, path


def test_text_files_are_utf_8_whatever_the_locale():
    """Text is read and written with an encoding: without one, Python takes the locale's."""
    scripts = [*(PACKAGE.parent / "workflow/scripts").glob("*.py")]
    for path in (*FILES, *scripts):
        for call in (
            n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)
        ):
            named = {keyword.arg: keyword.value for keyword in call.keywords}
            if _takes_the_locale(call, named):
                assert "encoding" in named, f"{path.name}, line {call.lineno}: say encoding="


def _takes_the_locale(call, named):
    """Whether a call opens text in the locale's encoding where none is given."""
    method = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", None)
    owner = getattr(getattr(call.func, "value", None), "id", None)
    if method in ("read_text", "write_text", "fdopen"):
        return isinstance(call.func, ast.Attribute) and owner != "store"
    if method in ("run", "Popen", "check_output"):
        return "text" in named or "universal_newlines" in named
    given = [a.value for a in (*call.args, named.get("mode")) if isinstance(a, ast.Constant)]
    text_modes = [m for m in given if isinstance(m, str) and set(m) <= set("rwax+t")]
    bare = method == "open" and owner not in ("os", "uproot", "webbrowser")
    return bare and (
        bool(text_modes) or (isinstance(call.func, ast.Attribute) and not call.args and not named)
    )
