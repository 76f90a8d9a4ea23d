"""Differentiable operations with their exact twins.

``Relaxed(widths)`` and ``Exact()`` carry the same methods; an analysis written against one runs with the
other. ``histogram`` is the differentiable histogram on its own; with it come its bias, rules for edges and
bandwidths, and quantiles. Importing this package changes no JAX setting.
"""

from pipeline.relax.bandwidths import anneal as anneal
from pipeline.relax.bandwidths import fraction_of_bin as fraction_of_bin
from pipeline.relax.bandwidths import fraction_of_narrowest as fraction_of_narrowest
from pipeline.relax.bandwidths import scott as scott
from pipeline.relax.bandwidths import silverman as silverman
from pipeline.relax.edges import edge_logits as edge_logits
from pipeline.relax.edges import ordered_edges as ordered_edges
from pipeline.relax.exact import Exact as Exact
from pipeline.relax.histogram import bias as bias
from pipeline.relax.histogram import histogram as histogram
from pipeline.relax.histogram import sumw2 as sumw2
from pipeline.relax.quantiles import equal_yield_edges as equal_yield_edges
from pipeline.relax.quantiles import quantiles as quantiles
from pipeline.relax.relaxed import Relaxed as Relaxed
from pipeline.relax.status import Status as Status
from pipeline.relax.status import status as status
