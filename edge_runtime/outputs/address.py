"""Parse the network addresses that users give: HOST:PORT of a server, or the URL of a broker."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Address:
    """A network address.

    Attributes:
        scheme: Such as ``mqtt``.
        host: Host name or IP address, without brackets.
        port: 0..65535.
        user: User name; None without one.
        password: Password; None without one.
    """

    scheme: str
    host: str
    port: int
    user: str | None
    password: str | None


def parse_address(text: str, default_ports: dict[str, int], expected: str, default_host: str | None = None) -> Address:
    """Parse ``[SCHEME://][USER[:PASSWORD]@]HOST[:PORT]``, ``:PORT`` or ``PORT``. An IPv6 address needs no brackets.

    Args:
        text: The address.
        default_ports: Allowed schemes with their default ports. The first scheme applies to a text without one.
        expected: Start of the error message: the expected format.
        default_host: Host of a text that names none; None requires a host.

    Raises:
        ValueError: If the text is not an address, or its scheme is not allowed. The message does not contain the password.
    """
    bare = text.strip()
    if bare.isdigit():
        bare = f":{bare}"
    elif _is_ipv6(bare):
        bare = f"[{bare}]"
    try:
        parts = urlsplit(bare if "://" in bare else f"{next(iter(default_ports))}://{bare}")
        host = parts.hostname or default_host
        default_port = default_ports[parts.scheme]
        port = default_port if parts.port is None else parts.port
    except (ValueError, KeyError):
        host = None
    if host is None:
        raise ValueError(f"{expected}. Received: '{text.rpartition('@')[2]}'")
    user, password = (part and unquote(part) for part in (parts.username, parts.password))
    return Address(parts.scheme, host, port, user, password)


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False
