"""The token of the preview page: from the user, or made once and kept for the next start."""

import os
import re
import secrets
import stat
import uuid
from contextlib import suppress
from pathlib import Path

from fer_edge.artifacts.user_folders import user_config_folder
from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.outputs.secret import read_secret

TOKEN_VARIABLE = "FER_EDGE_TOKEN"
MIN_TOKEN_CHARACTERS = 16
MAX_FILE_BYTES = 1024
VALID_TOKEN = re.compile(rf"[!-~]{{{MIN_TOKEN_CHARACTERS},}}")


def token_from_user(option: str | None, on_message: OnMessage | None = None) -> str | None:
    """Return the token that the user gives in an option, in a file, in the variable FER_EDGE_TOKEN, or as a credential.

    Args:
        option: The value of --token: ``@FILE`` or the token itself.
        on_message: Called with a warning if others can read the token.

    Returns:
        The token; None if the user gives none.

    Raises:
        OSError: If the file or the credential cannot be read.
        ValueError: If the token is too short, or has spaces or characters that are not ASCII.
    """
    if option is None:
        token = read_secret(TOKEN_VARIABLE)
        return None if not token else checked_token(token, f"the variable {TOKEN_VARIABLE}")
    if not option.startswith("@"):
        if on_message:
            on_message(f"other users see this token in the list of processes: pass --token @FILE, or set {TOKEN_VARIABLE}")
        return checked_token(option, "--token")
    path = Path(option[1:]).expanduser()
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES)
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise OSError(f"cannot read the token from '{path}' ({error.strerror}). --token takes @ and a file's name") from error
    if mode & (stat.S_IRGRP | stat.S_IROTH) and on_message:
        on_message(f"other users can read the token: chmod 600 {path}")
    return checked_token(content.decode(errors="replace").strip(), f"the file '{path}'")


def checked_token(token: str, origin: str = "the token") -> str:
    """Return a token if viewers can use it and nobody can guess it.

    Args:
        token: The token.
        origin: Where it comes from, for the error. The token itself is not shown.

    Raises:
        ValueError: If it has fewer than 16 characters, or characters other than visible ASCII.
    """
    if not VALID_TOKEN.fullmatch(token):
        raise ValueError(
            f"the token of the preview page needs at least {MIN_TOKEN_CHARACTERS} characters. Received: {len(token)} from "
            f"{origin}. Use letters, digits and signs, but no spaces. Without a token, fer-edge makes one where it is needed"
        )
    return token


def stored_token(on_message: OnMessage | None = None) -> str:
    """Return the token of this user. The first call makes it and stores it so that only this user can read it.

    Args:
        on_message: Called with a line of text if it cannot be stored, or if a new one replaces it.
    """
    report = on_message or (lambda text: None)
    try:
        path = token_path()
        token = _read_token(path, report) if path.exists() else None
        if token is None:
            _write_token(path, secrets.token_urlsafe(MIN_TOKEN_CHARACTERS))
            token = _read_token(path, report)  # of the first, if two processes have written one at the same time
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home folder
        report(f"the token cannot be stored ({error}), so the next start will have another one. Set {TOKEN_VARIABLE}")
        token = None
    return token or secrets.token_urlsafe(MIN_TOKEN_CHARACTERS)


def token_path() -> Path:
    """Return where the token is stored: ``fer-edge/token`` in $XDG_CONFIG_HOME or ~/.config.

    Raises:
        RuntimeError: If the user has no home folder.
    """
    return user_config_folder() / "token"


def _read_token(path: Path, report: OnMessage) -> str | None:
    """Return the stored token. Delete the file and return None if others may have read it, or if it is not a token."""
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        token = file.read(MAX_FILE_BYTES).decode(errors="replace").strip()
    if not mode & (stat.S_IRWXG | stat.S_IRWXO) and VALID_TOKEN.fullmatch(token):
        return token
    reason = "does not contain a token" if not VALID_TOKEN.fullmatch(token) else "could be read by other users"
    report(f"the file '{path}' {reason}; a new token replaces it")
    path.unlink()
    return None


def _write_token(path: Path, token: str) -> None:
    """Store a token, unless another process has stored one in the meantime. The file is never readable for others."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{token}\n")
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
