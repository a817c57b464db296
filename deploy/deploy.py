"""Deploy: install fer-edge and a model on a board, test them there, switch to them, and run them as a service."""

import getpass
import io
import os
import platform
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_edge.artifacts.contract import read_contract
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.deploy.board.releases import FOLDER
from fer_edge.deploy.check_board import check_board, check_service
from fer_edge.deploy.connection import BoardConnection
from fer_edge.deploy.content import ReleaseContent, check_arguments, extras_of, uses_network
from fer_edge.deploy.known_image import detector_file, expected_faces
from fer_edge.deploy.steps import StepLog, described, find_manifest, lock, run_self_test, start_service
from fer_edge.deploy.unit import CREDENTIALS, split_arguments, unit_text
from fer_edge.deploy.wheels import MODULE_OF_EXTRA, find_wheels, pack_fer_edge
from fer_edge.edge_runtime.find_model import find_model
from fer_edge.edge_runtime.images import Image, write_image
from fer_edge.edge_runtime.outputs.mqtt import PASSWORD_VARIABLE
from fer_edge.edge_runtime.outputs.secret import credential_name
from fer_edge.edge_runtime.outputs.token import TOKEN_VARIABLE

SECRETS = (TOKEN_VARIABLE, PASSWORD_VARIABLE)
INSTALL_TIMEOUT_S = 1800.0
UNPACKED = 4  # bytes on the disk per byte of a wheel: 59 MB of wheels become 178 MB
RESERVE_BYTES = 100_000_000


@dataclass(frozen=True)
class DeployOptions:
    """What to deploy.

    Attributes:
        model: As for ``fer-edge run --model``.
        detector: As for ``fer-edge run --detector``.
        run: Further arguments of ``fer-edge run`` on the board. None keeps those of the current release.
        service: Whether to install the systemd service. A service that is installed is updated in any case.
        wheels: Folder with the wheels for the board; None downloads them.
        dry_run: Whether to change nothing on the board and only report what would be done.
    """

    model: str | None = None
    detector: str = "auto"
    run: str | None = None
    service: bool = False
    wheels: Path | None = None
    dry_run: bool = False


def deploy(host: str, options: DeployOptions, known_image: Image, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Install a release on a board and switch to it. If a step fails, the board stays as it was.

    Args:
        host: ``[USER@]HOST`` or a name of the user's ssh configuration.
        options: What to deploy.
        known_image: An image with a face, uint8 (height, width, 3), RGB. The board must find the same face as this machine.
        reporter: Receives the steps.

    Returns:
        JSON-compatible data: host, board, release, previous, unchanged, version, model, detector, run, sent_bytes, wheels,
        self_test, service, steps, seconds. With ``dry_run``, ``release`` is the name that it would have.

    Raises:
        ValueError: If an option cannot be used.
        OSError: If a file is missing, the wheels cannot be downloaded, or the connection fails.
        RuntimeError: If the board cannot be used, or a step fails there.
    """
    log = StepLog(reporter)
    if options.run is not None:
        check_arguments(split_arguments(options.run))
    model = find_model(options.model)
    read_contract(model)
    detector = detector_file(options.detector)
    with BoardConnection(host) as connection, tempfile.TemporaryDirectory() as text:
        facts = connection.call("facts")
        board = check_board(host, facts)
        service = options.service or board.service
        if service:
            check_service(host, facts)
        if facts["picamera2_error"]:
            reporter.warn(f"picamera2 on {host} cannot be imported ({facts['picamera2_error']}); fer-edge cannot use it")
        log.step("examine", f"{board.name}, Python {facts['python']}, {board.free_bytes / 1e9:.1f} GB free")
        if not options.dry_run:
            lock(connection)
            facts.update(connection.call("state"))
        current = find_manifest(facts, facts["current"])
        run = tuple(split_arguments(options.run) if options.run is not None else (current or {}).get("run", []))
        folder = Path(text)
        own = pack_fer_edge(folder)
        known = folder / "known.png"
        write_image(known, known_image)
        wheels, warning = find_wheels(board.target(extras_of(run)), own, options.wheels)
        if warning:
            reporter.warn(warning)
        size = sum(wheel.stat().st_size for wheel in wheels)
        log.step("wheels", f"{len(wheels)} wheels for the board, {size / 1e6:.0f} MB")
        version = own.name.split("-")[1]
        content = ReleaseContent(board, model, detector, run, tuple(wheels), known, version)
        return _Deployment(host, connection, log, facts, content, service).go(options.dry_run)


class _Deployment:
    """The steps that change the board."""

    def __init__(
        self, host: str, board: BoardConnection, log: StepLog, facts: dict[str, Any], content: ReleaseContent, service: bool
    ) -> None:
        self._host, self._board, self._log, self._content, self._service = host, board, log, content, service
        self._current = find_manifest(facts, facts["current"])
        self._facts = facts
        self._secrets = {name: value for name in SECRETS if (value := os.environ.get(name))}
        self._sent_bytes = 0
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        time_of_day = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(seconds))}{nanoseconds // 10**6:03d}"
        self._release = f"{time_of_day}-{content.digest[:8]}"

    def _check_space(self) -> None:
        """Raise RuntimeError if the wheels and their content do not fit."""
        needed = sum(wheel.stat().st_size for wheel in self._content.wheels) * (UNPACKED + 1) + RESERVE_BYTES
        free = self._content.board.free_bytes
        if free < needed and not self._is_unchanged():
            raise RuntimeError(
                f"{self._host} has {free / 1e6:.0f} MB of free space in '{self._content.board.home}', but "
                f"{needed / 1e6:.0f} MB are needed. Free some space: sudo apt clean, or remove files that you do not need"
            )

    def go(self, dry_run: bool) -> dict[str, Any]:
        manifest = self._manifest()
        self._check_space()
        self._compare_versions()
        if dry_run:
            todo = "unchanged" if self._is_unchanged() else f"would install {self._release}"
            after = f"current is {self._current['release']}" if self._current else "nothing is installed"
            self._log.step("dry run", f"{todo}; {after}; service: {'yes' if self._service else 'no'}")
            return self._report(manifest, self._is_unchanged(), None)
        unchanged = self._is_unchanged() and self._current_works()
        if unchanged and self._current:
            self._release = self._current["release"]
            manifest = self._current
        try:
            if not unchanged:
                self._install()
                manifest["self_test"] = self._self_test(self._release)
            started = self._start_service(manifest)
            self._board.call("complete", release=self._release, manifest=manifest)
        except (RuntimeError, ValueError):
            with suppress(OSError, RuntimeError):
                self._board.call("discard", release=self._release)
            raise
        self._board.call("switch", release=self._release)
        self._log.step("switch", f"current is {self._release}, fer-edge {manifest['version']}, {manifest['model']}")
        return self._report(manifest, unchanged, started)

    def _is_unchanged(self) -> bool:
        return not self._secrets and self._current is not None and self._current["content"] == self._content.digest

    def _current_works(self) -> bool:
        """Return whether the current release, which has the same content, passes the self-test."""
        if self._current is None:
            return False
        try:
            self._self_test(self._current["release"])
        except RuntimeError as error:
            self._log.reporter.warn(f"the current release fails its self-test and is installed again: {error}")
            return False
        return True

    def _manifest(self) -> dict[str, Any]:
        content = self._content
        return {
            "release": self._release,
            "content": content.digest,
            "version": content.version,
            "model": content.model.name,
            "model_sha256": content.model_sha256,
            "detector": content.detector.name,
            "run": list(content.run),
            "wheels": content.wheel_digests,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "deployed_by": f"{getpass.getuser()}@{platform.node()}",
        }

    def _compare_versions(self) -> None:
        if self._current and _version(self._current["version"]) > _version(self._content.version):
            self._log.reporter.warn(
                f"fer-edge {self._content.version} replaces {self._current['version']}, which is newer. To go back: --rollback"
            )

    def _install(self) -> None:
        digests = self._content.wheel_digests
        self._send_wheels(digests)
        folder = self._folder()
        model = self._content.model
        self._put("model.tflite", model.read_bytes(), 0o644)
        self._put("model.sha256", f"{self._content.model_sha256}  {folder}/model.tflite\n".encode(), 0o644)
        self._put("known.png", self._content.known_image.read_bytes(), 0o644)
        self._put("run", self._content.run_script(folder).encode(), 0o755)
        for name, value in self._secrets.items():
            self._put(f"{CREDENTIALS}/{credential_name(name)}", value.encode(), 0o600)
        self._board.call(
            "install",
            release=self._release,
            wheels=digests,
            system_packages=self._content.board.system_packages,
            timeout_s=INSTALL_TIMEOUT_S,
        )
        detector = self._content.detector
        if detector.file:
            python = f"python{self._content.board.python[0]}.{self._content.board.python[1]}"
            self._put(detector.place.format(packages=f"env/lib/{python}/site-packages"), detector.file.read_bytes(), 0o644)
        self._log.step("install", "installed")

    def _send_wheels(self, digests: dict[str, str]) -> None:
        arrived = self._board.call("wheel_bytes", wheels=digests)
        total = sum(wheel.stat().st_size - min(arrived[wheel.name], wheel.stat().st_size) for wheel in self._content.wheels)
        with self._log.reporter.progress("copying") as progress:
            for wheel in self._content.wheels:
                size, offset = wheel.stat().st_size, arrived[wheel.name]
                if offset == size:
                    continue
                offset = offset if offset < size else 0
                with wheel.open("rb") as file:
                    file.seek(offset)
                    self._board.send_file(
                        "put_wheel",
                        file,
                        size - offset,
                        lambda sent: progress(self._count(sent), total),
                        name=wheel.name,
                        sha256=digests[wheel.name],
                        offset=offset,
                    )
        kept = sum(wheel.stat().st_size for wheel in self._content.wheels) - self._sent_bytes
        self._log.step("copy", f"copied {self._sent_bytes / 1e6:.1f} MB; {kept / 1e6:.1f} MB were there")

    def _count(self, sent: int) -> int:
        self._sent_bytes += sent
        return self._sent_bytes

    def _put(self, name: str, data: bytes, mode: int) -> None:
        self._board.send_file("put_file", io.BytesIO(data), len(data), release=self._release, name=name, mode=mode)

    def _self_test(self, release: str) -> dict[str, Any]:
        """Run a release on the known image. Returns what a later test of the release needs."""
        content = self._content
        test: dict[str, Any] = {
            "arguments": ["known.png", "--json", *content.run_arguments("")[len(content.run) :]],
            "modules": [MODULE_OF_EXTRA[extra] for extra in extras_of(content.run) if extra in MODULE_OF_EXTRA]
            + (["picamera2"] if content.board.system_packages else []),
            "faces": expected_faces(content.known_image, content.model, content.detector.local),
        }
        run_self_test(self._board, release, test, content.model_sha256)
        self._log.step("self-test", f"self-test: {described(test['faces'])}, as on this machine")
        return test

    def _start_service(self, manifest: dict[str, Any]) -> dict[str, Any] | None:
        credentials = self._board.call("keep_files", release=self._release, folder=CREDENTIALS)
        folder = self._folder()
        arguments = self._content.run_arguments(f"{folder}/")
        arguments += [] if "--wait" in arguments else ["--wait"]
        manifest["unit"] = unit_text(
            folder,
            self._content.board.user,
            arguments,
            credentials,
            network=uses_network(self._content.run),
            camera_group=self._content.board.camera_group,
        )
        if not self._service:
            return None
        return start_service(self._board, manifest["unit"], self._log)

    def _folder(self) -> str:
        return f"{self._content.board.home}/{FOLDER}/releases/{self._release}"

    def _report(self, manifest: dict[str, Any], unchanged: bool, service: dict[str, Any] | None) -> dict[str, Any]:
        kept = {name: manifest.get(name) for name in ("release", "version", "model", "model_sha256", "detector", "run")}
        return {
            "host": self._host,
            "board": self._content.board.name,
            **kept,
            "previous": self._current["release"] if self._current else None,
            "unchanged": unchanged,
            "wheels": len(self._content.wheels),
            "sent_bytes": self._sent_bytes,
            "self_test": (manifest.get("self_test") or {}).get("faces"),
            "service": service,
            "steps": self._log.steps,
            "seconds": self._log.steps[-1]["seconds"],
        }


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
