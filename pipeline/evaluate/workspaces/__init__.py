"""Fits and tests of a pyhf workspace of anybody's, and pyhf beside them."""
