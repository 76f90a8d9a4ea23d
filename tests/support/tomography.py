"""The height of the melt in a ladle, muon by muon with hard panels, by NumPy: what `LadleFurnace` must say."""

import numpy as np
import scipy.special


def height(tracks, x, y, z, half):
    """Predicted height of one ladle of muons by branch; errors of the points by finite differences."""
    points, variances = [], []
    for muon in range(len(tracks["above_x"])):
        hits = hits_of({name: values[muon] for name, values in tracks.items()}, x, y, z, half)
        if hits is not None:
            nudges = np.eye(16).reshape(16, 8, 2) * 1e-6
            slopes = np.array([(closest(hits + d, z) - closest(hits - d, z)) / 2e-6 for d in nudges])
            points.append(closest(hits, z))
            variances.append(1e-8 * np.sum(slopes**2, axis=0))
    points, variances = np.array(points), np.array(variances)
    low, high = (quantile(variances[:, 2], level) for level in (0.15865, 0.84135))
    edges = np.arange(11) / 10
    middle = 2 * scipy.special.expit(1 - np.abs(edges[:-1] - 0.45) / 0.5) / scipy.special.expit(1) - 1
    cdf = scipy.special.ndtr((edges - points[:, :2, None]) / np.sqrt(variances[:, :2, None]))
    quality = np.prod(np.diff(cdf, axis=2) @ middle, axis=1) / np.clip(variances[:, 2], low, high)
    return np.average(points[:, 2], weights=np.minimum(quality, quantile(quality, 0.84135)))


def hits_of(muon, x, y, z, half):
    """Measured positions [8, 2] of a muon; None where it misses a panel."""
    hits = []
    for panel in range(8):
        where, at = ("above", 1.4) if panel < 4 else ("below", 0.4)
        true = [muon[f"{where}_{a}"] + muon[f"{where}_{s}"] * (z[panel] - at) for a, s in ("xu", "yv")]
        if max(abs(true[0] - x[panel]), abs(true[1] - y[panel])) >= half[panel]:
            return None
        hits.append([true[0] + 1e-4 * muon[f"noise_x{panel}"], true[1] + 1e-4 * muon[f"noise_y{panel}"]])
    return np.array(hits, dtype=np.float64)


def quantile(values, level):
    return np.quantile(values, level, method="interpolated_inverted_cdf")


def closest(hits, z):
    """Point of closest approach of lines through four hits above and four below."""
    fits = [np.polyfit(z[part], hits[part], 1) for part in (slice(4), slice(4, 8))]
    (u, first), (v, second) = fits
    a, b = np.append(first, 0.0), np.append(second, 0.0)
    along, other = np.append(u, 1.0), np.append(v, 1.0)
    steps = np.linalg.lstsq(np.stack([along, -other], axis=1), b - a, rcond=None)[0]
    return (a + steps[0] * along + b + steps[1] * other) / 2
