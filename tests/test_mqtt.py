import json
import shutil
import socket
import subprocess
import time

import pytest
from live import labeled

from fer_edge.edge_runtime.outputs.mqtt import Mqtt

paho = pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed: pip install 'fer-edge[mqtt]'")
PROGRAM = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
needs_broker = pytest.mark.skipif(PROGRAM is None, reason="no mosquitto on this machine: sudo apt install mosquitto")


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start_broker(port):
    broker = subprocess.Popen([PROGRAM, "-p", str(port)], stderr=subprocess.DEVNULL)
    wait_for(lambda: socket.create_connection(("127.0.0.1", port), timeout=1).close() is None)
    return broker


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.05)
    pytest.fail("timeout")


class Listener:
    """Keeps the newest message of each topic."""

    def __init__(self, port):
        self.messages = {}
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *rest: client.subscribe("#")
        self.client.on_message = lambda client, data, message: self.messages.update({message.topic: message.payload})
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@needs_broker
def test_a_broker_receives_labels_and_home_assistant_s_discovery(port):
    broker, listener = start_broker(port), None
    try:
        listener = Listener(port)
        mqtt = Mqtt(f"127.0.0.1:{port}", "Living Room")
        wait_for(mqtt._client.is_connected)
        mqtt.write(labeled(1, capture_time_s=5.0))
        wait_for(lambda: "fer_edge/Living_Room/state" in listener.messages)
        state = json.loads(listener.messages["fer_edge/Living_Room/state"])
        assert (state["label"], state["faces"], state["probability"]) == ("happy", 1, 0.9)
        topic = "homeassistant/sensor/fer_edge_Living_Room/expression/config"
        wait_for(lambda: topic in listener.messages)
        config = json.loads(listener.messages[topic])
        assert config["state_topic"] == "fer_edge/Living_Room/state"
        assert config["unique_id"] == "fer_edge_Living_Room_expression"
        alive = config["availability_topic"]
        assert listener.messages[alive] == b"online"
        mqtt.close(True)
        wait_for(lambda: listener.messages[alive] == b"offline")
    finally:
        if listener:
            listener.close()
        broker.kill()
        broker.wait()


@needs_broker
def test_a_lost_broker_is_reconnected_and_messages_are_not_queued(port):
    messages = []
    broker = start_broker(port)
    mqtt = Mqtt(f"mqtt://127.0.0.1:{port}", "board", messages.append)
    wait_for(mqtt._client.is_connected)
    broker.kill()
    broker.wait()
    wait_for(lambda: any("lost the MQTT broker" in line for line in messages))
    for number in range(1000):
        mqtt.write(labeled(number, happy=number % 2))
    assert len(mqtt._client._out_messages) == 0  # no queue
    broker = start_broker(port)
    listener = Listener(port)
    try:
        wait_for(mqtt._client.is_connected)
        mqtt.write(labeled(1, happy=0.9))
        wait_for(lambda: "fer_edge/board/state" in listener.messages)
        # The new broker has no retained messages: the board publishes all of them again.
        wait_for(lambda: listener.messages.get("fer_edge/board/availability") == b"online")
        wait_for(lambda: sum(topic.startswith("homeassistant/sensor/fer_edge_board/") for topic in listener.messages) == 3)
    finally:
        mqtt.close(True)
        listener.close()
        broker.kill()
        broker.wait()


def test_a_missing_broker_gives_a_message_and_does_not_block(port):
    messages = []
    mqtt = Mqtt(f"127.0.0.1:{port}", "board", messages.append)
    mqtt.write(labeled(1))
    wait_for(lambda: any(f"no MQTT broker at 127.0.0.1:{port}" in line for line in messages))
    mqtt.close(True)


def test_the_client_id_differs_between_boards_and_survives_a_restart(port, monkeypatch):
    ids = []
    for node in (1, 2, 1):
        monkeypatch.setattr("uuid.getnode", lambda node=node: node)
        mqtt = Mqtt(f"127.0.0.1:{port}", "raspberrypi")
        ids.append(mqtt._client._client_id.decode())
        mqtt.close(True)
    assert ids[0] == ids[2] != ids[1]
    assert all(name.startswith("fer_edge_raspberrypi_") for name in ids)


@needs_broker
def test_repeated_labels_are_published_once_per_second(port):
    broker = start_broker(port)
    mqtt = Mqtt(f"127.0.0.1:{port}", "board")
    try:
        wait_for(mqtt._client.is_connected)
        sent = []
        mqtt._client.publish = lambda topic, *rest, **named: sent.append(topic)
        for number, happy in enumerate([0.9] * 50 + [0.1] * 50):
            mqtt.write(labeled(number, happy=happy))
        assert len(sent) == 2
    finally:
        del mqtt._client.publish
        mqtt.close(True)
        broker.kill()
        broker.wait()
