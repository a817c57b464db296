import json
import shutil
import socket
import subprocess
import time
from dataclasses import replace

import pytest
from live import labeled

from fer_edge.edge_runtime.classify import Prediction
from fer_edge.edge_runtime.live.pipeline import LabeledFace, LabeledFrame
from fer_edge.edge_runtime.outputs.mqtt import Mqtt

paho = pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed: pip install 'fer-edge[mqtt]'")
PROGRAM = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
needs_broker = pytest.mark.skipif(PROGRAM is None, reason="no mosquitto on this machine: sudo apt install mosquitto")


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start_broker(port, config=None):
    options = ["-c", str(config)] if config else ["-p", str(port)]
    broker = subprocess.Popen([PROGRAM, *options], stderr=subprocess.DEVNULL)
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
        assert (state["top_labels"], round(state["margin"], 3)) == (["happy", "angry"], 0.84)
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
        wait_for(lambda: mqtt._client.is_connected() and not mqtt._client.want_write())
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


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A private CA in ca.pem, and a broker's certificate for 127.0.0.1 that it signed."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl on this machine: sudo apt install openssl")
    folder = tmp_path_factory.mktemp("ca")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc"
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    for command in (
        f"req -x509 {key} -keyout ca-key.pem -out ca.pem -days 2 -subj /CN=test-CA",
        f"req {key} -keyout key.pem -out request.pem -subj /CN=broker",
        "x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile names -out cert.pem",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def tls_broker(port, authority, tmp_path):
    config = tmp_path / "mosquitto.conf"
    certificate = f"certfile {authority / 'cert.pem'}\nkeyfile {authority / 'key.pem'}"
    config.write_text(f"user root\nlistener {port} 127.0.0.1\nallow_anonymous true\n{certificate}\n")
    broker = start_broker(port, config)
    yield port
    broker.kill()
    broker.wait()


@needs_broker
def test_a_broker_with_a_private_ca_is_trusted_through_its_file(tls_broker, authority):
    messages = []
    mqtt = Mqtt(f"mqtts://127.0.0.1:{tls_broker}", "board", messages.append, authority / "ca.pem")
    wait_for(mqtt._client.is_connected)
    mqtt.close(True)
    assert messages == [f"connected to the MQTT broker at 127.0.0.1:{tls_broker}"]


@needs_broker
@pytest.mark.parametrize(
    ("host", "with_ca", "cause"),
    [
        ("127.0.0.1", False, "unable to get local issuer certificate. Pass the certificate of its CA with --mqtt-ca"),
        ("localhost", True, "Hostname mismatch, certificate is not valid for 'localhost'."),
    ],
)
def test_a_failed_tls_connection_names_its_cause_once(tls_broker, authority, monkeypatch, host, with_ca, cause):
    messages = []
    mqtt = Mqtt(f"mqtts://{host}:{tls_broker}", "board", messages.append, authority / "ca.pem" if with_ca else None)
    wait_for(lambda: messages)
    time.sleep(1.3)  # the second attempt
    mqtt.close(True)
    assert messages == [f"no MQTT broker at {host}:{tls_broker} ({cause}); trying again"]


@needs_broker
def test_tls_to_a_port_without_it_is_explained(port):
    broker = start_broker(port)
    messages = []
    mqtt = Mqtt(f"mqtts://127.0.0.1:{port}", "board", messages.append)
    try:
        wait_for(lambda: messages)
        cause = messages[0].removeprefix(f"no MQTT broker at 127.0.0.1:{port} ").removesuffix("; trying again")
        assert cause in (
            "(it does not use TLS on this port: use mqtt://, or the TLS port)",
            "(it closed the connection: does this port use TLS?)",
        )
    finally:
        mqtt.close(True)
        broker.kill()
        broker.wait()


@needs_broker
def test_a_broker_that_requires_tls_or_a_password_is_explained_once(tls_broker, tmp_path):
    messages = []
    plain = Mqtt(f"mqtt://127.0.0.1:{tls_broker}", "board", messages.append)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "login.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous false\n")
    broker = start_broker(port, tmp_path / "login.conf")
    anonymous = Mqtt(f"mqtt://127.0.0.1:{port}", "board", messages.append)
    time.sleep(2.5)  # two attempts
    plain.close(True)
    anonymous.close(True)
    broker.kill()
    broker.wait()
    assert sorted(messages) == sorted([
        f"the MQTT broker at 127.0.0.1:{tls_broker} closed the connection. If it requires TLS, use mqtts://",
        f"the MQTT broker at 127.0.0.1:{port} refused the connection: Not authorized",
    ])  # fmt: skip


def test_a_ca_file_that_cannot_be_used_is_rejected(tmp_path):
    (tmp_path / "text.pem").write_text("no certificate")
    with pytest.raises(ValueError, match=r"--mqtt-ca needs a PEM file with certificates. Received: '.*text.pem'"):
        Mqtt("mqtts://127.0.0.1", ca_file=tmp_path / "text.pem")
    with pytest.raises(OSError, match=r"cannot read '.*none.pem': No such file or directory. Check --mqtt-ca"):
        Mqtt("mqtts://127.0.0.1", ca_file=tmp_path / "none.pem")
    with pytest.raises(ValueError, match=r"--mqtt-ca is for TLS. Use --mqtt mqtts://broker"):
        Mqtt("broker", ca_file=tmp_path / "text.pem")


def test_the_length_of_the_device_name_is_limited(port):
    mqtt = Mqtt(f"127.0.0.1:{port}", "n" * 64)
    mqtt.close(True)
    assert len(mqtt._state_topic) == len("fer_edge//state") + 64
    with pytest.raises(ValueError, match=r"a device name has at most 64 characters. Received: 65"):
        Mqtt(f"127.0.0.1:{port}", "n" * 65)


class ConnectedClient:
    """Stands in for paho's client; ``waiting`` is whether unsent data waits."""

    def __init__(self, waiting=False):
        self.waiting = waiting
        self.payloads = []

    def is_connected(self):
        return True

    def want_write(self):
        return self.waiting

    def publish(self, topic, payload):
        self.payloads.append(payload)


def disconnected(port, messages):
    mqtt = Mqtt(f"127.0.0.1:{port}", "board", messages.append)
    mqtt.close(True)
    messages.clear()
    return mqtt


def test_a_broker_that_does_not_read_gets_the_newest_label_later(port):
    mqtt = disconnected(port, [])
    mqtt._client = ConnectedClient(waiting=True)
    for number in range(100):
        mqtt.write(labeled(number, happy=number % 2))
    assert mqtt._client.payloads == []
    mqtt._client.waiting = False
    mqtt.write(labeled(100, happy=0.9))
    assert json.loads(mqtt._client.payloads[0])["label"] == "happy"


def test_a_message_has_at_most_16_kb(port):
    messages = []
    mqtt = disconnected(port, messages)
    mqtt._client = ConnectedClient()
    labels = tuple(f"{number:02} {'é' * 61}" for number in range(50))
    prediction = Prediction(labels[0], 0.5, (0.5, *[0.01] * 49), labels)
    for number in range(2):
        frame = replace(labeled(number).frame, number=number)
        mqtt.write(LabeledFrame(frame, (LabeledFace((0, 0, 9, 9), prediction, 1),)))
        mqtt._sent_s = float("-inf")
    assert [len(payload) < 2000 for payload in mqtt._client.payloads] == [True, True]
    assert json.loads(mqtt._client.payloads[0])["label"] == labels[0]
    assert messages == ["MQTT messages would exceed 16384 bytes: they do not contain all probabilities"]
