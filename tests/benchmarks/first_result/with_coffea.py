import hist
import numpy as np
import uproot
from coffea import processor
from coffea.nanoevents import BaseSchema

rng = np.random.default_rng(1)
for name, mass in (("signal", rng.normal(125, 5, 20_000)), ("background", rng.uniform(80, 180, 20_000))):
    with uproot.recreate(f"{name}.root") as file:
        file["Events"] = {"mass": mass, "score": rng.random(len(mass))}


class Search(processor.ProcessorABC):
    def process(self, events):
        filled = hist.Hist.new.Var([80, 115, 120, 125, 130, 135, 180], name="mass").Double()
        filled.fill(mass=events.mass[events.score > 0.5])
        return {events.metadata["dataset"]: filled}

    def postprocess(self, accumulator):
        return accumulator


run = processor.Runner(executor=processor.IterativeExecutor(status=False), schema=BaseSchema)
found = run({name: [f"{name}.root"] for name in ("signal", "background")}, Search(), treename="Events")
print({name: filled.values().round(0).tolist() for name, filled in found.items()})
