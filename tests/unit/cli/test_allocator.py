"""Threads of a worker share one arena of glibc, unless the environment says otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, threading
from headrace.cli.allocator import share_one_arena
share_one_arena()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
all_started = threading.Barrier(4)

def allocate():
    all_started.wait()
    libc.malloc(1000)

threads = [threading.Thread(target=allocate) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no arenas")
@pytest.mark.parametrize(("setting", "one"), [({}, True), ({"MALLOC_ARENA_MAX": "8"}, False)])
def test_threads_allocate_from_one_arena(setting: dict[str, str], *, one: bool) -> None:
    environment = {name: text for name, text in os.environ.items() if name != "MALLOC_ARENA_MAX"} | setting
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout.count("<heap nr=") == 1) is one, done.stdout
