"""TLS settings of the preview page, from the files that the user names."""

import ssl
from pathlib import Path


def server_tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return the TLS settings of a server.

    Args:
        cert: PEM file with the certificate, followed by its chain; None for a server without TLS.
        key: PEM file with the private key; None if ``cert`` contains it.

    Returns:
        The settings; None without ``cert``.

    Raises:
        ValueError: If there is a key but no certificate, the files do not belong together, or the key has a passphrase.
        OSError: If a file cannot be read.
    """
    if cert is None:
        if key is not None:
            raise ValueError(f"--tls-key needs --tls-cert. Received: --tls-key {key}")
        return None
    for file in filter(None, (cert, key)):
        try:
            file.open("rb").close()  # ssl does not name the file that it cannot read
        except OSError as error:
            raise OSError(f"cannot read '{file}': {error.strerror}. Check --tls-cert and --tls-key") from error

    def refuse_passphrase() -> str:
        raise ValueError(f"the key in '{key or cert}' has a passphrase. Remove it: openssl pkey -in KEY -out NEW_KEY")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key, refuse_passphrase)
    except ssl.SSLError as error:
        if key is None:
            text = f"'{cert}' does not contain a PEM certificate and its private key. Pass the key as --tls-key"
            raise ValueError(text) from error
        reason = f" ({error.reason})" if error.reason else ""
        raise ValueError(
            f"'{cert}' and '{key}' are not a PEM certificate and its private key{reason}. Check --tls-cert and --tls-key"
        ) from error
    return context
