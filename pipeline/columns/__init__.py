"""ROOT files -> rectangular columns; here, what an analysis makes them with."""

from pipeline.columns.coffea_weights import coffea_weights as coffea_weights
from pipeline.columns.padding import mask as mask
from pipeline.columns.padding import noise as noise
from pipeline.columns.padding import normal as normal
from pipeline.columns.padding import pad as pad
