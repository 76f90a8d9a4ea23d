"""Random numbers that belong to an event: functions of its number, so neither chunks nor the order of files matter.

The hash is the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
"""

import zlib

import numpy as np
import scipy.special
from jaxtyping import Float, Integer, UInt64

LARGEST_NORMAL = 8.3  # what `normal` can give at most: the probability of more is 2^-54
STEP = np.uint64(0x9E3779B97F4A7C15)


def uniform(numbers: Integer[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """One number in [0, 1) per event number."""
    return _hashed(numbers.astype(np.uint64)).astype(np.float64) / 2.0**64


def normal(
    numbers: Integer[np.ndarray, " n"], index: Integer[np.ndarray, " n"], stream: str
) -> Float[np.ndarray, " n"]:
    """One standard normal number per event number and index of an object in it.

    Arguments:
        stream: what it is drawn for; another name gives independent numbers.
    """
    key = _hashed(numbers.astype(np.uint64)) ^ np.uint64(zlib.crc32(stream.encode()))
    bits = _hashed(_hashed(key) + index.astype(np.uint64))
    open_interval = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53  # neither 0 nor 1
    return np.asarray(scipy.special.ndtri(open_interval))


def _hashed(bits: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    z = bits + STEP
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
