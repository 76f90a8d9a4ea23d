"""Files of models, by their format: what a file is, and one format from another."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline.data.jsonfiles import read_json, write_json
from pipeline.errors import InputError
from pipeline.evaluate.workspaces.exchange.cabinetry_files import write_cabinetry
from pipeline.evaluate.workspaces.exchange.combine import write_card
from pipeline.evaluate.workspaces.exchange.combine_reading import read_card
from pipeline.evaluate.workspaces.exchange.content import content_of
from pipeline.evaluate.workspaces.exchange.hepdata import write_hepdata
from pipeline.evaluate.workspaces.exchange.hs3 import to_hs3
from pipeline.evaluate.workspaces.exchange.hs3_reading import from_hs3
from pipeline.evaluate.workspaces.given import given_workspace
from pipeline.likelihood.workspace import Workspace

ReadFormat = Literal["pyhf", "hs3", "combine"]
WrittenFormat = Literal["pyhf", "hs3", "combine", "cabinetry", "hepdata"]


class Wanted(NamedTuple):
    """What is asked of a conversion beside the format."""

    measurement: str | None = None
    explicit_gammas: bool = False
    summary: Path | None = None


PLAIN = Wanted()


def read_model(path: Path, measurement: str | None = None) -> tuple[ReadFormat, Workspace]:
    """Return the format of a file and its content as a pyhf workspace: JSON of pyhf or HS3, else a datacard.

    Args:
        measurement: of HS3, the analysis.

    Raises:
        InputError: it cannot be read, or says what a pyhf workspace cannot.
    """
    if path.suffix != ".json":
        return "combine", read_card(path)
    content = read_json(path)
    if not isinstance(content, dict) or not {"channels", "distributions"} & set(content):
        raise InputError(
            f"{path} is neither a pyhf workspace, with `channels`, nor HS3, with `distributions`"
        )
    return ("hs3", from_hs3(content, measurement)) if "distributions" in content else ("pyhf", content)


def convert(source: Path, target: Path, written: WrittenFormat, wanted: Wanted = PLAIN) -> ReadFormat:
    """Write the model of a file in another format; what that cannot say is refused by its name.

    Returns:
        what the file was.

    Raises:
        InputError: the file cannot be read, or has something that either format has no words for.
    """
    read, workspace = read_model(source, wanted.measurement)
    content = content_of(workspace, None if read == "combine" else wanted.measurement, source)
    writers: dict[WrittenFormat, Callable[[], None]] = {
        "pyhf": lambda: write_json(target, workspace),
        "hs3": lambda: write_json(target, to_hs3(content, explicit=wanted.explicit_gammas)),
        "combine": lambda: write_card(target, content),
        "cabinetry": lambda: write_cabinetry(target, content),
        "hepdata": lambda: _hepdata(source, target, read, wanted),
    }
    writers[written]()
    return read


def _hepdata(source: Path, target: Path, read: ReadFormat, wanted: Wanted) -> None:
    if read != "pyhf":
        raise InputError(f"{source}: tables of HEPData are made of a pyhf workspace; convert it to one first")
    summary = None if wanted.summary is None else read_json(wanted.summary)
    write_hepdata(target, given_workspace(source, measurement=wanted.measurement), summary)
