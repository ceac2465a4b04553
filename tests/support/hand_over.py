"""Stands in for a supervisor: opens sockets, hands them over as sd_listen_fds(3) says, becomes the program.

What to open is in SOCKETS: NAME=KIND with blanks between, KIND one of tcp, unix:PATH, quiet (does not listen), udp, file.
"""

import os
import socket
import sys


def opened(kind):
    """A descriptor of that kind."""
    if kind == "file":
        return os.open("/dev/null", os.O_RDONLY)
    if kind.startswith("unix:"):
        made = socket.socket(socket.AF_UNIX)
        made.bind(kind.removeprefix("unix:"))
    else:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
        made.bind(("127.0.0.1", 0))
    if kind not in ("udp", "quiet"):
        made.listen(128)
    return made.detach()


wanted = [pair.split("=", 1) for pair in os.environ.pop("SOCKETS").split()]
# High first: the numbers from 3 up may be in use here.
high = [os.dup(opened(kind)) for _, kind in wanted]
high = [os.dup2(descriptor, 100 + place) for place, descriptor in enumerate(high)]
for place, descriptor in enumerate(high):
    os.dup2(descriptor, 3 + place, inheritable=True)
os.closerange(3 + len(high), 200)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(wanted))
os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _ in wanted)
os.execvp(sys.argv[1], sys.argv[1:])
