"""Sections of the fit: what scales samples, systematics, estimates from data, and the model of them all."""
