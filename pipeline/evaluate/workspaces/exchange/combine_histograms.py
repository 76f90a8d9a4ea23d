"""The histograms that a datacard names in ROOT files."""

import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import uproot
from jaxtyping import Float

from pipeline.errors import InputError

OBSERVED = "data_obs"
RATES_APART = 1e-3  # relative, of a rate and the content of its histogram

BinNumbers = Float[np.ndarray, " bins"]


class CardHistogram(NamedTuple):
    """Contents of the bins of a histogram, and their statistical errors."""

    contents: BinNumbers
    errors: BinNumbers


class CardHistograms:
    """The histograms that a card names, or one bin for each rate where it names none."""

    def __init__(self, path: Path, shapes: list[list[str]], counted: Mapping[str, float]):
        self._path, self._shapes, self._counted = path, shapes, counted
        self._read: dict[Path, dict[str, CardHistogram]] = {}

    def observed(self, channel: str) -> BinNumbers:
        """Return observed events, whose sum must be what the card says, if it says one."""
        if not self._shapes:
            return np.array([self._counted[channel]])
        found, counted = self._found(channel, OBSERVED, "").contents, self._counted[channel]
        if counted != -1 and not _same(counted, total := float(np.sum(found))):
            raise InputError(
                f"datacard {self._path}: observation {counted:g} in {channel!r}, but its histogram has {total:g}; "
                "write that, or -1"
            )
        return found

    def nominal(self, channel: str, process: str, rate: float) -> CardHistogram:
        """Return the template of a process, which must have the rate that the card says, if it says one."""
        if not self._shapes:
            return CardHistogram(np.array([rate]), np.zeros(1))
        found = self._found(channel, process, "")
        total = float(np.sum(found.contents))
        if rate != -1 and not _same(rate, total):
            raise InputError(
                f"datacard {self._path}: rate {rate:g} of {process!r} in {channel!r}, but its histogram has {total:g}"
            )
        return found

    def varied(self, channel: str, process: str, systematic: str) -> tuple[BinNumbers, BinNumbers] | None:
        """Return the templates up and down, None where there are none."""
        if not self._shapes:
            return None
        up, down = (self._sought(channel, process, f"{systematic}{side}") for side in ("Up", "Down"))
        if isinstance(up, CardHistogram) and isinstance(down, CardHistogram):
            return up.contents, down.contents
        there, missing = (up, down) if isinstance(up, CardHistogram) else (down, up)
        if isinstance(there, CardHistogram):
            raise InputError(
                f"{missing}, but the other one of {systematic!r}, Up and Down; give both or none"
            )
        return None

    def _found(self, channel: str, process: str, systematic: str) -> CardHistogram:
        found = self._sought(channel, process, systematic)
        if isinstance(found, str):
            raise InputError(found)
        return found

    def _sought(self, channel: str, process: str, systematic: str) -> CardHistogram | str:
        """Return a histogram, or why there is none."""
        for entry in reversed(self._shapes):  # the last that fits counts
            if len(entry) < 4 or not fits(entry[0], process) or not fits(entry[1], channel):
                continue
            pattern = entry[4] if systematic and len(entry) > 4 else entry[3]
            for key, value in (("$CHANNEL", channel), ("$PROCESS", process), ("$SYSTEMATIC", systematic)):
                pattern = pattern.replace(key, value)
            content = self._content(self._path.parent / entry[2])
            if pattern in content:
                return content[pattern]
            return f"datacard {self._path}: no histogram {pattern!r} in {entry[2]}"
        return f"datacard {self._path}: no line `shapes` for {process!r} in {channel!r}"

    def _content(self, path: Path) -> dict[str, CardHistogram]:
        if path not in self._read:
            try:
                with uproot.open(path) as file:
                    self._read[path] = {
                        name: CardHistogram(own.values().astype(np.float64), own.errors().astype(np.float64))
                        for name, own in file.items(filter_classname="TH1*", cycle=False)
                    }
            except (OSError, ValueError) as error:
                raise InputError(f"datacard {self._path}: {path} cannot be read: {error}") from error
        return self._read[path]


def _same(said: float, found: float) -> bool:
    return abs(said - found) <= RATES_APART * max(abs(said), abs(found))


def fits(pattern: str, name: str) -> bool:
    """Return whether a name is meant by one of a card, which may be ``*``."""
    return fnmatch.fnmatchcase(name, pattern)
