"""ROOT files of generated events: by a user's function, by a user's program, or by Pythia (the extra ``simulate``)."""
