"""A program as the stage of an analysis that has no derivative: a command, perhaps Snakemake's, ROOT in and out."""

import dataclasses
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import uproot

from pipeline.errors import ConfigError, InputError, nearest
from pipeline.simulate import generate

LAST_WORDS = 2000  # characters of what a program that failed said


@dataclasses.dataclass(frozen=True)
class Program:
    """A command that makes columns of events at given parameters, for ``Analysis.simulate`` to call.

    Its fields in braces are filled in: every parameter by its name; ``{seed}``, a number for its random numbers;
    ``{input}``, a ROOT file with the columns as branches of the tree ``Events``; ``{output}``, such a file that it has
    to write, with one entry for each event in the same order; ``{folder}``, an empty folder of the call's own. A rule
    of Snakemake:

        snakemake --snakefile detector.smk --directory {folder} --cores 1
          --config radius={radius} seed={seed} events={input} -- {output}
    """

    command: str
    outputs: tuple[str, ...]

    def __call__(
        self, p: Mapping[str, float], c: Mapping[str, np.ndarray], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Return the outputs of some events.

        Raises:
            ConfigError: a field in braces is none of those above.
            InputError: it failed, or did not write what it should.
        """
        with tempfile.TemporaryDirectory() as scratch:
            source, made, folder = (Path(scratch) / name for name in ("input.root", "output.root", "folder"))
            folder.mkdir()
            generate.write(dict(c), source)
            own = {"input": source, "output": made, "folder": folder, "seed": int(rng.integers(1 << 31))}
            fields = {**p, **own}
            try:
                arguments = [word.format(**fields) for word in shlex.split(self.command)]
            except (LookupError, ValueError, AttributeError, TypeError) as error:
                name = str(error).strip("'")
                raise ConfigError(
                    f"command {self.command!r}: no field {{{name}}}; {nearest(name, fields)}"
                ) from error
            _run(arguments)
            return {
                name: _branch(arguments, made, name, len(next(iter(c.values())))) for name in self.outputs
            }


def _run(arguments: list[str]) -> None:
    try:
        done = subprocess.run(arguments, capture_output=True, encoding="utf-8", errors="replace", check=False)
    except OSError as error:
        raise InputError(
            f"the program {arguments[0]!r} cannot be started: {error.strerror or error}"
        ) from error
    if done.returncode:
        said = (done.stderr or done.stdout)[-LAST_WORDS:]
        raise InputError(f"{shlex.join(arguments)} ended with code {done.returncode}:\n{said}")


def _branch(arguments: list[str], path: Path, name: str, events: int) -> np.ndarray:
    """Return a branch of what a program wrote."""
    try:
        with uproot.open(path) as file:
            found: np.ndarray = file[generate.TREE][name].array(library="np")
    except Exception as error:  # uproot's alone, on whatever the program wrote
        reason = f"cannot be read from the tree {generate.TREE!r} of its output: {error}"
        raise InputError(f"{shlex.join(arguments)}: branch {name!r} {reason}") from error
    if found.shape != (events,):
        raise InputError(
            f"{shlex.join(arguments)}: branch {name!r} of its output has shape {found.shape}, not one number "
            f"for each of the {events} events"
        )
    return found
