"""A client of HTTP/2 that sends what no well-behaved one sends: half of a message, and then nothing."""

import select
import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
WINDOW = 65535
FRAME_BYTES = 16384


class RawConnection:
    """One connection, which answers what flow control asks for and nothing more.

    Attributes:
        reset: Streams that the server has ended.
        ended: Whether the server has closed the connection, or said that it will.
    """

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31 - 1)))
        self.reset, self.ended = set(), False
        self._received = b""
        self._stream_window = WINDOW
        self._windows = {0: WINDOW}
        self._next = 1

    def begin(self, method, *, headers=()):
        """Open a call; return its stream."""
        stream, self._next = self._next, self._next + 2
        self._windows[stream] = self._stream_window
        fields = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", method if isinstance(method, bytes) else method.encode()),
            (b":authority", b"stranger"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            *headers,
        ]
        block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)
        self.socket.sendall(frame(HEADERS, END_HEADERS, stream, block))
        return stream

    def send(self, streams_and_bytes, *, patience_s=0.5):
        """Send as much as the server lets in, until it has let in nothing for a while; return the bytes sent."""
        left = {stream: memoryview(data) for stream, data in streams_and_bytes.items()}
        sent, quiet_since = 0, time.monotonic()
        while left and not self.ended and time.monotonic() - quiet_since < patience_s:
            self.read(0.0)
            progress = 0
            for stream in [*left]:
                size = min(len(left[stream]), self._windows[stream], self._windows[0], FRAME_BYTES)
                if stream in self.reset or not left[stream]:
                    del left[stream]
                elif size > 0:
                    try:
                        self.socket.sendall(frame(DATA, 0, stream, left[stream][:size]))
                    except OSError:
                        self.ended = True
                        return sent
                    left[stream] = left[stream][size:]
                    self._windows[stream] -= size
                    self._windows[0] -= size
                    progress += size
            sent += progress
            if progress:
                quiet_since = time.monotonic()
            else:
                self.read(0.02)
        return sent

    def read(self, seconds, until=lambda: False):
        """Take in what the server has to say, for so long, or until it has said something."""
        deadline = time.monotonic() + seconds
        while not self.ended and not until():
            if not select.select([self.socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return
            try:
                data = self.socket.recv(2**16)
            except OSError:
                data = b""
            self.ended |= not data
            self._received += data
            while len(self._received) >= 9 and len(self._received) >= 9 + (size := _length(self._received)):
                kind, flags, stream = struct.unpack(">BBI", self._received[3:9])
                payload, self._received = self._received[9 : 9 + size], self._received[9 + size :]
                self._take(kind, flags, stream, payload)

    def _take(self, kind, flags, stream, payload):
        if kind == WINDOW_UPDATE:
            self._windows[stream] = self._windows.get(stream, 0) + struct.unpack(">I", payload)[0]
        elif kind == SETTINGS and not flags & ACK:
            for start in range(0, len(payload), 6):
                name, value = struct.unpack(">HI", payload[start : start + 6])
                if name == 4:
                    change, self._stream_window = value - self._stream_window, value
                    self._windows = {s: w + change if s else w for s, w in self._windows.items()}
            self.socket.sendall(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self.socket.sendall(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.ended = True
        elif kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM):
            self.reset.add(stream)

    def half_close(self, stream):
        """Say that nothing more comes."""
        self.socket.sendall(frame(DATA, END_STREAM, stream, b""))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def frame(kind, flags, stream, payload):
    """Return one frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + bytes(payload)


def message_head(size):
    """Return what comes before a gRPC message of so many bytes."""
    return b"\x00" + struct.pack(">I", size)


def _length(data):
    return struct.unpack(">I", b"\x00" + data[:3])[0]


def _text(value):
    assert len(value) < 127, "HPACK's longer integers are not written here"
    return bytes([len(value)]) + value
