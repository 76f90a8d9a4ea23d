"""The options of every verb, each explained, and the parser made of them."""

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pipeline
from pipeline.config.textfiles import impossible, shown
from pipeline.data import checksums, datasets
from pipeline.data.names import INITIAL, POINTS

Options = dict[str, dict[str, Any]]


def parser(verbs: Iterable[Callable[..., None]]) -> argparse.ArgumentParser:
    """The parser of the command line; a verb's help is its docstring, and `options.verb` the function."""
    top = argparse.ArgumentParser(prog="python -m pipeline", description=pipeline.__doc__.splitlines()[0])
    top.add_argument("--version", action="version", version=f"thalweg {pipeline.__version__}")
    choices = top.add_subparsers(required=True, metavar="VERB")
    options = _options()
    debug: Options = {
        "--debug": {"action": "store_true", "help": "print the traceback of an error too (default: no)"}
    }
    for verb in verbs:
        own = choices.add_parser(verb.__name__, help=verb.__doc__, description=verb.__doc__)
        for flag, settings in (options[verb.__name__] | debug).items():
            own.add_argument(flag, **settings)
        own.set_defaults(verb=verb)
    return top


def _options() -> dict[str, Options]:
    """The options of each verb."""
    file: Options = {
        "--sample": {"required": True, "help": "process, or process__variation (required)"},
        "--index": {"required": True, "type": _whole(0), "help": "file of the sample, from 0 (required)"},
    }
    output: Options = {"--output": {"required": True, "type": _path, "help": "file to write (required)"}}
    cores = os.cpu_count() or 1
    workers: Options = {
        "--workers": {"type": _whole(1), "default": cores, "help": "worker processes (default: %(default)s)"},
        "--memory-mb": {"type": _whole(1), "help": "memory they may use together (default: the machine's)"},
    }
    block: Options = {
        "--block": {"type": _whole(1), "default": 1, "help": "block of epochs, from 1 (default: %(default)s)"}
    }
    figures: Options = {
        "--figures": {"required": True, "type": _path, "help": "folder for the figures (required)"}
    }
    point = {
        "choices": POINTS,
        "default": INITIAL,
        "help": "start values of the configuration, or the run's result (default: %(default)s)",
    }
    fold = {
        "choices": [datasets.ALL, datasets.TRAIN, datasets.HELD_OUT],
        "default": datasets.ALL,
        "help": "events to count, each fold normalised to the whole luminosity (default: %(default)s)",
    }
    over: Options = {
        "--over": {
            "action": "append",
            "required": True,
            "metavar": "PARAMETER=VALUES",
            "help": "a free parameter and its values: jet_pt=25:60:15, btag=[0.3,0.5]; repeated: their grid (required)",
        }
    }
    folder: Options = {
        "--folder": {"type": _path, "default": Path("config"), "help": "to write to (default: %(default)s)"}
    }
    run = _run()
    generated = {"nargs": "?", "help": "YAML file of a run with a section simulate, in place of --process"}
    return {
        "simulate": run | file | output,
        "manifest": _inventory() | run | {"config": {**run["config"], **generated}} | output,
        "columns": run | file | output,
        "optimise": run | block | output | workers,
        "evaluate": run | output | workers,
        "report": run | output | figures,
        "yields": run | {"--parameters": point, "--fold": fold},
        "histograms": run | {"--parameters": point, "--fold": fold} | output | workers,
        "scan": run | over | {"--parameters": point, "--fold": fold} | output | workers,
        "validate": {
            "histograms": {"type": _path, "help": "file written by the verb `histograms`"},
            "--reference": {"required": True, "type": _path, "help": "JSON file of the challenge (required)"},
        },
        "schema": folder,
    }


def _inventory() -> Options:
    """What the verb `manifest` takes of ROOT files that are there."""
    return {
        "--process": {
            "action": "append",
            "nargs": "+",
            "default": [],
            "metavar": ("NAME", "FILE"),
            "help": "process, or process__variation, and its files: paths, URLs or quoted patterns such as "
            "'data/ttbar*.root'; repeated for every process (default: none, the generated events of CONFIG)",
        },
        "--tree": {"default": "Events", "help": "tree whose entries are the events (default: %(default)s)"},
        "--generator-weight": {
            "metavar": "BRANCH",
            "help": "branch with the generator's weights to add up (default: genWeight, where there is one)",
        },
        "--checksum": {
            "choices": [*checksums.DIGITS, "none"],
            "default": "adler32",
            "help": "of every file, to be verified when it is read (default: %(default)s)",
        },
        "--allow-repeated": {
            "action": "store_true",
            "help": "a file, or a copy of it, may be there twice (default: an error)",
        },
    }


def _run() -> Options:
    """What every verb of a run takes."""
    return {
        "config": {"type": _path, "metavar": "CONFIG", "help": "YAML file of the run, see config/README.md"},
        "--set": {
            "action": "append",
            "default": [],
            "metavar": "KEY=VALUE",
            "help": "override a key of the configuration, as in optimise.epochs=20; may be repeated (default: none)",
        },
        "--log": {"type": _path, "help": "write messages to this file too (default: only standard error)"},
    }


def _path(text: str) -> Path:
    """Type of an option that is the path of a file or folder, which need not be there."""
    path = Path(text)
    if wrong := impossible(path):
        raise argparse.ArgumentTypeError(f"{shown(text)} can be no path: {wrong}")
    return path


def _whole(least: int) -> Callable[[str], int]:
    """Type of an option that is a whole number, `least` or more."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
        return value

    return number
