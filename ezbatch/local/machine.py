"""How much of this machine there is to give to jobs."""

from __future__ import annotations

import os
from pathlib import Path


def processors() -> int:
    """Return the number of processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def memory() -> int:
    """Return nine tenths of the machine's memory, in MiB: the rest is for the system and the notebook.

    A container's own limit counts, where this process runs in one.
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(limit).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return max(512, total * 9 // 10 // 2**20)
