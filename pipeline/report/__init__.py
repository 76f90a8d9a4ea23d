"""The run on one page: figures, tables, and what was run, in a self-contained HTML file."""

from pipeline.report.page import write

__all__ = ["write"]
