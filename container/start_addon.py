"""Start fer-edge as an add-on of Home Assistant: its options become options of ``fer-edge run``.

The supervisor writes the options to /data/options.json and knows the login of the MQTT broker.
"""

import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

DATA = Path("/data")
MQTT_URL = "http://supervisor/services/mqtt"
TIMEOUT_S = 10.0


def mqtt_service(url: str = MQTT_URL) -> dict[str, Any] | None:
    """Return host, port, ssl, username and password of the broker; None without the Mosquitto add-on."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {os.environ.get('SUPERVISOR_TOKEN', '')}"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return json.load(answer)["data"]
    except (OSError, ValueError, KeyError) as error:  # urllib.error.URLError is an OSError
        print(f"no MQTT broker ({error}): labels are not published. Install the Mosquitto broker add-on", file=sys.stderr)
        return None


def arguments(options: dict[str, Any], mqtt: dict[str, Any] | None) -> list[str]:
    """Return the arguments of fer-edge for the options of the add-on and the MQTT service."""
    words = ["fer-edge", "run", options["source"], "--wait", "--detector", options["detector"]]
    if options.get("model"):
        words += ["--model", options["model"]]
    if str(options.get("rotate", 0)) != "0":
        words += ["--rotate", str(options["rotate"])]
    if options.get("preview"):
        words += ["--serve", "0.0.0.0:8080"]
    if options.get("metrics"):
        words += ["--metrics", "0.0.0.0:9464"]
    if mqtt:
        scheme = "mqtts" if mqtt.get("ssl") else "mqtt"
        user = f"{mqtt['username']}@" if mqtt.get("username") else ""
        words += ["--mqtt", f"{scheme}://{user}{mqtt['host']}:{mqtt['port']}", "--device-name", options["device_name"]]
    return words


def environment(options: dict[str, Any], mqtt: dict[str, Any] | None) -> dict[str, str]:
    """Return the variables of fer-edge. Secrets are not arguments, which others could read."""
    variables = {"XDG_CONFIG_HOME": str(DATA)}  # a token that fer-edge makes survives updates
    if options.get("token"):
        variables["FER_EDGE_TOKEN"] = options["token"]
    if mqtt and mqtt.get("password"):
        variables["FER_EDGE_MQTT_PASSWORD"] = mqtt["password"]
    return variables


def main() -> None:
    """Replace this process by fer-edge."""
    options = json.loads((DATA / "options.json").read_text())
    mqtt = mqtt_service()
    os.execvpe("fer-edge", arguments(options, mqtt), {**os.environ, **environment(options, mqtt)})


if __name__ == "__main__":
    main()
