"""Secrets of a run: from the environment, or from the service manager as a file that only the service can read.

Source: systemd's credentials, https://systemd.io/CREDENTIALS.
"""

import os
from pathlib import Path

FOLDER_VARIABLE = "CREDENTIALS_DIRECTORY"
MAX_FILE_BYTES = 4096


def credential_name(variable: str) -> str:
    """Return the name of the credential that replaces a variable: ``mqtt-password`` for ``FER_EDGE_MQTT_PASSWORD``."""
    return variable.removeprefix("FER_EDGE_").lower().replace("_", "-")


def read_secret(variable: str) -> str | None:
    """Return the value of an environment variable, else the content of its credential, without spaces at its end.

    Args:
        variable: Name of the variable, such as ``FER_EDGE_TOKEN``.

    Returns:
        The secret; None if there is none or it is empty.

    Raises:
        OSError: If the credential cannot be read.
        ValueError: If it is not text of at most 4096 bytes.
    """
    if value := os.environ.get(variable):
        return value
    folder = os.environ.get(FOLDER_VARIABLE)
    path = Path(folder, credential_name(variable)) if folder else None
    if path is None or not path.exists():
        return None
    content = path.read_bytes()
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"the secret '{path}' has {len(content)} bytes; at most {MAX_FILE_BYTES} are allowed")
    try:
        return content.decode().rstrip() or None
    except UnicodeDecodeError as error:
        raise ValueError(f"the secret '{path}' is not text in UTF-8 ({error})") from error
