"""The command ``thalweg``: all verbs, in the order of the flow."""

import click

import pipeline
from pipeline.cli.verbs.checks import check
from pipeline.cli.verbs.conversion import convert
from pipeline.cli.verbs.crate import crate
from pipeline.cli.verbs.estimates import estimate
from pipeline.cli.verbs.events import columns, manifest, simulate
from pipeline.cli.verbs.learned import bins
from pipeline.cli.verbs.points import histograms, scan, validate, workspace, yields
from pipeline.cli.verbs.schema import schema
from pipeline.cli.verbs.snakefile import snakefile
from pipeline.cli.verbs.stages import evaluate, optimise, report
from pipeline.cli.verbs.starting import init
from pipeline.cli.verbs.watching import watch
from pipeline.cli.verbs.workspaces import fit, hypotest, limit

VERBS = (
    *(init, check),
    *(simulate, manifest, columns, optimise, evaluate, report, watch),
    *(estimate, yields, histograms, workspace, bins, scan, validate),
    *(fit, hypotest, limit, convert),
    *(crate, snakefile, schema),
)
HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


class _Verbs(click.Group):
    """The verbs; what is none is told which there are."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return their names in the order of the flow."""
        del ctx
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the verb of a name."""
        found = super().get_command(ctx, cmd_name)
        if found is None:
            ctx.fail(f"there is no verb {cmd_name!r}; choose from {', '.join(self.commands)}")
        return found


@click.group(
    cls=_Verbs,
    commands={str(verb.name): verb for verb in VERBS},
    help=pipeline.__doc__.splitlines()[0],
    subcommand_metavar="VERB ...",
    invoke_without_command=True,  # so that it can say what is missing
    no_args_is_help=False,
    context_settings=HELP,
)
@click.version_option(pipeline.__version__, prog_name="thalweg", message="%(prog)s %(version)s")
@click.pass_context
def thalweg(context: click.Context) -> None:
    """Refuse a command without a verb."""
    if context.invoked_subcommand is None:
        context.fail(f"a verb is required; choose from {', '.join(thalweg.commands)}")
