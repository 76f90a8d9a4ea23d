"""The values on the arrows of the flow, and the one vocabulary of axis names.

Axis names used in every shape annotation of the package:

==============  ========================================================================
``events``      events of a chunk (padded ones carry weight 0)
``objects``     jets, leptons ... of one event, padded to a fixed number
``samples``     datasets: ``process`` or ``process__variation`` of the manifest
``variations``  systematic variations; index 0 is the nominal
``bins``        bins of one channel
``params``      parameters of the likelihood
==============  ========================================================================
"""
