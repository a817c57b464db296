"""Publish labels to an MQTT broker, with Home Assistant's discovery."""

import hashlib
import json
import re
import socket
import ssl
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.live.pipeline import LabeledFrame
from fer_edge.edge_runtime.outputs.address import parse_address
from fer_edge.edge_runtime.outputs.secret import read_secret

PASSWORD_VARIABLE = "FER_EDGE_MQTT_PASSWORD"
DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}
ADDRESS_FORMAT = "a broker address is mqtt://HOST:PORT or mqtts://HOST:PORT"
DISCOVERY_PREFIX = "homeassistant"
MIN_INTERVAL_S = 1.0  # between two messages with the same labels
MAX_NAME_CHARACTERS = 64
MAX_PAYLOAD_BYTES = 16_384  # Home Assistant stores no larger attributes
EXPIRE_S = 15  # without a message, for example while the camera is lost, Home Assistant shows no label
SENSORS: dict[str, dict[str, Any]] = {
    "expression": {"icon": "mdi:emoticon-outline", "value_template": "{{ value_json.label }}"},
    "probability": {
        "icon": "mdi:percent",
        "value_template": "{{ (value_json.probability * 100) | round(0) }}",
        "unit_of_measurement": "%",
        "state_class": "measurement",
    },
    "faces": {"icon": "mdi:account-multiple", "value_template": "{{ value_json.faces }}", "state_class": "measurement"},
}


class Mqtt:
    """Publishes the label of the largest face when it changes, and at most once per second while it does not.

    If the broker is unreachable, the client keeps trying to reconnect. Messages of that time are dropped, and so are messages
    while the broker does not read.

    Args:
        address: ``mqtt://[USER@]HOST[:PORT]``, ``mqtts://`` for TLS, or ``HOST[:PORT]``. The password comes from the
            environment variable FER_EDGE_MQTT_PASSWORD or the credential ``mqtt-password`` of the service manager.
        device_name: Name of this board in topics and in Home Assistant, at most 64 characters; None for the host name.
        on_message: Called with a line of text when the broker connects or disconnects, or why it cannot be reached.
        ca_file: PEM file with the certificates to trust instead of the system's; for mqtts.

    Raises:
        ImportError: If paho-mqtt is not installed.
        OSError: If ``ca_file`` cannot be read.
        ValueError: If the address cannot be parsed, the name is too long, or ``ca_file`` contains no certificate.
    """

    def __init__(
        self,
        address: str,
        device_name: str | None = None,
        on_message: OnMessage | None = None,
        ca_file: Path | None = None,
    ) -> None:
        try:
            from paho.mqtt import client as paho
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError as error:
            raise ImportError(f"MQTT needs paho-mqtt ({error}). Install it: pip install 'fer-edge[edge,mqtt]'") from error
        broker = parse_address(address, DEFAULT_PORTS, ADDRESS_FORMAT)
        if ca_file and broker.scheme != "mqtts":
            raise ValueError(
                f"--mqtt-ca is for TLS. Use --mqtt mqtts://{broker.host}. Received: {broker.scheme}://{broker.host}"
            )
        self.device_name = _topic_name(device_name)
        self._on_message = on_message or (lambda text: None)
        self._broker = f"{broker.host}:{broker.port}"
        self._state_topic = f"fer_edge/{self.device_name}/state"
        self._availability_topic = f"fer_edge/{self.device_name}/availability"
        self._last: tuple[str | None, int] | None = None
        self._sent_s = float("-inf")
        self._failure: str | None = None
        self._accepted = False
        self._too_large = False
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"fer_edge_{self.device_name}_{_board_id()}")
        if broker.user:
            self._client.username_pw_set(broker.user, broker.password or read_secret(PASSWORD_VARIABLE))
        if broker.scheme == "mqtts":
            self._client.tls_set_context(_client_tls(ca_file))
        self._client.will_set(self._availability_topic, "offline", retain=True)
        self._client.reconnect_delay_set(min_delay=1, max_delay=60)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.connect_async(broker.host, broker.port)
        self._client.loop_start()

    def write(self, labeled: LabeledFrame) -> None:
        """Publish a frame if the labels changed or a second has passed, and if the broker is connected."""
        largest = labeled.faces[0] if labeled.faces else None
        now = time.monotonic()
        current = (largest.label if largest else None, len(labeled.faces))
        if current == self._last and now - self._sent_s < MIN_INTERVAL_S:
            return
        if not self._client.is_connected() or self._client.want_write():  # paho would queue messages without a limit
            return
        self._last, self._sent_s = current, now
        state = {
            "label": largest.label if largest else "none",
            "probability": largest.probability if largest else 0,
            "probabilities": largest.probabilities if largest else {},
            "top_labels": list(largest.top_labels) if largest else [],
            "margin": largest.margin if largest else 0,
            "faces": len(labeled.faces),
            "time": labeled.frame.time,
        }
        payload = json.dumps(state)
        if len(payload) > MAX_PAYLOAD_BYTES:
            payload = json.dumps({**state, "probabilities": {}})
            if not self._too_large:
                self._too_large = True
                self._on_message(f"MQTT messages would exceed {MAX_PAYLOAD_BYTES} bytes: they do not contain all probabilities")
        self._client.publish(self._state_topic, payload)

    def close(self, complete: bool) -> None:
        """Report the board as offline and disconnect."""
        if self._client.is_connected():
            self._client.publish(self._availability_topic, "offline", qos=1, retain=True).wait_for_publish(2)
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._report_failure(f"the MQTT broker at {self._broker} refused the connection: {reason}")
            return
        self._failure = None
        self._accepted = True
        self._on_message(f"connected to the MQTT broker at {self._broker}")
        client.publish(self._availability_topic, "online", retain=True)
        for sensor, config in SENSORS.items():
            topic = f"{DISCOVERY_PREFIX}/sensor/fer_edge_{self.device_name}/{sensor}/config"
            client.publish(topic, json.dumps({**self._discovery(sensor), **config}), retain=True)

    def _on_connect_fail(self, client: Any, data: Any) -> None:
        # paho calls this while it handles the error, and does not pass it on.
        cause = _describe(sys.exc_info()[1])
        self._report_failure(f"no MQTT broker at {self._broker}{cause}; trying again")

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        accepted, self._accepted = self._accepted, False
        if accepted and reason.is_failure:
            self._on_message(f"lost the MQTT broker at {self._broker} ({reason}); trying again")
        elif reason.is_failure and self._failure is None:
            self._report_failure(f"the MQTT broker at {self._broker} closed the connection. If it requires TLS, use mqtts://")

    def _report_failure(self, text: str) -> None:
        """Report a failed attempt once per cause, not per attempt."""
        if text != self._failure:
            self._failure = text
            self._on_message(text)

    def _discovery(self, sensor: str) -> dict[str, Any]:
        name = self.device_name
        data: dict[str, Any] = {
            "name": sensor.capitalize(),
            "unique_id": f"fer_edge_{name}_{sensor}",
            "state_topic": self._state_topic,
            "availability_topic": self._availability_topic,
            "expire_after": EXPIRE_S,
            "device": {"identifiers": [f"fer_edge_{name}"], "name": f"fer-edge {name}", "model": "fer-edge"},
        }
        return {**data, "json_attributes_topic": self._state_topic} if sensor == "expression" else data


def _topic_name(device_name: str | None) -> str:
    name = device_name or socket.gethostname()
    if len(name) > MAX_NAME_CHARACTERS:
        raise ValueError(
            f"a device name has at most {MAX_NAME_CHARACTERS} characters. Received: {len(name)}. Shorten --device-name"
        )
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", name)  # Home Assistant allows only these characters in a topic


def _client_tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise ValueError(f"--mqtt-ca needs a PEM file with certificates. Received: '{ca_file}' ({error.reason})") from error
    except OSError as error:
        raise OSError(f"cannot read '{ca_file}': {error.strerror}. Check --mqtt-ca") from error


def _describe(error: BaseException | None) -> str:
    """Return the cause of a failed connection and the remedy, in brackets; empty if unknown."""
    if isinstance(error, ssl.SSLCertVerificationError):
        untrusted = any(text in error.verify_message for text in ("self-signed", "self signed", "local issuer"))
        return f" ({error.verify_message}{'. Pass the certificate of its CA with --mqtt-ca' if untrusted else ''})"
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return " (it does not use TLS on this port: use mqtt://, or the TLS port)"
    if isinstance(error, ConnectionResetError):
        return " (it closed the connection: does this port use TLS?)"
    text = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error or "")
    return f" ({text})" if text else ""


def _board_id() -> str:
    """Return an ID that differs between boards of the same name, and does not reveal the hardware address.

    A broker disconnects the first of two clients with the same ID. A random ID would avoid that too. But the ID must survive
    a power cut: otherwise the broker later times out the old connection and marks the running board as offline.
    """
    return hashlib.sha256(str(uuid.getnode()).encode()).hexdigest()[:8]
