"""fer-edge serve: serve an exported web page."""

import threading
from pathlib import Path

import click

from fer_edge.console import echo, friendly_errors, note
from fer_edge.option_groups import GroupedCommand, examples, option_group

https_option = option_group("HTTPS")


@click.command(
    cls=GroupedCommand,
    epilog=examples("fer-edge serve site", "fer-edge serve site --address 0.0.0.0:8443 --self-signed"),
)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--address", default="127.0.0.1:8000", show_default=True, metavar="HOST:PORT", help="0.0.0.0 also serves other devices."
)
@https_option("--tls-cert", type=click.Path(path_type=Path), help="PEM file with the certificate and its chain.")
@https_option("--tls-key", type=click.Path(path_type=Path), help="PEM file with its private key.")
@https_option("--self-signed", is_flag=True, help="Create a certificate for this machine. Browsers warn of it once.")
@friendly_errors
def command(folder: Path, address: str, tls_cert: Path | None, tls_key: Path | None, self_signed: bool) -> None:
    """Serve the page that fer-edge export web wrote into DIR, until Ctrl-C.

    Browsers open a camera only over https or on localhost, so a phone needs --self-signed or a certificate.
    """
    from fer_edge.deploy.self_signed import self_signed_certificate
    from fer_edge.deploy.web_server import PageServer, page_host
    from fer_edge.edge_runtime.outputs.http_server import is_loopback
    from fer_edge.edge_runtime.outputs.tls import server_tls
    from fer_edge.stop_signals import stop_on_signals

    if self_signed:
        if tls_cert or tls_key:
            raise click.UsageError("choose --self-signed, or --tls-cert and --tls-key")
        tls_cert, tls_key = self_signed_certificate(page_host(address))
    server = PageServer(folder, address, server_tls(tls_cert, tls_key))
    stopped = threading.Event()
    try:
        echo(server.url)
        if not tls_cert and not is_loopback(page_host(address)):
            note("other devices cannot use their camera over http. Add --self-signed, or --tls-cert and --tls-key")
        with stop_on_signals(stopped.set):
            stopped.wait()
    finally:
        server.close()
