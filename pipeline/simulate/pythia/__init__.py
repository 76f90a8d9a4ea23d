"""The embedded data set: Pythia 8 and FastJet events seen by a parametrised detector, as ROOT files.

    processes -> generator -> leptons, jets, detector -> writer      (associated_top: g b -> W t for Pythia)

``docs/simulation.md`` has every formula and number. Pythia 8 and FastJet are GPL (the extra ``simulate``): this
package alone imports them, and of the rest of ``pipeline`` only the analysis ``jet_definition`` imports this package.
Its events, before their jets are made, come from ``towers``.

Arrays are flat over a batch of events. Axis names used here and nowhere else: ``particles`` (of the generator's
record), ``objects`` (leptons or jets of all events, one after the other), ``pairs`` (object and particle of one
event), ``boundaries`` (where an event begins).
"""

from pipeline.simulate.pythia.processes import PROCESSES, Process
from pipeline.simulate.pythia.writer import simulate

__all__ = ["PROCESSES", "Process", "simulate"]
