"""Columns and parameters -> templates, and templates -> the specification of a likelihood."""
