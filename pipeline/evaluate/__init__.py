"""What a point is worth: exact cuts, held-out events, pyhf."""
