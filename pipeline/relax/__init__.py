"""Differentiable operations with their exact twins.

``Relaxed(widths)`` and ``Exact()`` carry the same methods; an analysis written against one runs with the
other. ``histogram`` is the differentiable histogram on its own. Importing this package changes no JAX
setting.
"""

from pipeline.relax.histogram import histogram as histogram
from pipeline.relax.operations import Exact as Exact
from pipeline.relax.operations import Relaxed as Relaxed
