import cabinetry
import numpy as np
import uproot

rng = np.random.default_rng(1)
with uproot.recreate("events.root") as file:
    for name, mass in (("signal", rng.normal(125, 5, 2000)), ("background", rng.uniform(80, 180, 20_000))):
        file[name] = {"mass": mass, "weight": np.full(len(mass), 0.1)}
config = {
    "General": {"Measurement": "search", "POI": "mu", "HistogramFolder": "histograms", "InputPath": "events.root"},
    "Regions": [{"Name": "SR", "Variable": "mass", "Binning": [80, 115, 120, 125, 130, 135, 180]}],
    "Samples": [
        {"Name": "Data", "Tree": "background", "Data": True, "Weight": "weight"},
        {"Name": "signal", "Tree": "signal", "Weight": "weight"},
        {"Name": "background", "Tree": "background", "Weight": "weight"},
    ],
    "NormFactors": [{"Name": "mu", "Samples": "signal", "Nominal": 1, "Bounds": [-10, 10]}],
    "Systematics": [
        {"Name": "rate", "Type": "Normalization", "Up": {"Normalization": 0.1}, "Down": {"Normalization": -0.1},
         "Samples": "background"},
    ],
}  # fmt: skip
cabinetry.templates.build(config, method="uproot")
cabinetry.templates.postprocess(config)
workspace = cabinetry.workspace.build(config)
model, data = cabinetry.model_utils.model_and_data(workspace)
fitted = cabinetry.fit.fit(model, data)
place = fitted.labels.index("mu")
print(f"mu = {fitted.bestfit[place]:.3f} +- {fitted.uncertainty[place]:.3f}")
