"""The house's rules on the code itself: order of imports, sizes, no imports hidden in functions."""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline

PACKAGE = Path(pipeline.__file__).parent
# Left to right; a folder imports only from the ones before it. `analyses` are loaded by name, from configurations.
ORDER = [
    *("errors", "runtime", "containers", "config", "data", "relax", "analysis", "columns", "simulate"),
    *("templates", "likelihood", "fit", "objective", "gradient", "cluster", "optimise", "evaluate", "report"),
    *("analyses", "cli", "__main__"),
]
# The same inside each folder. Those of `analyses` import at most one another.
INSIDE = {
    "analysis": "assign clusters learned_bins declarations theory benchmarks systematics weights lookups contract"
    " resolution initial",
    "cli": "progress signals reference options point tables estimate check starter verbs command main simple run",
    "cli/check": "findings declared events folds cut_values bounds shared_events observed stage",
    "cli/estimate": "numbers sample shapes traffic programs pool prediction words table stage",
    "cli/starter": "files folder",
    "cli/verbs": "starting checks events stages watching estimates points learned workspaces conversion snakefile crate"
    " schema",
    "cluster": "settings security assignment tree workers sweeping batch",
    "columns": "padding coffea_weights branches rootfile bookkeeping inventory preselection selection one_file make",
    "config": "textfiles located sources targets section kinds notation cluster events channels fit quantity"
    " quantities objective optimisation judging sections reader",
    "config/fit": "factors systematics theory abcd correlations model groups placing",
    "data": "names atomic jsonfiles written record progress event_random store results checksums manifest jobs datasets"
    " column_file normalisation provenance fingerprint run_files",
    "evaluate": "variation_noise robustness evaluation yields change flags summary by_pyhf at_point rows"
    " stage cross_fitting hist_objects histograms scan workspaces",
    "evaluate/by_pyhf": "state conditional coefficients covariance objectives interval fit",
    "evaluate/robustness": "certificate polish refits toy_measures toys together brief",
    "evaluate/yields": "thin selected whole outside purity",
    "evaluate/workspaces": "given results fits beside exchange",
    "evaluate/workspaces/exchange": "content hs3 hs3_values hs3_reading combine_limits combine_histograms"
    " combine combine_lines combine_reading cabinetry_files hepdata formats",
    "fit": "curvature starting newton look global_search implicit fits crossing hypotest interval poi impacts pool"
    " many_fits toys shares breakdown contour",
    "gradient": "work scratch chunks resident accumulator vectors black_box compiled held shares sweeps"
    " pieces suspects loss halves",
    "likelihood": "interpolation workspace structure checks patches paramsets layout multipliers stacked terms"
    " histfactory cells bordered derivatives lane_templates lanes configured",
    "likelihood/configured": "estimates vocabulary correlated joined pruning specifier at_coefficients"
    " run_workspace",
    "objective": "value signature mean merit asimov_significance precision parts sensitivity joint_significance"
    " cross_entropy likelihood_ratio penalties weighted_sum bounds",
    "optimise": "schedule parameters given_values width_names width_uses automatic_widths first_step kept leading"
    " checkpoints update starts pruning surrogate_calls epochs blocks plateaus convergence own_loop",
    "relax": "arrays cells widths cuts choice multiplicity direct edges bandwidths quantiles ordering moments status"
    " grid histogram exact relaxed",
    "report": "drawn figures live templates robustness contours toys page watch crate",
    "simulate": "generate in_memory program augmented pythia",
    "simulate/pythia": "processes associated_top generator response leptons jets detector towers tau_decays"
    " ditau writer",
    "templates": "binning axes polynomial shapes running_medians smoothing surrogate variations blocks fill varied"
    " cautions",
}
MOST_ENTRIES = 20  # of the package and of each folder, besides __init__ and __main__
MODULE_LINES, FUNCTION_LINES, MEDIAN_MODULE, MEDIAN_FUNCTION = 300, 60, 160, 12
COPIED = PACKAGE / "cli/starter/files"  # by `thalweg init`: a user's files, no modules of the package
FILES = sorted(path for path in PACKAGE.rglob("*.py") if not path.is_relative_to(COPIED))
PUBLIC = {
    "pipeline": ("LivePlot", "Run", "simple_settings", "value_and_grad"),
    "pipeline.analysis": (
        *("Analysis", "FlatTree", "Free", "NanoAOD", "Shift", "Simulated", "Transform", "WeightFactor"),
        *("coffea_variations", "lookup", "GaussianBins", "NetworkBins", "gains", "Benchmarks", "Theory"),
    ),
    "pipeline.columns": ("coffea_weights", "mask", "noise", "normal", "pad"),
    "pipeline.containers": ("Columns", "Observation", "Parameters", "Templates"),
    "pipeline.relax": ("Exact", "Relaxed", "histogram"),
    "pipeline.objective": ("OBJECTIVES",),
    "pipeline.likelihood": ("HistFactory", "patched"),
    "pipeline.fit": ("fit", "fit_with_covariance", "profile"),
    "pipeline.objective.likelihood_ratio": ("Estimated", "Known", "estimator_of", "ratio_loss"),
    "pipeline.simulate.augmented": ("joint",),
    "pipeline.hypotest": ("expected_upper_limit", "hypotest"),
    "pipeline.programs": ("Program",),
}


def module_of(path):
    """The folder or root module that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree):
    """What a file imports of the package, as parts of dotted names: a module, or what is in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pipeline":
            yield from ((*node.module.split(".")[1:], alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (tuple(a.name.split(".")[1:]) for a in node.names if a.name.startswith("pipeline."))


def folders():
    """Folders with modules, by their path in the package."""
    found = {path.parent for path in FILES} - {PACKAGE}
    return {str(folder.relative_to(PACKAGE)): folder for folder in sorted(found)}


def functions(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_left_only(path):
    here, found = module_of(path), list(imported(ast.parse(path.read_text())))
    if here == "__init__":
        assert not found
        return
    for other, *_ in found:
        assert other == here or ORDER.index(other) < ORDER.index(here), (
            f"{here} imports {other}, which stands right of it"
        )


@pytest.mark.parametrize("folder", sorted(INSIDE))
def test_imports_go_left_only_inside_a_folder(folder):
    order, above = INSIDE[folder].split(), tuple(folder.split("/"))
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        own = path.relative_to(PACKAGE / folder).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for parts in imported(ast.parse(path.read_text())):
            if parts[: len(above)] != above or parts[len(above)] == own:
                continue
            other = parts[len(above)]
            assert other in order, f"{path} imports {other} from its own package; name the module"
            assert order.index(other) < order.index(own), f"{folder}: {own} imports {other}, right of it"


def test_one_word_is_one_thing():
    """Classes and types that modules show are of different names, the configuration's among them."""
    owners = {}
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            for name in _types(node):
                owners.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    assert not {name: paths for name, paths in owners.items() if len(paths) > 1}


def _types(node):
    """The classes that a statement of a module makes, and the aliases: both are in CamelCase."""
    names = [node.name] if isinstance(node, ast.ClassDef) else []
    if isinstance(node, ast.Assign) and "TypeVar" not in ast.unparse(node.value):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [name for name in names if name[0].isupper() and not name.isupper()]


def test_every_folder_has_an_order_and_few_entries():
    assert set(INSIDE) == set(folders()) - {"analyses"}
    for name, folder in folders().items():
        entries = {path.relative_to(folder).parts[0].removesuffix(".py") for path in folder.rglob("*.py")}
        if name != "analyses":
            assert entries - {"__init__"} == set(INSIDE[name].split()), name
            assert len(entries) - 1 <= MOST_ENTRIES
    assert len(ORDER) - 1 <= MOST_ENTRIES


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_public_paths_stay(module):
    """What users' analyses import, in a process that has imported nothing else of the package."""
    command = f"from {module} import {', '.join(PUBLIC[module])}"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_sizes_and_hidden_imports(path):
    text = path.read_text()
    assert text.count("\n") <= MODULE_LINES
    for function in functions(ast.parse(text)):
        assert function.end_lineno - function.lineno + 1 <= FUNCTION_LINES, function.name
        if module_of(path) != "cli":
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
    scripts = [*(PACKAGE.parent / "workflow/studies").glob("*.py")]
    assert scripts
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
