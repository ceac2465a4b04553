"""A TCP proxy of asyncio, Python 3.11 or newer and its library only, on transports and protocols, which asyncio's
documentation has for code that is to be fast (streams, its other interface, are built on them), with the
`BufferedProtocol` that it has for much data: else each read makes an object of 256 KiB first, to cut it to size.
Back-pressure by `pause_writing`, half-close by `eof_received`. TCP_NODELAY is asyncio's default. One process, one event
loop.

    python3 proxy.py IP PORT BACKEND_IP BACKEND_PORT...
"""
import asyncio
import itertools
import socket
import struct
import sys

# All connections read into the same memory, one after the other, and copy what they got.
BUFFER = memoryview(bytearray(64 * 1024))
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Side(asyncio.BufferedProtocol):
    """One side of a connection. What it reads goes to the other."""

    def __init__(self):
        self.transport = None
        self.other = None
        self.ended = False

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        return BUFFER

    def buffer_updated(self, nbytes):
        # The transport may keep what it cannot write at once.
        self.other.transport.write(bytes(BUFFER[:nbytes]))

    def eof_received(self):
        self.ended = True
        if self.other.ended:
            # Both have ended; what is not written yet still is.
            self.transport.close()
            self.other.transport.close()
            return True
        try:
            self.other.transport.write_eof()
        except OSError:
            # It was reset, which nobody has read yet.
            self.reset()
        return True

    def connection_lost(self, error):
        if not self.other:
            return
        if error:
            self.other.reset()
        else:
            self.other.transport.close()

    def reset(self):
        """Ends it at once, by a reset: a part must never look whole."""
        if not self.transport.is_closing():
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.transport.abort()

    def pause_writing(self):
        # A side that has ended is not read any more, and must not be again.
        if not self.other.ended:
            self.other.transport.pause_reading()

    def resume_writing(self):
        if not self.other.ended:
            self.other.transport.resume_reading()


class BackEnd(Side):
    def __init__(self, client):
        super().__init__()
        self.other = client

    def connection_made(self, transport):
        super().connection_made(transport)
        self.other.other = self
        if self.other.transport.is_closing():
            self.reset()
        else:
            self.other.transport.resume_reading()


class Client(Side):
    # Connections under way, so that none is forgotten: the event loop itself keeps weak references only.
    dials = set()

    def __init__(self, loop, back_end):
        super().__init__()
        self.loop = loop
        self.back_end = back_end

    def connection_made(self, transport):
        super().connection_made(transport)
        transport.pause_reading()
        dial = self.loop.create_task(self.dial())
        self.dials.add(dial)
        dial.add_done_callback(self.dials.discard)

    async def dial(self):
        try:
            await self.loop.create_connection(lambda: BackEnd(self), *self.back_end)
        except OSError:
            self.reset()


async def main(ip, port, back_end_ip, *back_end_ports):
    loop = asyncio.get_running_loop()
    back_ends = itertools.cycle([(back_end_ip, int(port)) for port in back_end_ports])
    server = await loop.create_server(lambda: Client(loop, next(back_ends)), ip, int(port), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit("usage: python3 proxy.py IP PORT BACKEND_IP BACKEND_PORT...")
    try:
        asyncio.run(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        pass
