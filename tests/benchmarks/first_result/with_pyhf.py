import pyhf

model = pyhf.simplemodels.uncorrelated_background(
    signal=[5.0, 10.0], bkg=[50.0, 60.0], bkg_uncertainty=[5.0, 12.0]
)
data = [50.0, 60.0, *model.config.auxdata]
observed, expected = pyhf.infer.hypotest(1.0, data, model, return_expected=True)
print(f"CLs at mu = 1: {observed:.3f}, expected {expected:.3f}")
