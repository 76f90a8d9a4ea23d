"""Single top quarks against dibosons with one muon, on the simulation of the CMS HEP Tutorial: one cut on the b-tag."""

from collections.abc import Mapping

from pipeline.analyses.hep_tutorial import HepTutorial
from pipeline.analysis import Free
from pipeline.containers import Columns, Observation, Parameters
from pipeline.relax import Exact, Relaxed


class SingleTop(HepTutorial):
    """Counting experiment of events with a jet above a free cut on the b-tag discriminant."""

    parameters: Mapping[str, Free] = {"btag": Free(4.5, bounds=(-1.5, 6.0))}

    def observe(self, p: Parameters, c: Columns, relax: Relaxed | Exact) -> Mapping[str, Observation]:
        """Count events whose largest b-tag discriminant is above the cut."""
        return {"selected": Observation(weight=c.weight * relax.greater(c.max_btag, p.btag, mask=c.has_jet))}
