import re

import pytest

from fer_edge.edge_runtime.outputs import mqtt
from fer_edge.edge_runtime.outputs.address import Address, parse_address
from fer_edge.edge_runtime.outputs.preview import PREVIEW

PORTS = {"http": PREVIEW.default_port}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8000", ("127.0.0.1", 8000)),
        (":8000", ("127.0.0.1", 8000)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("pi.local", ("pi.local", 8080)),
        ("[::1]:81", ("::1", 81)),
        ("[::1]", ("::1", 8080)),
        ("::1", ("::1", 8080)),
        ("fe80::1:2", ("fe80::1:2", 8080)),
    ],
)
def test_an_address_without_a_host_gets_the_default_host(text, expected):
    address = parse_address(text, PORTS, "an address is HOST:PORT", default_host="127.0.0.1")
    assert (address.host, address.port) == expected


@pytest.mark.parametrize("text", ["x:port", "x:65536", "x:-1", "[::1", "ftp://x:1"])
def test_an_invalid_preview_address_is_rejected(text):
    with pytest.raises(ValueError, match=re.escape(f"an address is HOST:PORT. Received: '{text}'")):
        parse_address(text, PORTS, "an address is HOST:PORT", default_host="127.0.0.1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("homeassistant", Address("mqtt", "homeassistant", 1883, None, None)),
        ("mqtt://pi:1884", Address("mqtt", "pi", 1884, None, None)),
        ("mqtts://me@pi", Address("mqtts", "pi", 8883, "me", None)),
        ("mqtts://a%40b:p%3A%2F@[::1]:1", Address("mqtts", "::1", 1, "a@b", "p:/")),
    ],
)
def test_a_broker_address_has_a_scheme_a_user_and_a_default_port(text, expected):
    assert parse_address(text, mqtt.DEFAULT_PORTS, mqtt.ADDRESS_FORMAT) == expected


@pytest.mark.parametrize("text", ["http://x", "localhost:abc", "localhost:70000", "[::1", ":1883", ""])
def test_an_invalid_broker_address_is_rejected_without_its_password(text):
    scheme, _, rest = text.rpartition("://")
    with pytest.raises(ValueError, match=re.escape(f"mqtt://HOST:PORT or mqtts://HOST:PORT. Received: '{text}'")):
        parse_address(text, mqtt.DEFAULT_PORTS, mqtt.ADDRESS_FORMAT)
    with pytest.raises(ValueError, match=re.escape(f"Received: '{rest}'")) as caught:
        parse_address(f"{scheme or 'mqtt'}://me:secret@{rest}", mqtt.DEFAULT_PORTS, mqtt.ADDRESS_FORMAT)
    assert "secret" not in str(caught.value)
