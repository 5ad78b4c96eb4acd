"""What a process and all that it started do, seen from outside (Linux): how many they are, and their processor time."""
import contextlib
import os
from pathlib import Path

STEPS = 20      # of a chase after processes that start others meanwhile; 64 is the most that there can be


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

    A process that left the group, or whose parent has ended, is reached all the same.
    """
    told: set[int] = set()
    for _ in range(STEPS):
        members = family(pid)
        if members is None:
            if hasattr(os, "killpg"):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal_number)
            return
        if told.issuperset(members):
            return
        for member in sorted(members.keys() - told):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(member, signal_number)
        told |= members.keys()
