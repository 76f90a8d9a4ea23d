"""The structure of a pyhf workspace, for where pyhf itself, whose schema says it too, is not installed.

As version 1.0.0 of that schema, https://scikit-hep.org/pyhf/schemas/1.0.0/defs.json: the same keys and types.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, Field


def _listed(values: object) -> object:
    """Return an array or tuple as a list, which JSON would have it as."""
    if isinstance(values, tuple):
        return list(values)
    return values.tolist() if hasattr(values, "tolist") else values


_Numbers = Annotated[list[float], BeforeValidator(_listed), Field(min_length=1)]


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, defer_build=True)  # few need it


class _TwoSides(_Strict):
    lo_data: _Numbers
    hi_data: _Numbers


class _TwoFactors(_Strict):
    lo: float
    hi: float


class _Histosys(_Strict):
    name: str
    type: Literal["histosys"]
    data: _TwoSides


class _Normsys(_Strict):
    name: str
    type: Literal["normsys"]
    data: _TwoFactors


class _Lumi(_Strict):
    name: Literal["lumi"]
    type: Literal["lumi"]
    data: None


class _WithoutNumbers(_Strict):
    name: str
    type: Literal["normfactor", "shapefactor"]
    data: None


class _PerBin(_Strict):
    name: str
    type: Literal["shapesys", "staterror"]
    data: _Numbers


_Modifier = Annotated[_Histosys | _Normsys | _Lumi | _WithoutNumbers | _PerBin, Field(discriminator="type")]


class _SampleEntry(_Strict):
    name: str
    data: _Numbers
    modifiers: list[_Modifier]


class _ChannelEntry(_Strict):
    name: str
    samples: list[_SampleEntry] = Field(min_length=1)


class _Observed(_Strict):
    name: str
    data: _Numbers


class _ParameterEntry(_Strict):
    name: str
    inits: _Numbers = [0.0]
    bounds: list[list[float]] = Field([[0.0]], min_length=1)
    auxdata: _Numbers = [0.0]
    factors: _Numbers = [0.0]
    sigmas: _Numbers = [0.0]
    fixed: bool = False


class _MeasurementConfig(_Strict):
    poi: str
    parameters: list[_ParameterEntry]


class _MeasurementEntry(_Strict):
    name: str
    config: _MeasurementConfig


class _WorkspaceFile(_Strict):
    channels: list[_ChannelEntry] = Field(min_length=1)
    measurements: list[_MeasurementEntry] = Field(min_length=1)
    observations: list[_Observed] = Field(min_length=1)
    version: Literal["1.0.0"]


def require_structure(workspace: Any) -> None:
    """Raise where a workspace is not built as pyhf's are.

    Raises:
        ValueError: the message says where, and what is there.
    """
    try:
        _WorkspaceFile.model_validate(workspace)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{_place(first['loc'])}: {first['msg']}, not {first['input']!r:.60}") from error


def _place(location: Sequence[int | str]) -> str:
    """Return where in the file, as pyhf's messages have it."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)[1:] or "it"
