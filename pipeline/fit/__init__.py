"""Maximum-likelihood fits: bounded damped Newton, their derivative by the implicit function theorem.

A fit never fails in silence: its status, the estimated distance to the minimum and the parameters at their
bounds come back with it, and under ``vmap`` every member of the batch has its own.
"""

from pipeline.fit.fits import (
    FitResult,
    FitStatus,
    covariance,
    expected_information,
    fisher_information,
    fit,
    fit_with_covariance,
    profile,
)
from pipeline.fit.newton import FitOptions
from pipeline.likelihood import inverse_free

__all__ = [
    "FitOptions",
    "FitResult",
    "FitStatus",
    "covariance",
    "expected_information",
    "fisher_information",
    "fit",
    "fit_with_covariance",
    "inverse_free",
    "profile",
]
