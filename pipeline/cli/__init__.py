"""The command line."""

from pipeline.cli.main import main as main
