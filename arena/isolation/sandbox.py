"""Takes from this process what an attacker must not have; there is no way back.

Linux alone. Landlock (from Linux 5.13) limits files, and by its version also TCP and signals; a
process inside cannot look into the memory of one outside. Capabilities are given up, memory and
the size of files are limited, and the process ends with the one that started it.

Source:
    Linux kernel, userspace-api/landlock and prctl(2), capset(2).
"""

import ctypes
import os
import resource
import signal
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_LARGEST_FILE = 4 * 2**30
_SET_PARENT_DEATH, _SET_NO_NEW_PRIVILEGES = 1, 38  # prctl
_CAPSET, _CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 126, 444, 445, 446  # x86-64; see `_number`
_CAPSET_ELSEWHERE = 91  # aarch64 and riscv64; Landlock's numbers are the same everywhere

_READ_FILE, _READ_FOLDER, _EXECUTE = 1 << 2, 1 << 3, 1 << 0
_WRITE_FILE, _TRUNCATE, _DEVICE = 1 << 1, 1 << 14, 1 << 15
_ANY_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _DEVICE
_BY_VERSION = (0, 2**13 - 1, 2**14 - 1, 2**15 - 1, 2**15 - 1, 2**16 - 1)
_TCP, _SCOPES = 0b11, 0b11  # bind and connect; abstract sockets and signals

READABLE = (
    "/usr", "/lib", "/lib64", "/bin", "/etc", "/sys/devices", "/sys/bus/pci",
    "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/filesystems",
    "/proc/modules", "/proc/devices", "/proc/driver/nvidia", "/proc/sys/vm",
)  # fmt: skip
"""What programs read of a system to run; no home, no data, no other process."""

DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


def bound_to_parent() -> None:
    """End this process when the one that started it ends."""
    _libc().prctl(_SET_PARENT_DEATH, signal.SIGKILL, 0, 0, 0)


class Places(NamedTuple):
    """What a confined process may still reach.

    Attributes:
        readable: files and folders it may read beside `READABLE`.
        listed: folders whose names it may list, which is what imports do.
        writable: folders it may write in.
    """

    readable: Iterable[str]
    listed: Iterable[str]
    writable: Iterable[str]


def confine(places: Places) -> str:
    """Confine this thread, and all it starts, for good; call it before there are others.

    Returns:
        what the system cannot keep from it, in one line; "" where it is confined whole.
    """
    libc = _libc()
    libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    gap = _landlock(libc, places)
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
    number = _CAPSET if os.uname().machine == "x86_64" else _CAPSET_ELSEWHERE
    libc.syscall(number, header, none)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_FSIZE, _LARGEST_FILE)
    return gap


def limit_memory(more: int) -> None:
    """Let this process map so many bytes beyond what it has mapped now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + more)


def _lower(kind: int, most: int) -> None:
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def _landlock(libc: ctypes.CDLL, places: Places) -> str:
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return "it can read what this user may read, because the system has no Landlock"
    handled = _BY_VERSION[min(version, len(_BY_VERSION) - 1)]
    # the system takes the fields it knows, and no others
    size = 8 if version < 4 else 16 if version < 6 else 24
    attributes = struct.pack("QQQ", handled, _TCP, _SCOPES)[:size]
    rules = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    if rules < 0:
        return "it can read what this user may read, because Landlock is out of order"
    reading = _READ_FILE | _READ_FOLDER | _EXECUTE
    devices = [*DEVICES, *map(str, Path("/dev").glob("nvidia*"))]
    for place in (*READABLE, *places.readable):
        _allow(libc, rules, place, handled & reading)
    for place in places.listed:
        _allow(libc, rules, place, handled & _READ_FOLDER)
    for place in devices:
        _allow(libc, rules, place, handled & ~_EXECUTE)
    for place in places.writable:
        _allow(libc, rules, place, handled)
    failed = libc.syscall(_RESTRICT_SELF, rules, 0)
    os.close(rules)
    if failed:
        return "it can read what this user may read, because Landlock is refused here"
    since = ((3, "empty files"), (4, "open TCP connections"), (6, "signal other processes"))
    missing = [what for first, what in since if version < first]
    return f"it can {', '.join(missing)}, because Landlock is older" if missing else ""


def _allow(libc: ctypes.CDLL, rules: int, place: str, rights: int) -> None:
    try:
        found = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not there
        return
    if not os.path.isdir(place):
        rights &= _ANY_OF_A_FILE
    libc.syscall(_ADD_RULE, rules, 1, struct.pack("=Qi", rights, found), 0)
    os.close(found)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
