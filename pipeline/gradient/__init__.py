"""The exact gradient of the objective over all events: the work, its chunks, both sweeps, and the loss between them."""
