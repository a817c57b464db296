#!/bin/bash
# Run a command as root inside an emulated board: enter.sh ROOT [NAME=VALUE...] COMMAND...
# ROOT is a folder that roots.py made. BOARD (pi3, pi4 or pi5; default pi4) chooses the processor. COUNT_TO, a path inside the
# root, appends the number of executed instructions to that file at each marker (see instructions.c), and slows the command down.
set -euo pipefail
root=$(readlink -f "$1")
shift
board=${BOARD:-pi4}
# Without QEMU_CPU, qemu emulates a processor with SVE and SME, on which LiteRT computes wrong int8 results.
case $board in
    pi3) cpu=cortex-a53 ;;
    pi4) cpu=cortex-a72 ;;
    pi5) cpu=cortex-a76 ;;
    *) echo "enter.sh: unknown board '$board'; choose one of: pi3, pi4, pi5" >&2; exit 2 ;;
esac
variables=(HOME=/root PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin LANG=C.UTF-8 QEMU_CPU=$cpu)
while [[ $1 == *=* ]]; do
    variables+=("$1")
    shift
done
counter=()
if [ "${COUNT_TO:-}" ]; then
    # Debian's dynamic qemu has plugins, its static one has not. It runs with the libraries of the host, mounted on /host.
    # One thread, so that the threads of numpy are not counted.
    variables+=(OPENBLAS_NUM_THREADS=1 "FER_EDGE_INSTRUCTION_COUNTS=$COUNT_TO")
    libraries=/host/usr/lib/x86_64-linux-gnu
    counter=("$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" /host/usr/bin/qemu-aarch64
        -cpu "$cpu" -plugin "/opt/libinstructions.so,log=$COUNT_TO")
fi
# The mounts are seen by this command only, and vanish with it.
exec unshare --mount bash -c '
    root=$1 board=$2; shift 2
    mount -t proc proc "$root/proc"
    mount --bind "$root/etc/cpuinfo.$board" "$root/proc/cpuinfo"
    mount --bind -o ro / "$root/host"
    exec chroot "$root" /usr/bin/env -i "$@"
' _ "$root" "$board" "${variables[@]}" "${counter[@]}" "$@"
