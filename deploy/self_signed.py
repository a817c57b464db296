"""A self-signed certificate for the web page in the local network: browsers open a camera only over https."""

import ipaddress
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from fer_edge.artifacts.atomic_write import atomic_write
from fer_edge.artifacts.user_folders import user_config_folder

DAYS = 365  # iPhones reject certificates that are valid for more than 825 days
MIN_SECONDS_LEFT = 24 * 3600


def self_signed_certificate(host: str) -> tuple[Path, Path]:
    """Return a certificate for this machine and its key. An earlier one is used again while it names the same addresses.

    Args:
        host: Host name or address under which clients reach this machine.

    Returns:
        PEM files: certificate and key.

    Raises:
        FileNotFoundError: If openssl is not installed.
        OSError: If openssl fails or the files cannot be written.
    """
    if shutil.which("openssl") is None:
        raise FileNotFoundError(
            "--self-signed needs openssl. Install it: sudo apt install openssl. Or pass a certificate: --tls-cert and --tls-key"
        )
    folder = user_config_folder() / "web"
    certificate, key, names = folder / "cert.pem", folder / "key.pem", folder / "names.txt"
    alternatives = _alternatives(host)
    is_known = key.is_file() and names.is_file() and names.read_text() == alternatives
    if not (is_known and _is_valid(certificate)):
        _create(certificate, key, alternatives)
        atomic_write(names, alternatives)
    return certificate, key


def _alternatives(host: str) -> str:
    """Return the names and addresses of this machine as openssl takes them."""
    names = dict.fromkeys([host, socket.gethostname(), f"{socket.gethostname()}.local", "localhost", "127.0.0.1"])
    return ",".join(f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in names)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_valid(certificate: Path) -> bool:
    command = ["openssl", "x509", "-noout", "-checkend", str(MIN_SECONDS_LEFT), "-in", str(certificate)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _create(certificate: Path, key: Path, alternatives: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        new_certificate, new_key = Path(temporary) / "cert.pem", Path(temporary) / "key.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", str(DAYS), "-subj", "/CN=fer-edge", "-addext", f"subjectAltName={alternatives}"]
        command += ["-addext", "extendedKeyUsage=serverAuth", "-keyout", str(new_key), "-out", str(new_certificate)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise OSError(f"openssl cannot create a certificate for {alternatives}: {reason}. Pass one: --tls-cert, --tls-key")
        key.parent.mkdir(parents=True, exist_ok=True)
        key.parent.chmod(0o700)
        atomic_write(key, new_key.read_bytes())
        key.chmod(0o600)
        atomic_write(certificate, new_certificate.read_bytes())
