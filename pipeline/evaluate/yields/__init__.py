"""How many events are selected: by process, with statistical errors, in and outside of the bins."""
