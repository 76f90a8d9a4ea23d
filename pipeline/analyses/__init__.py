"""Shipped analyses, each one file that reads like the paper it reproduces."""
