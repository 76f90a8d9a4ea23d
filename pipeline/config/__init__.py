"""What a run is: the YAML file of an analysis as frozen, checked sections.

``config/schema.json`` and the key table of ``config/README.md`` are generated from these classes. The configuration
holds the physics; threads, memory and output folders belong to the command line and the profile.
"""

from pipeline.config.channels import Channel
from pipeline.config.cluster import Cluster
from pipeline.config.events import Sample, Simulate
from pipeline.config.fit.model import LUMINOSITY, Model
from pipeline.config.fit.systematics import (
    MedianSmoothing,
    NormalizationSystematic,
    NormPlusShapeSystematic,
    Smoothing,
)
from pipeline.config.notation import parse_value, written
from pipeline.config.objective import PENALTIES, Objective, Penalty
from pipeline.config.optimisation import Optimise
from pipeline.config.quantities import OBJECTIVES
from pipeline.config.quantity import Quantity
from pipeline.config.reader import load, parse, read_yaml
from pipeline.config.section import Anneal, Bandwidth, Section
from pipeline.config.sections import Config, Surrogate

__all__ = [
    "LUMINOSITY",
    "OBJECTIVES",
    "PENALTIES",
    "Anneal",
    "Bandwidth",
    "Channel",
    "Cluster",
    "Config",
    "MedianSmoothing",
    "Model",
    "NormPlusShapeSystematic",
    "NormalizationSystematic",
    "Objective",
    "Optimise",
    "Penalty",
    "Quantity",
    "Sample",
    "Section",
    "Simulate",
    "Smoothing",
    "Surrogate",
    "load",
    "parse",
    "parse_value",
    "read_yaml",
    "written",
]
