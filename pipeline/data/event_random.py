"""Random numbers that belong to an event: functions of its number, so neither chunks nor the order of files matter.

The hash is the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
"""

import hashlib
import zlib

import numpy as np
import scipy.special
from jaxtyping import Float, Integer, UInt64

MOST_COPIES = 20  # of an event in a replica: the probability of more is below 2^-64
POISSON_CDF = scipy.special.pdtr(np.arange(MOST_COPIES), 1.0)  # of mean 1, at 0, 1, 2, ...
LARGEST_NORMAL = 8.3  # what `normal` can give at most: the probability of more is 2^-54
STEP = np.uint64(0x9E3779B97F4A7C15)


def uniform(numbers: Integer[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return one number in [0, 1) per event number."""
    return _hashed(numbers.astype(np.uint64)).astype(np.float64) / 2.0**64


def normal(
    numbers: Integer[np.ndarray, " n"], index: Integer[np.ndarray, " n"], stream: str
) -> Float[np.ndarray, " n"]:
    """Return one standard normal number per event number and index of an object in it.

    Args:
        stream: what it is drawn for; another name gives independent numbers.
    """
    key = _hashed(numbers.astype(np.uint64)) ^ np.uint64(zlib.crc32(stream.encode()))
    bits = _hashed(_hashed(key) + index.astype(np.uint64))
    open_interval = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53  # neither 0 nor 1
    return np.asarray(scipy.special.ndtri(open_interval))


def keys(numbers: Integer[np.ndarray, " n"], origin: str) -> UInt64[np.ndarray, " n"]:
    """Return one key per event: of its number, and of the file that it is from."""
    file = np.uint64(int.from_bytes(hashlib.sha256(origin.encode()).digest()[:8]))
    return _hashed(_hashed(numbers.astype(np.uint64)) ^ file)


def poisson(keys: UInt64[np.ndarray, " n"], replica: int) -> Float[np.ndarray, " n"]:
    """Return numbers of copies of events in a bootstrap sample, of mean 1: functions of key and replica alone."""
    bits = _hashed(keys + _hashed(np.array([replica], dtype=np.uint64)))
    return np.searchsorted(POISSON_CDF, bits.astype(np.float64) / 2.0**64, side="right").astype(np.float64)


def half(keys: UInt64[np.ndarray, "*n"]) -> Integer[np.ndarray, "*n"]:
    """Return the half of the events, 0 or 1, that each belongs to: a function of its key alone."""
    bits = _hashed(keys ^ np.uint64(zlib.crc32(b"half")))
    return (bits >> np.uint64(63)).astype(np.int32)


def _hashed(bits: UInt64[np.ndarray, "*n"]) -> UInt64[np.ndarray, "*n"]:
    z = bits + STEP
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
