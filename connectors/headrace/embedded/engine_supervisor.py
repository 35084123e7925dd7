"""Program that runs one engine as its child and ends it when the owner ends, also by ``kill -9``: a pipe closes then.

Started as ``python -I -S engine_supervisor.py SIGNAL GRACE COMMAND…``; it imports only the standard library, so that it
starts in 20 ms and takes 10 MB. Standard input is the pipe, standard output receives the engine's process id on one
line, standard error is the engine's log. Its exit code is the engine's (128 + n for signal n).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from types import FrameType

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main(arguments: list[str]) -> int:
    stop_signal, grace, command = int(arguments[0]), float(arguments[1]), arguments[2:]
    # On Linux the engine also ends when this process is killed. The death signal is bound to the thread that starts the
    # engine, so it must be this process's main thread and not a thread of the owner, which may end earlier.
    end_with_parent = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def in_child() -> None:
        if end_with_parent is not None:
            end_with_parent(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)

    try:
        engine = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            preexec_fn=in_child,  # noqa: PLW1509 - there are no threads yet
        )
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror or error}\n")
        return 127
    sys.stdout.write(f"{engine.pid}\n")
    sys.stdout.flush()

    def end() -> None:
        engine.send_signal(stop_signal)
        try:
            engine.wait(grace)
        except subprocess.TimeoutExpired:
            engine.kill()

    def end_with_owner() -> None:
        os.read(0, 1)  # nothing is ever written: this returns when the owner has ended
        end()

    def terminated(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=end, daemon=True).start()

    signal.signal(signal.SIGTERM, terminated)
    threading.Thread(target=end_with_owner, daemon=True).start()
    code = engine.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
