"""Emulated Raspberry Pis: arm64 Debian folders ("roots") that run under qemu, each with an ssh server on a loopback port.

    python3 tests/pi/roots.py FOLDER        makes or reuses both roots, starts their ssh servers and prints how to use them
    python3 tests/pi/roots.py FOLDER --stop stops the ssh servers

Needs root and the Debian packages qemu-user-static, qemu-user, binfmt-support and mmdebstrap.
Nothing but these servers outlives a command.
There is no systemd, no camera and no firmware of a Raspberry Pi inside.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
MIRROR = "http://deb.debian.org/debian"
PORTS = {"bookworm": 2222, "trixie": 2223}
USER = "pi"
BOARDS = {"bookworm": ("pi4", "cortex-a72"), "trixie": ("pi5", "cortex-a76")}  # of the ssh server
PACKAGES = (
    "usr-is-merged,python3-venv,python3-pip,openssh-server,openssh-sftp-server,rsync,ca-certificates,"
    "libstdc++6,libgomp1,procps,zlib1g"
)
TOOLS = {
    "mmdebstrap": "mmdebstrap", "qemu-aarch64-static": "qemu-user-static", "qemu-aarch64": "qemu-user",
    "update-binfmts": "binfmt-support",
    "unshare": "util-linux", "ssh": "openssh-client", "gcc": "gcc",
}  # fmt: skip
BINFMT = Path("/proc/sys/fs/binfmt_misc")
# /proc/cpuinfo of the boards: XNNPACK chooses its kernels by it. (part, variant, revision, features)
CPUS = {
    "pi3": ("0xd03", "0x0", 4, "fp asimd evtstrm crc32 cpuid"),
    "pi4": ("0xd08", "0x0", 3, "fp asimd evtstrm crc32 cpuid"),
    "pi5": (
        "0xd0b", "0x4", 1,
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    ),
}  # fmt: skip
CPUINFO = (
    "processor\t: {core}\nBogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
    "CPU variant\t: {variant}\nCPU part\t: {part}\nCPU revision\t: {revision}\n\n"
)
DEVICES = {"null": "1 3", "zero": "1 5", "random": "1 8", "urandom": "1 9", "tty": "5 0"}
SSHD = """\
Port {port}
ListenAddress 127.0.0.1
HostKey /etc/ssh/board_host_key
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
SetEnv QEMU_CPU={cpu} LANG=C.UTF-8
"""
SSH_HOST = """\
Host {suite}
    HostName 127.0.0.1
    Port {port}
    User {user}
    HostKeyAlias {suite}
    IdentityFile {folder}/keys/id
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/keys/known_hosts
    StrictHostKeyChecking yes
"""


def why_not():
    """Return why emulated boards cannot run here, or None if they can."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "emulated boards need Linux on x86-64"
    if os.geteuid():
        return "emulated boards need root, for chroot and mount"
    missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    if missing:
        return f"Debian packages are missing: apt-get install --no-install-recommends {' '.join(missing)}"
    if not (BINFMT / "status").exists() and run("mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT), check=False):
        return f"{BINFMT} cannot be mounted, so the kernel cannot start qemu"
    if not (BINFMT / "qemu-aarch64").exists() and run("update-binfmts", "--import", "qemu-aarch64", check=False):
        return "qemu-aarch64 is not registered in binfmt_misc: reinstall qemu-user-static"
    return None


def run(*command, check=True, **options):
    """Run a command; return its exit status. Its output is shown only if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with exit status {done.returncode}:\n{done.stdout}")
    return done.returncode


def make_root(suite, folder):
    """Make a root in folder/suite, unless it exists. No emulated program runs: mmdebstrap only unpacks the packages."""
    root = folder / suite
    if (root / "etc/board-complete").exists():
        return root
    shutil.rmtree(root, ignore_errors=True)
    include = ("--include=?essential", f"--include={PACKAGES}")
    run("mmdebstrap", "--quiet", "--arch=arm64", "--variant=extract", *include, suite, str(root), MIRROR)
    _configure(root)
    (root / "etc/board-complete").touch()
    return root


def _configure(root):
    """Do what the maintainer scripts of the packages would have done, and add the files of a board."""
    users = (root / "usr/share/base-passwd/passwd.master").read_text()
    users = "root:x:0:0:root:/root:/bin/bash\n" + "\n".join(line for line in users.splitlines() if not line.startswith("root:"))
    users += f"\nsshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n{USER}:x:1000:1000::/home/{USER}:/bin/bash\n"
    (root / "etc/passwd").write_text(users)
    groups = (root / "usr/share/base-passwd/group.master").read_text()
    (root / "etc/group").write_text(groups + f"{USER}:x:1000:\n")
    (root / "etc/shadow").write_text(f"root:*:19000:0:99999:7:::\n{USER}:*:19000:0:99999:7:::\n")
    (root / "etc/shadow").chmod(0o600)
    for name in ("proc", "host", "run/sshd", "root/.ssh", f"home/{USER}/.ssh", "etc/ssl/certs", "dev/pts", "dev/shm"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for device, numbers in DEVICES.items():
        (root / "dev" / device).unlink(missing_ok=True)
        run("mknod", "-m666", str(root / "dev" / device), "c", *numbers.split())
    for name in ("tmp", "dev/shm"):
        (root / name).chmod(0o1777)
    for name in ("etc/resolv.conf", "etc/hosts", "etc/ssl/certs/ca-certificates.crt"):
        if Path("/", name).exists():
            shutil.copy(Path("/", name), root / name)
    pip = "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\ndisable-pip-version-check = true\n"
    (root / "etc/pip.conf").write_text(pip)
    for board, (part, variant, revision, features) in CPUS.items():
        cores = (
            CPUINFO.format(core=core, features=features, variant=variant, part=part, revision=revision) for core in range(4)
        )
        (root / f"etc/cpuinfo.{board}").write_text("".join(cores))
    _describe_cores(root / "sys/devices/system/cpu")


def _describe_cores(cpu):
    """Write the files of sysfs that XNNPACK reads: four equal cores."""
    files = dict.fromkeys(("possible", "present", "online"), "0-3")
    for core in range(4):
        files |= {
            f"cpu{core}/cpufreq/cpuinfo_max_freq": "1800000",
            f"cpu{core}/cpufreq/cpuinfo_min_freq": "600000",
            f"cpu{core}/topology/physical_package_id": "0",
            f"cpu{core}/topology/core_id": str(core),
            f"cpu{core}/topology/core_siblings_list": "0-3",
            f"cpu{core}/topology/thread_siblings_list": str(core),
        }
    for name, text in files.items():
        (cpu / name).parent.mkdir(parents=True, exist_ok=True)
        (cpu / name).write_text(f"{text}\n")


def make_counter(root):
    """Compile the plugin that counts instructions into a root."""
    (root / "opt").mkdir(exist_ok=True)
    run("gcc", "-shared", "-fPIC", "-O2", "-o", str(root / "opt/libinstructions.so"), str(HERE / "instructions.c"))


def make_keys(folder):
    """Make the key pairs of the user and of the boards, and the ssh configuration that uses them."""
    keys = folder / "keys"
    keys.mkdir(exist_ok=True)
    for name in ("id", "host"):
        if not (keys / name).exists():
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name))
    host_key = " ".join((keys / "host.pub").read_text().split()[:2])
    (keys / "known_hosts").write_text("".join(f"{suite} {host_key}\n" for suite in PORTS))
    hosts = (SSH_HOST.format(suite=suite, port=port, folder=folder, user=USER) for suite, port in PORTS.items())
    (folder / "ssh_config").write_text("\n".join(hosts))
    # Programs that call ssh find this one first in PATH, and so the hosts bookworm and trixie.
    (folder / "bin").mkdir(exist_ok=True)
    others = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != folder / "bin")
    for tool in ("ssh", "scp", "sftp"):
        (folder / "bin" / tool).write_text(f'#!/bin/sh\nexec {shutil.which(tool, path=others)} -F {folder}/ssh_config "$@"\n')
        (folder / "bin" / tool).chmod(0o755)


def start_sshd(suite, folder):
    """Start the ssh server of a root, and wait until it listens. Return False if it runs already."""
    root, pid_file = folder / suite, folder / f"{suite}.pid"
    if _running(pid_file):
        return False
    board, cpu = BOARDS[suite]
    for home, owner in (("root", 0), (f"home/{USER}", 1000)):
        authorized = root / home / ".ssh/authorized_keys"
        shutil.copy(folder / "keys/id.pub", authorized)
        for path in (root / home, authorized.parent, authorized):
            os.chown(path, owner, owner)
            path.chmod(0o600 if path == authorized else 0o700)
    shutil.copy(folder / "keys/host", root / "etc/ssh/board_host_key")
    (root / "etc/ssh/board_host_key").chmod(0o600)
    os.chown(root / "etc/ssh/board_host_key", 0, 0)
    (root / "etc/ssh/sshd_board").write_text(SSHD.format(port=PORTS[suite], cpu=cpu))
    log = (folder / f"{suite}.log").open("w")
    command = [str(HERE / "enter.sh"), str(root), "/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_board"]
    server = subprocess.Popen(
        command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, env={**os.environ, "BOARD": board}
    )
    pid_file.write_text(f"{server.pid}\n")
    end = time.monotonic() + 60
    while "Server listening" not in (folder / f"{suite}.log").read_text():
        if server.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the ssh server of {suite} did not start:\n{(folder / f'{suite}.log').read_text()}")
        time.sleep(0.2)
    return True


def _running(pid_file):
    """Return whether the process that wrote a pid file still runs an ssh server."""
    try:
        return b"sshd" in Path("/proc", pid_file.read_text().strip(), "cmdline").read_bytes()
    except OSError:
        return False


def stop(folder, suites=tuple(PORTS)):
    """Stop the ssh servers that start_sshd started."""
    for suite in suites:
        pid_file = folder / f"{suite}.pid"
        if _running(pid_file):
            os.kill(int(pid_file.read_text()), signal.SIGTERM)
        pid_file.unlink(missing_ok=True)


def start(folder, suites=tuple(PORTS)):
    """Make or reuse roots and start their ssh servers. Return the suites whose server did not run before."""
    folder.mkdir(parents=True, exist_ok=True)
    make_keys(folder)
    for suite in suites:
        make_counter(make_root(suite, folder))
    return [suite for suite in suites if start_sshd(suite, folder)]


def main(arguments):
    """Make the roots in a folder, or stop their ssh servers."""
    if not arguments:
        sys.exit(__doc__)
    folder = Path(arguments[0]).resolve()
    if arguments[1:] == ["--stop"]:
        stop(folder)
        return
    if reason := why_not():
        sys.exit(reason)
    start(folder)
    print(f"ssh -F {folder}/ssh_config {' | '.join(PORTS)}   or put {folder}/bin first in PATH: ssh bookworm")
    print(f"as root, without ssh: {HERE}/enter.sh {folder}/bookworm COMMAND...")


if __name__ == "__main__":
    main(sys.argv[1:])
