"""The process in which a model's code runs, a new one for every reply; run as a script.

Speaks lines over its standard streams, which the code itself does not get:

    out  {"offline": ...}     it is limited, and whether it has no network
    in   the code             a JSON string
    out  loaded               the code ran to its end
    in   tests and a token    {"tests": [...], "token": ...}
    out  the token            every test ran to its end

Anything else, silence included, is no pass. The token comes after the code, so that printing, exits
and overwritten built-ins pass nothing; code that searches its own process can still find it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any, NoReturn

FILE_BYTES = 1 << 20
OPEN_FILES = 64

# From linux/sched.h and linux/prctl.h.
NEW_USER, NEW_NETWORK, NEW_PIDS = 0x10000000, 0x40000000, 0x20000000
DIE_WITH_PARENT = 1


def isolate() -> bool:
    """Go on in a child without network whose children die with it; False where that is refused."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if libc.unshare(NEW_USER | NEW_NETWORK | NEW_PIDS) != 0:
        return False
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os._exit(0)
    libc.prctl(DIE_WITH_PARENT, signal.SIGKILL)
    return True


def limit(cpu_seconds: int, memory_bytes: int) -> None:
    """Bound this process: CPU, address space, files, and no further processes or threads."""
    bounds = {
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_FSIZE: FILE_BYTES,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,
    }
    for kind, bound in bounds.items():
        with contextlib.suppress(ValueError, OSError):  # macOS knows no bound of the address space
            resource.setrlimit(kind, (bound, bound))


def serve(cpu_seconds: int, memory_bytes: int) -> None:
    orders = os.fdopen(os.dup(0), encoding="utf-8")
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    offline = isolate()
    limit(cpu_seconds, memory_bytes)

    def report(line: str) -> None:
        reports.write(line + "\n")
        reports.flush()

    report(json.dumps({"offline": offline}))
    world: dict[str, Any] = {"__name__": "reply"}
    exec(compile(json.loads(orders.readline()), "reply", "exec"), world)
    report("loaded")
    given = json.loads(orders.readline())
    for test in given["tests"]:
        exec(compile(test, "tests", "exec"), world)
    report(given["token"])


def main() -> NoReturn:
    # However the code ends, nothing that it has registered or started runs on.
    try:
        serve(int(sys.argv[1]), int(sys.argv[2]))
    except BaseException:
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
