"""fer-edge export: a model as part of something that runs elsewhere."""

import click

from fer_edge.lazy_group import LazyGroup
from fer_edge.option_groups import examples

COMMANDS = {"web": "Export a web page that labels faces on a phone."}


@click.group(
    cls=LazyGroup,
    package="fer_edge.commands.export",
    summaries=COMMANDS,
    epilog=examples("fer-edge export web cnn_nano --out site", "fer-edge export web runs/my_run --out site"),
)
def command() -> None:
    """Export a model as part of something that runs elsewhere."""
