"""Commands and blocks of code in the pages, to be compared with what there is."""

import ast
import importlib
import itertools
import re
import shlex

import pydantic
from clones import ROOT

from pipeline import config
from pipeline.cli.command import thalweg

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "config/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
SHIPPED = re.compile(r"config/(?!mine\.yaml)")  # all others are the reader's
TARGETS = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
OF_A_SHELL = {";", "&&", "||", "|", "|&", "&", ">", "(", ")"}


def blocks(page, language):
    """Code of one language in a page."""
    return [code for name, code in BLOCK.findall(page.read_text()) if name == language]


def check_imports(code):
    """Import what a block of Python imports of this package."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pipeline":
            for alias in node.names:
                if not hasattr(importlib.import_module(node.module), alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


def check_sections(content):
    """Refuse sections of a configuration that it would refuse, but for what the page leaves out."""
    for key, section in content.items():
        if key in config.Config.model_fields:
            try:
                pydantic.TypeAdapter(config.Config.model_fields[key].annotation).validate_python(section)
            except pydantic.ValidationError as error:
                wrong = [own for own in error.errors() if not _is_of_a_part(own)]
                assert not wrong, wrong


def _is_of_a_part(error):
    """Whether an error is that of a section of which a page shows a part: there is more of it elsewhere."""
    return (
        error["type"] == "missing"
        or error["input"] == "..."
        or "is not one of the normfactors []" in error["msg"]
    )


def commands(page):
    """Commands of a page as lists of words: those of its blocks without a language."""
    for code in blocks(page, ""):
        for line in code.replace("\\\n", " ").splitlines():
            yield from simple_commands(line)


def simple_commands(line):
    """The commands of a line that begin with a program which is ours, or that runs something of ours."""
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, "#"
        words = list(lexer)
    except ValueError:
        return  # no command: text, or output
    found = [[]]
    for word in words:
        if word in OF_A_SHELL:
            found.append([])
        else:
            found[-1].append(word)
    for command in found:
        while command and (command[0] in ("sudo", "podman") or re.match(r"[A-Z_]+=", command[0])):
            command.pop(0)
        if command and command[0].rpartition("/")[2] in ("thalweg", "snakemake", "make", "python", "python3"):
            yield command


def check(command):
    """Refuse a command that the program would refuse, or that names what is not there."""
    program, *words = command
    program = program.rpartition("/")[2]
    if program.startswith("python") and words[:2] == ["-m", "pipeline"]:
        program, words = "thalweg", words[2:]
    if "..." in words:
        return
    if program == "thalweg":
        check_verb(words)
    elif program == "snakemake":
        check_workflow(words)
    elif program == "make":
        unknown = [word for word in words if "=" not in word and word not in TARGETS]
        assert not unknown, f"make has no target {unknown}"
    elif words and words[0].startswith(("tests/", "workflow/")):
        assert (ROOT / words[0]).is_file(), f"{words[0]} does not exist"


def check_verb(words):
    """Let the command line take a verb and its options, without running it."""
    if words and words[0].isupper():
        return
    with thalweg.make_context("thalweg", [*words]) as context:
        name, verb, rest = thalweg.resolve_command(context, words)
        taken = verb.make_context(name, rest, parent=context)
    if SHIPPED.match(str(taken.params.get("config"))):
        config.load(ROOT / taken.params["config"], keys_of(taken.params.get("overrides") or ()))


def keys_of(overrides):
    """Overrides of keys; `yields` and `scan` also take free parameters, which have no dot in their names."""
    return [override for override in overrides if "." in override.partition("=")[0]]


def check_workflow(words):
    """Load the shipped configuration of a call of Snakemake, with its overrides; look for its Snakefile and profile."""
    after = {word: following for word, following in itertools.pairwise(words) if word.startswith("--")}
    for option in ("--snakefile", "--profile"):
        path = after.get(option, "")
        assert "$" in path or path.startswith(("/", ".")) or (ROOT / path).exists(), f"{option} {path}"
    path = after.get("--configfile", "")
    if SHIPPED.match(path):
        config.load(ROOT / path, overrides_in(after.get("--config", "")))


def overrides_in(text):
    """The overrides of `--config set=...`, a text or a list."""
    given = text.removeprefix("set=") if text.startswith("set=") else ""
    if not given.startswith("["):
        return shlex.split(given)
    inside = given[1:-1]
    return re.findall(r'"([^"]*)"', inside) or inside.split(",")


def options_in_sentences(page):
    """Verb and option of each `thalweg VERB ... --option` that stands in a sentence."""
    for span in SPAN.findall(BLOCK.sub("", page.read_text())):
        words = span.split()
        if (
            len(words) > 1
            and words[0].rpartition("/")[2] == "thalweg"
            and words[1].isalpha()
            and words[1].islower()
        ):
            yield from ((words[1], word) for word in words[2:] if word.startswith("--"))
            yield words[1], "--help"


def options_of(verb):
    """The options of a verb."""
    assert verb in thalweg.commands, f"there is no verb {verb!r}"
    return {"--help", *(option for own in thalweg.commands[verb].params for option in own.opts)}
