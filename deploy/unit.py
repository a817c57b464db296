"""The systemd unit of the service on the board."""

import shlex
from collections.abc import Sequence

CREDENTIALS = "credentials"  # folder of a release
MAX_MEMORY_MB = 700
MAX_FILES = 1024  # the preview page needs 96 for its clients; camera, log and broker need some more
WATCHDOG_S = 30
# A board without its camera waits for it. A program that dies five times within five minutes stays down.
RESTART = "on-failure"
RESTART_S = 5
MAX_STARTS, STARTS_WITHIN_S = 5, 300

TEMPLATE = """\
# Written by fer-edge deploy. The next deployment replaces this file; put changes into a drop-in: systemctl edit {name}
[Unit]
Description=fer-edge: label the faces in front of the camera
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec={within_s}
StartLimitBurst={starts}

[Service]
Type=notify
NotifyAccess=main
User={user}
{groups}
# A model that was replaced on the disk is not run.
ExecStartPre=/usr/bin/sha256sum --check --quiet {folder}/model.sha256
ExecStart={command}
WorkingDirectory=/var/lib/fer-edge
Environment=XDG_CONFIG_HOME=/var/lib/fer-edge/config XDG_CACHE_HOME=/var/cache HOME=/var/lib/fer-edge
Environment=PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
{credentials}
StateDirectory=fer-edge
StateDirectoryMode=0750
CacheDirectory=fer-edge
WatchdogSec={watchdog_s}
Restart={restart}
RestartSec={restart_s}
TimeoutStartSec=90
TimeoutStopSec=15
MemoryMax={memory_mb}M
TasksMax=128
LimitNOFILE={files}
LimitCORE=0
OOMPolicy=stop
UMask=0077

# The program sees its release, its state and the cameras, and nothing else of the home folders.
ProtectHome=tmpfs
BindReadOnlyPaths={folder}
{inaccessible}
ProtectSystem=strict
ProtectProc=invisible
ProcSubset=all
PrivateTmp=yes
PrivateUsers={private_users}
DevicePolicy=closed
DeviceAllow=char-video4linux rw
DeviceAllow=char-media rw
DeviceAllow=char-dma_heap rw
DeviceAllow=/dev/udmabuf rw
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
RestrictAddressFamilies=AF_UNIX AF_NETLINK{families}
{addresses}

[Install]
WantedBy=multi-user.target
"""


def unit_text(
    folder: str,
    user: str,
    arguments: Sequence[str],
    credentials: Sequence[str] = (),
    *,
    network: bool,
    camera_group: bool = True,
) -> str:
    """Return the text of the unit.

    Args:
        folder: Folder of the release on the board, an absolute path.
        user: User of the service, not root.
        arguments: Arguments of ``fer-edge run``.
        credentials: Names of the files in the folder ``credentials`` of the release.
        network: Whether the service may use the network, for a preview page, a broker or a stream.
        camera_group: Whether the board has the group ``video``.
    """
    words = [f"{folder}/env/bin/fer-edge", "run", *arguments]
    return TEMPLATE.format(
        name="fer-edge",
        within_s=STARTS_WITHIN_S,
        starts=MAX_STARTS,
        user=user,
        groups="SupplementaryGroups=video" if camera_group else "",
        folder=folder,
        command=" ".join(map(_quoted, words)),
        credentials="\n".join(f"LoadCredential={name}:{folder}/{CREDENTIALS}/{name}" for name in credentials),
        inaccessible=f"InaccessiblePaths=-{folder}/{CREDENTIALS}",
        watchdog_s=WATCHDOG_S,
        restart=RESTART,
        restart_s=RESTART_S,
        memory_mb=MAX_MEMORY_MB,
        files=MAX_FILES,
        private_users="yes",
        families=" AF_INET AF_INET6" if network else "",
        addresses="" if network else "IPAddressDeny=any",
    )


def split_arguments(text: str) -> list[str]:
    """Split the arguments of ``fer-edge run`` as a shell does.

    Raises:
        ValueError: If a quotation mark is missing, or a word has a line break.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"--run cannot be split into words ({error}). Received: '{text}'") from error
    if any(ord(character) < 32 for word in words for character in word):
        raise ValueError("--run contains a line break or another control character. Put the arguments on one line")
    return words


def _quoted(word: str) -> str:
    """Return a word as systemd reads it: without specifiers, variables and quotes of its own."""
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"' if text != word or not text or any(character in text for character in " ';\t") else text
