"""What pyhf says of a workspace: its fit, the interval of the parameter of interest, objectives."""
