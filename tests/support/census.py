"""A table of the package's sizes and habits: `python tests/support/census.py [FOLDER]`; nothing of it is imported."""

import argparse
import ast
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "pipeline"
CHANGES = {
    "append",
    "extend",
    "insert",
    "add",
    "update",
    "setdefault",
    "pop",
    "popitem",
    "remove",
    "discard",
    "clear",
}
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def parsed(folder: Path) -> dict[Path, ast.Module]:
    """Every module of a folder, by its path in it."""
    return {
        path.relative_to(folder): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*.py"))
    }


def sizes(lines: Sequence[int]) -> str:
    """Median, 90 % and maximum."""
    ordered = sorted(lines)
    at_90 = ordered[min(len(ordered) - 1, 9 * len(ordered) // 10)]
    return f"{statistics.median(ordered):g} / {at_90} / {ordered[-1]}"


def named_any(tree: ast.Module) -> int:
    """How often an annotation, or the right side of an alias of a type, says Any."""
    return sum(
        isinstance(inner, ast.Name) and inner.id == "Any"
        for annotation in _annotations(tree)
        for inner in ast.walk(annotation)
    )


def _annotations(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, FUNCTIONS) and node.returns is not None:
            yield node.returns
    yield from (node.value for node in tree.body if isinstance(node, ast.Assign))


def classes_in_two_places(trees: Mapping[Path, ast.Module]) -> dict[str, list[str]]:
    """Modules of each class whose name there is more than once."""
    places: dict[str, list[str]] = {}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(path))
    return {name: where for name, where in places.items() if len(where) > 1}


def state(tree: ast.Module) -> list[str]:
    """Names of a module whose value its functions change, and those of its `global` statements."""
    own = {name for statement in tree.body for name in _assigned(statement)}
    changed = {
        name
        for function in ast.walk(tree)
        if isinstance(function, FUNCTIONS)
        for name in _changed(function) - _local(function)
    }
    declared = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    return sorted((own & changed) | declared)


def _assigned(statement: ast.stmt) -> Iterator[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    yield from (node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))


def _local(function: ast.AST) -> set[str]:
    stored = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return stored | {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}


def _changed(function: ast.AST) -> set[str]:
    """Names whose value is changed: by a method that does, or by what is assigned to an entry or attribute of it."""
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
            found |= {_root(node.func.value)}
        elif isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            found |= {_root(node.value)}
    return found - {""}


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def rows(folder: Path) -> Iterator[tuple[str, str]]:
    """What is counted, and how many there are."""
    trees = parsed(folder)
    entries = [p for p in folder.iterdir() if p.suffix == ".py" or (p.is_dir() and any(p.rglob("*.py")))]
    modules = [(folder / path).read_text(encoding="utf-8").count("\n") for path in trees]
    functions = [
        node.end_lineno - node.lineno + 1
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, FUNCTIONS) and node.end_lineno is not None
    ]
    by_folder = Counter[str]()
    for path, tree in trees.items():
        by_folder[path.parts[0]] += named_any(tree)
    yield "entries", str(len(entries))
    yield "modules, lines (median / 90 % / most)", f"{len(modules)}, {sizes(modules)}"
    yield "functions, lines (median / 90 % / most)", f"{len(functions)}, {sizes(functions)}"
    yield "names annotated Any", str(by_folder.total())
    yield from ((f"  {name}", str(number)) for name, number in by_folder.most_common() if number)
    doubles = classes_in_two_places(trees)
    yield "classes of one name in two places", str(len(doubles))
    yield from ((f"  {name}", ", ".join(where)) for name, where in doubles.items())
    states = {path: found for path, tree in trees.items() if (found := state(tree))}
    yield "state of modules that is changed", str(sum(map(len, states.values())))
    yield from ((f"  {path}", ", ".join(found)) for path, found in states.items())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=PACKAGE)
    table = list(rows(parser.parse_args().folder))
    width = max(len(name) for name, _ in table)
    for name, value in table:
        print(f"{name:<{width}}  {value}")


if __name__ == "__main__":
    main()
