"""The image for boards and the add-on of Home Assistant, without Docker."""

import configparser
import importlib.util
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from fer_edge import __version__
from fer_edge.commands.run import command as run_command

CONTAINER = Path(__file__).parent.parent / "container"
OPTIONS = {"source": "/dev/video0", "detector": "auto", "rotate": 0, "device_name": "hall", "preview": True, "metrics": False}
BROKER = {"host": "core-mosquitto", "port": 1883, "ssl": False, "username": "addons", "password": "secret"}


@pytest.fixture(scope="module")
def addon():
    spec = importlib.util.spec_from_file_location("start_addon", CONTAINER / "start_addon.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("options", "mqtt", "expected"),
    [
        ({}, None, ["run", "/dev/video0", "--wait", "--detector", "auto", "--serve", "0.0.0.0:8080"]),
        (
            {"preview": False, "metrics": True, "rotate": "180", "model": "mobilenet_v2"},
            BROKER,
            [
                *("run", "/dev/video0", "--wait", "--detector", "auto", "--model", "mobilenet_v2", "--rotate", "180"),
                *("--metrics", "0.0.0.0:9464", "--mqtt", "mqtt://addons@core-mosquitto:1883", "--device-name", "hall"),
            ],
        ),
        (
            {"preview": False, "model": ""},
            {**BROKER, "ssl": True, "port": 8883, "username": ""},
            [
                *("run", "/dev/video0", "--wait", "--detector", "auto"),
                *("--mqtt", "mqtts://core-mosquitto:8883", "--device-name", "hall"),
            ],
        ),
    ],
)
def test_options_of_the_addon_become_options_of_run(addon, options, mqtt, expected):
    words = addon.arguments({**OPTIONS, **options}, mqtt)
    assert words == ["fer-edge", *expected]
    run_command.make_context("run", words[2:])


def test_secrets_are_variables_and_not_arguments(addon):
    options = {**OPTIONS, "token": "0123456789abcdef"}
    variables = addon.environment(options, BROKER)
    assert variables == {
        "XDG_CONFIG_HOME": "/data", "FER_EDGE_TOKEN": "0123456789abcdef", "FER_EDGE_MQTT_PASSWORD": "secret",
    }  # fmt: skip
    assert not {"0123456789abcdef", "secret"} & set(" ".join(addon.arguments(options, BROKER)).split())


def test_the_login_of_the_broker_comes_from_the_supervisor(addon, monkeypatch, capsys):
    asked = []

    class Supervisor(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers["Authorization"])
            self.send_response(200 if len(asked) == 1 else 400)
            self.end_headers()
            self.wfile.write(json.dumps({"result": "ok", "data": BROKER}).encode())

        def log_message(self, *arguments):
            pass

    monkeypatch.setenv("SUPERVISOR_TOKEN", "t0ken")
    with HTTPServer(("127.0.0.1", 0), Supervisor) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/services/mqtt"
        assert addon.mqtt_service(url) == BROKER
        assert addon.mqtt_service(url) is None  # 400: the broker is not installed
        server.shutdown()
    assert asked == ["Bearer t0ken"] * 2
    assert "Install the Mosquitto broker add-on" in capsys.readouterr().err


def test_addon_and_image_have_the_version_and_the_extras_of_the_package():
    config = (CONTAINER / "config.yaml").read_text()
    assert re.search(r'^version: "(.+)"$', config, re.MULTILINE)[1] == __version__
    options = set(re.findall(r"^  (\w+):", config[config.index("\nschema:") :], re.MULTILINE))
    described = set(re.findall(r"^  (\w+):", (CONTAINER / "translations/en.yaml").read_text(), re.MULTILINE))
    assert options == described == {*OPTIONS, "model", "token"}
    setup = configparser.ConfigParser()
    setup.read(CONTAINER.parent / "setup.cfg")
    (extras,) = re.findall(r"\$wheel\[(.+?)\]", (CONTAINER / "Dockerfile").read_text())
    assert set(extras.split(",")) <= set(setup["options.extras_require"])
