"""Labels to an MQTT broker, with Home Assistant's discovery."""

import hashlib
import json
import os
import re
import socket
import time
import uuid
from typing import Any
from urllib.parse import unquote, urlsplit

from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.live.pipeline import LabeledFrame

PASSWORD_VARIABLE = "FER_EDGE_MQTT_PASSWORD"
DISCOVERY_PREFIX = "homeassistant"
LEAST_PAUSE_S = 1.0  # between two messages with the same labels
EXPIRE_S = 15  # without a message, as while the camera is lost, Home Assistant shows no label
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
    """Publishes the largest face's label when it changes, and at most once a second while it does not.

    A broker that is away is tried again and again; what happens meanwhile is not kept.

    Args:
        address: ``mqtt://[USER@]HOST[:PORT]``, ``mqtts://`` for TLS, or ``HOST[:PORT]``. The password comes from
            FER_EDGE_MQTT_PASSWORD.
        name: Name of this board, for topics and for Home Assistant; the host's name where None.
        on_message: Called with a line when the broker is lost or back.

    Raises:
        ImportError: If paho-mqtt is not installed.
        ValueError: If the address is none.
    """

    def __init__(self, address: str, name: str | None = None, on_message: OnMessage | None = None) -> None:
        try:
            from paho.mqtt import client as paho
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError as error:
            raise ImportError(f"MQTT needs paho-mqtt ({error}). Install it: pip install 'fer-edge[edge,mqtt]'") from error
        told = address.rpartition("@")[2]  # without a password
        wanted = f"a broker is mqtt://HOST:PORT or mqtts://HOST:PORT. Received: '{told}'"
        try:
            parts = urlsplit(address if "://" in address else f"mqtt://{address}")
            port = parts.port or (8883 if parts.scheme == "mqtts" else 1883)
        except ValueError as error:
            raise ValueError(f"{wanted} ({error})") from error
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise ValueError(wanted)
        # Home Assistant takes no other characters in a topic.
        self.name = re.sub(r"[^a-zA-Z0-9_-]+", "_", name or socket.gethostname())
        self._on_message = on_message or (lambda text: None)
        self._where = f"{parts.hostname}:{port}"
        self._state_topic = f"fer_edge/{self.name}/state"
        self._alive_topic = f"fer_edge/{self.name}/availability"
        self._last: tuple[str | None, int] | None = None
        self._sent_s = float("-inf")
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"fer_edge_{self.name}_{_board()}")
        if parts.username:
            password = unquote(parts.password) if parts.password else os.environ.get(PASSWORD_VARIABLE)
            self._client.username_pw_set(unquote(parts.username), password)
        if parts.scheme == "mqtts":
            self._client.tls_set()
        self._client.will_set(self._alive_topic, "offline", retain=True)
        self._client.reconnect_delay_set(min_delay=1, max_delay=60)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._lost
        self._client.on_connect_fail = lambda client, data: self._on_message(f"no MQTT broker at {self._where}; trying again")
        self._client.connect_async(parts.hostname, port)
        self._client.loop_start()

    def write(self, labeled: LabeledFrame) -> None:
        """Publish a frame, if there is news or time for it, and a broker."""
        first = labeled.faces[0] if labeled.faces else None
        now = time.monotonic()
        shown = (first.label if first else None, len(labeled.faces))
        if (shown == self._last and now - self._sent_s < LEAST_PAUSE_S) or not self._client.is_connected():
            return
        self._last, self._sent_s = shown, now
        state = {
            "label": first.label if first else "none",
            "probability": first.probability if first else 0,
            "probabilities": first.probabilities if first else {},
            "faces": len(labeled.faces),
            "time": labeled.frame.time,
        }
        self._client.publish(self._state_topic, json.dumps(state))

    def close(self, complete: bool) -> None:
        """Say goodbye and disconnect."""
        if self._client.is_connected():
            self._client.publish(self._alive_topic, "offline", qos=1, retain=True).wait_for_publish(2)
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._on_message(f"the MQTT broker at {self._where} refuses: {reason}")
            return
        self._on_message(f"connected to the MQTT broker at {self._where}")
        client.publish(self._alive_topic, "online", retain=True)
        for sensor, config in SENSORS.items():
            topic = f"{DISCOVERY_PREFIX}/sensor/fer_edge_{self.name}/{sensor}/config"
            client.publish(topic, json.dumps({**self._discovery(sensor), **config}), retain=True)

    def _lost(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._on_message(f"the MQTT broker at {self._where} is gone ({reason}); trying again")

    def _discovery(self, sensor: str) -> dict[str, Any]:
        data: dict[str, Any] = {
            "name": sensor.capitalize(),
            "unique_id": f"fer_edge_{self.name}_{sensor}",
            "state_topic": self._state_topic,
            "availability_topic": self._alive_topic,
            "expire_after": EXPIRE_S,
            "device": {"identifiers": [f"fer_edge_{self.name}"], "name": f"fer-edge {self.name}", "model": "fer-edge"},
        }
        return {**data, "json_attributes_topic": self._state_topic} if sensor == "expression" else data


def _board() -> str:
    """Return what tells this board from another of its name, without giving its network address away.

    A broker throws out the first of two clients with the same id. One made up at each start would do for that, but then a
    board that comes back after a power cut is told "offline" when the broker gives up on the connection it had before.
    """
    return hashlib.sha256(str(uuid.getnode()).encode()).hexdigest()[:8]
