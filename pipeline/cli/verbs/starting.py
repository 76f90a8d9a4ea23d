"""The verb that begins an analysis."""

from pathlib import Path

import click

from pipeline.cli.options import PathOption, verb


@verb
@click.argument("name", metavar="NAME", help="name of the folder, the module and the run, as in dimuon")
@click.option(
    "--folder", type=PathOption(), default=Path(), help="where to put it (default: the present one)"
)
def init(name: str, folder: Path) -> None:
    """Write a folder with a complete small analysis that runs as it stands, to be changed into yours."""
    from pipeline.cli.progress import to_standard_output
    from pipeline.cli.starter.folder import write

    written = write(name, folder)
    files = "\n".join(f"  {path}" for path in written)
    to_standard_output(
        f"wrote\n{files}\nnow:\n  cd {written[0].parent}\n  python make_events.py\n  thalweg check {name}.yaml\n"
        "  python run.py\n  pytest"
    )
