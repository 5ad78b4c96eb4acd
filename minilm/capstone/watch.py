"""What a process and all that it started do, seen from outside (Linux): how many they are, and their processor time."""
import contextlib
import os
import signal
import time
from pathlib import Path

PATIENCE = 2.0  # seconds of a chase after processes that start others meanwhile


def family(pid: int) -> dict[int, float] | None:
    """Processor seconds of a process and its descendants, by process id; None where the system doesn't tell."""
    proc = Path("/proc")
    if not (proc / "self" / "stat").exists():
        return None
    tick = os.sysconf("SC_CLK_TCK")
    parent, spent = {}, {}
    for entry in proc.iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()   # the name before may hold anything
            except (OSError, UnicodeDecodeError):
                continue                                                        # it ended meanwhile
            number = int(entry.name)
            parent[number] = int(fields[1])
            spent[number] = sum(map(int, fields[11:15])) / tick                 # its own and its dead children's
    members, found = {pid}, True
    while found:
        found = [number for number, over in parent.items() if over in members and number not in members]
        members.update(found)
    return {number: spent[number] for number in members if number in spent}


def send(pid: int, signal_number: int) -> None:
    """Send a signal to a process and every descendant, until no new one turns up; elsewhere than on Linux to its group.

    A process that left the group, or whose parent has ended, is reached all the same. One that gets SIGSTOP in the
    middle of a fork stops only after it: so the last look for new ones comes when all that are known stand still.
    """
    told: set[int] = set()
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        settled = signal_number != getattr(signal, "SIGSTOP", None) or all(map(_stands, told))
        members = family(pid)
        if members is None:
            if hasattr(os, "killpg"):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal_number)
            return
        if settled and told.issuperset(members):
            return
        for member in sorted(members.keys() - told):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(member, signal_number)
        told |= members.keys()
        time.sleep(0.001)


def _stands(number: int) -> bool:
    """Whether the process is stopped, or ended."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] in "TtZX"
    except (OSError, UnicodeDecodeError, IndexError):
        return True
