"""Shutting a process in before it runs someone else's code. POSIX limits everywhere; on Linux also namespaces.

With user namespaces allowed, the process sees no network, a read-only file system and no other process. Where the
system refuses one, the rest still holds, and `shut_in` says what is in force.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_NEWNS, _NEWUSER, _NEWPID, _NEWNET, _NEWIPC = 0x20000, 0x10000000, 0x20000000, 0x40000000, 0x08000000
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000  # the number is the same on every processor
_PDEATHSIG, _CAPBSET_DROP, _NO_NEW_PRIVS, _DUMPABLE, _SUBREAPER = 1, 24, 38, 4, 36


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def shut_in() -> dict[str, bool]:
    """Cut this process off; call it before threads start. Returns {"network", "files", "processes"}: what holds.

    On Linux the caller is forked: the child goes on, the parent waits for it and ends as it ended. Whatever the child
    starts stays a descendant of that parent, also when the process between them ends.
    """
    held = {"network": False, "files": False, "processes": False}
    if not sys.platform.startswith("linux"):
        return held
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(_NEWUSER | _NEWNS | _NEWPID | _NEWNET | _NEWIPC) == 0:
        held.update(network=True, processes=True)
        _map_user(uid, gid)
        held["files"] = _read_only(libc)
    elif libc.unshare(_NEWNET) == 0:  # root in a container without user namespaces
        held["network"] = True
    _go_on_in_child(libc)
    _drop_rights(libc)
    return held


def _map_user(uid: int, gid: int) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with contextlib.suppress(OSError), open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _read_only(libc: ctypes.CDLL) -> bool:
    """Every mount read-only, in this process's own view."""
    attr = _MountAttr(attr_set=1, propagation=1 << 18)  # read-only; private
    size = ctypes.sizeof(attr)
    return libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE, ctypes.byref(attr), size) == 0


def _go_on_in_child(libc: ctypes.CDLL) -> None:
    libc.prctl(_SUBREAPER, 1, 0, 0, 0)  # orphans come to this process, which no learner's code runs in
    child = os.fork()
    if child == 0:
        libc.prctl(_PDEATHSIG, signal.SIGKILL)
        return
    for fd in (0, 1, 2):  # else the grader would not see the pipe close when the child ends
        os.close(fd)
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _drop_rights(libc: ctypes.CDLL) -> None:
    """No capabilities, none to be had by exec; so what was made read-only stays so."""
    for capability in range(64):
        libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)())


def limit(*, cpu_seconds: int, memory_bytes: int, namespaced: bool) -> bool:
    """Limits on this process and its children: processor time, memory beyond what is in use, no file writing, no core.

    Returns False where the system has no such limits (Windows).
    """
    try:
        import resource
    except ImportError:
        return False
    limits = {"RLIMIT_CPU": cpu_seconds, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0, "RLIMIT_NOFILE": 256}
    if sys.platform.startswith("linux"):
        limits["RLIMIT_AS"] = _in_use() + memory_bytes
    if namespaced:
        limits["RLIMIT_NPROC"] = 64
    for name, value in limits.items():
        with contextlib.suppress(ValueError, OSError, AttributeError):
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))
    if hasattr(signal, "SIGXFSZ"):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write then fails with an OSError that names the reason
    return True


def _in_use() -> int:
    """Bytes of address space now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def keep_out() -> None:
    """For the grader itself: other processes of this user may not read its memory (Linux)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_DUMPABLE, 0, 0, 0, 0)
