"""Thalweg: a whole analysis, optimised by gradient descent.

The flow, left to right; each module imports only from the ones before it::

    datasets -> columns -> templates -> workspace -> likelihood -> fit -> objective     forward
                 params <- optimise  <- gradient (two sweeps over any cluster)          the derivative runs back

``containers`` holds the values on the arrows, ``config`` reads the YAML, ``store`` reads and writes every
intermediate file, ``relax`` is the toolkit of differentiable operations (usable alone), ``analysis`` the
contract a physicist implements, ``evaluate`` re-runs the optimised analysis with hard cuts and pyhf, ``report``
draws it, ``cli`` has one verb per stage. Importing this package changes no setting of JAX.
"""

__version__ = "0.1.0"
