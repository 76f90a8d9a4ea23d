"""Jagged objects -> rectangular arrays, and random numbers of events: what ``Analysis.columns`` is made with."""

import awkward as ak
import numpy as np

from pipeline.data import event_random
from pipeline.errors import InputError

FLOATS, WHOLE = "f", "iub"  # kinds of NumPy's types that a column holds
NUMBERS = FLOATS + WHOLE
PLAIN = "[events][objects] numbers"


class UnsuitableArray(InputError):
    """What ``pad``, ``mask``, ``normal`` or ``noise`` is given is not what it takes."""


class TooManyObjects(UnsuitableArray):
    """An event has more objects than the columns hold."""


def pad(array: object, objects: int, *, fill: object = 0) -> np.ndarray:
    """Return jagged ``[events][objects]`` as rectangular ``[events, objects]`` of the same type, missing ones filled.

    Raises:
        TooManyObjects: an event has more; nothing is dropped in silence. Cut or slice (``jets[:, :8]``) first.
        UnsuitableArray: no ``[events][objects]`` array of numbers; a fill that its type does not hold.
    """
    return _padded("pad", array, objects, fill)


def mask(array: object, objects: int) -> np.ndarray:
    """Return 1 where ``pad`` holds an object, 0 where it filled; ``[events, objects]`` of the array's type.

    Raises:
        TooManyObjects, UnsuitableArray: as ``pad``.
    """
    return _padded("mask", array, objects, 0, ones=True)


def normal(event_numbers: object, objects: object, stream: str) -> ak.Array:
    """Return standard normal numbers ``[events][objects]``, functions of event number, place and ``stream`` alone.

    Give all objects of the events, before any selection: their places are part of it.

    Raises:
        UnsuitableArray: no whole number for each event, or no objects of each.
    """
    found = _lists("normal", objects)
    numbers = _whole("normal", event_numbers)
    if len(numbers) != len(found):
        raise UnsuitableArray(
            f"normal: {len(numbers)} event numbers for objects of {len(found)} events; give those of the same events"
        )
    counts = ak.to_numpy(ak.num(found, axis=1))
    places = ak.to_numpy(ak.flatten(ak.local_index(found, axis=1), axis=1))
    return ak.unflatten(event_random.normal(np.repeat(numbers, counts), places, stream), counts)


def noise(event_numbers: object, number: int, stream: str = "noise") -> np.ndarray:
    """Return ``number`` standard normal numbers per event, float32 ``[events, number]``.

    They are functions of the event's number and of ``stream`` alone. As column ``noise`` they are what the
    generator that stands in for ``Analysis.simulate`` draws by.

    Raises:
        UnsuitableArray: no whole number for each event.
    """
    events = _whole("noise", event_numbers)
    index = np.tile(np.arange(_size("noise", number)), len(events))
    drawn = event_random.normal(np.repeat(events, number), index, stream)
    return drawn.reshape(len(events), number).astype(np.float32)


def _padded(what: str, array: object, objects: int, fill: object, *, ones: bool = False) -> np.ndarray:
    found = _lists(what, array)
    if found.fields:
        raise UnsuitableArray(
            f"{what}: the objects are records of {', '.join(found.fields)}; {what} one field at a time, "
            f"as in {what}(jets.pt, ...), and ak.unzip what ak.combinations or ak.cartesian made first"
        )
    if found.ndim > 2:
        raise UnsuitableArray(
            f"{what}: the array has {found.ndim - 1} jagged levels ({found.type}), a column one; take one number of "
            "each object first, as ak.firsts(array, axis=2) or ak.sum(array, axis=2) do, or ak.flatten(array, axis=2)"
        )
    counts = ak.to_numpy(ak.num(found, axis=1))
    if len(counts) and counts.max() > _size(what, objects):
        raise TooManyObjects(
            f"an event has {counts.max()} objects, more than the {objects} of {what}(..., {objects})"
        )
    flat = _flat(what, found)
    padded = np.full((len(counts), objects), _fill(what, fill, flat.dtype), dtype=flat.dtype)
    padded[np.arange(objects) < counts[:, None]] = 1 if ones else flat
    return padded


def _lists(what: str, array: object) -> ak.Array:
    """Return the array, once it is known to hold a list of each event, none of them missing."""
    try:
        found = array if isinstance(array, ak.Array) else ak.Array(array)
    except (TypeError, ValueError) as error:
        raise UnsuitableArray(f"{what}: takes {PLAIN}, not a {type(array).__name__}") from error
    if found.ndim == 1:
        raise UnsuitableArray(
            f"{what}: the array is flat ({found.type}), one number of each event; return it as a column as it is"
        )
    if found.ndim < 1:
        raise UnsuitableArray(
            f"{what}: the array mixes kinds ({found.type}), as ak.concatenate of different ones makes; takes {PLAIN}"
        )
    return _present(what, found, 0, "events", "ak.fill_none(array, [], axis=0) for events without objects")


def _present(what: str, array: ak.Array, axis: int, things: str, cure: str) -> ak.Array:
    """Return the array without its type's room for None, if there is no None in it."""
    missing = int(ak.sum(ak.is_none(array, axis=axis), axis=None))
    if missing:
        raise UnsuitableArray(
            f"{what}: the array is masked: {missing} {things} are None, as ak.mask or ak.firsts make them; use {cure}"
        )
    return ak.drop_none(array, axis=axis)


def _flat(what: str, array: ak.Array) -> np.ndarray:
    """Return the numbers of all objects."""
    cure = "ak.drop_none(array, axis=1) to leave them out, or ak.fill_none(array, 0)"
    plain = _present(what, array, 1, "objects", cure)
    try:
        flat = np.asarray(ak.to_numpy(ak.flatten(plain, axis=1), allow_missing=False))
    except (TypeError, ValueError) as error:
        raise UnsuitableArray(f"{what}: takes {PLAIN}, not {array.type}") from error
    if flat.dtype.kind not in NUMBERS:
        raise UnsuitableArray(f"{what}: takes {PLAIN}, not {array.type}")
    return flat.astype(flat.dtype.newbyteorder("="), copy=False)


def _fill(what: str, fill: object, dtype: np.dtype) -> np.ndarray:
    """Return the fill in the array's type."""
    try:
        with np.errstate(all="ignore"):
            found = np.asarray(fill).astype(dtype)
        if _holds(found, fill):
            return found
    except (TypeError, ValueError, OverflowError):
        pass
    raise UnsuitableArray(
        f"{what}: fill={fill!r} is none of the numbers that {dtype} holds, the type of the array; choose another "
        "or ak.values_astype(array, 'float64') first"
    )


def _holds(found: np.ndarray, fill: object) -> bool:
    """Return whether a fill in the array's type is still that number; a real one may be rounded, but not to nothing."""
    if found.ndim:
        return False
    if found.dtype.kind in WHOLE:
        return bool(found == fill)
    return bool(np.isfinite(found) and (found != 0) == (fill != 0))


def _size(what: str, objects: object) -> int:
    if isinstance(objects, bool) or not isinstance(objects, int | np.integer) or objects < 1:
        raise UnsuitableArray(f"{what}: {objects!r} is no number of objects; give a whole number from 1")
    return int(objects)


def _whole(what: str, event_numbers: object) -> np.ndarray:
    """Return numbers of events, one whole number for each."""
    try:
        numbers = np.asarray(ak.to_numpy(event_numbers, allow_missing=False))
    except (TypeError, ValueError):
        numbers = np.empty((), dtype=object)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        kind = getattr(event_numbers, "type", None) or type(event_numbers).__name__
        raise UnsuitableArray(
            f"{what}: event numbers are one whole number for each event, not {kind}; give events.event_number"
        )
    return numbers
