"""ZMTP 3.1 on a stream, the server's side, as far as executors need it: each message is one frame, and there are no keys.

libzmq is not used here, as it has no bounds: it keeps all parts of a message that never ends, and reads from any peer before
it has registered. Here every byte that a peer makes the slave keep is counted, and a message of several frames ends the
connection. (RFC 37, with the mechanism NULL of RFC 23. Heartbeats are answered, as the executors' libzmq would otherwise
close the connection.)
"""

from __future__ import annotations

from offerd.wire.codec import MAX_FRAME_BYTES

GREETING = b"\xff" + bytes(7) + b"\x01\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
"""Signature, version 3.1, mechanism, as-server and filler."""
GREETING_BYTES = 64
MAX_COMMAND_BYTES = 1024
"""The longest command: READY with its properties. Heartbeats are shorter."""
MAX_COMMANDS = 1000
"""The most commands in one read. A heartbeat comes every few seconds, so more have gathered only if the slave has not read for
hours."""

MORE, LARGE, COMMAND = 1, 2, 4
_SMALL_BYTES = 255


class NotZMTP(Exception):
    """The peer does not follow the protocol, or exceeds a bound; the text says how. `messages` were complete before that."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.messages: list[bytes] = []


def frame(payload: bytes) -> bytes:
    """The bytes of a message of one frame."""
    size = len(payload)
    if size <= _SMALL_BYTES:
        return bytes((0, size)) + payload
    return b"\x02" + size.to_bytes(8, "big") + payload


def command(name: bytes, data: bytes) -> bytes:
    """The bytes of a command."""
    body = bytes((len(name),)) + name + data
    return bytes((COMMAND, len(body))) + body


def _property(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value


OPENING = GREETING + command(b"READY", _property(b"Socket-Type", b"ROUTER") + _property(b"Identity", b""))
"""What the slave sends as soon as a peer has connected. Nothing in it depends on the peer."""


class Parser:
    """Takes the bytes of one peer, and returns its messages. Keeps no more than one incomplete frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._is_greeted = False
        self._is_ready = False

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """The messages that are complete now, and the answer to send: one answer, however many heartbeats there were. Raises
        `NotZMTP`."""
        messages: list[bytes] = []
        try:
            return messages, self._parse(data, messages)
        except NotZMTP as error:
            error.messages = messages
            raise

    def _parse(self, data: bytes, messages: list[bytes]) -> bytes:
        buffer = self._buffer
        buffer += data
        at, answer, commands = 0, b"", 0
        if not self._is_greeted:
            if not self._greeted():
                return b""
            at = GREETING_BYTES
        while len(buffer) - at >= 2:
            flags = buffer[at]
            if flags & LARGE:
                if len(buffer) - at < 9:
                    break
                begin = at + 9
                size = int.from_bytes(buffer[at + 1 : begin], "big")
            else:
                begin = at + 2
                size = buffer[at + 1]
            if flags & ~(LARGE | COMMAND):
                raise NotZMTP(
                    "several parts where there should be one frame" if flags & MORE else "unknown flags"
                )
            if size > (MAX_COMMAND_BYTES if flags & COMMAND else MAX_FRAME_BYTES):
                raise NotZMTP(f"a frame of {size} bytes")
            if len(buffer) < begin + size:
                break
            at = begin + size
            body = bytes(buffer[begin:at])
            if flags & COMMAND:
                commands += 1
                if commands > MAX_COMMANDS:
                    raise NotZMTP(f"more than {MAX_COMMANDS} commands at once")
                answer = self._commanded(body) or answer
            elif self._is_ready:
                messages.append(body)
            else:
                raise NotZMTP("a message before READY")
        del buffer[:at]
        return answer

    def _greeted(self) -> bool:
        """Whether the greeting is complete. Raises `NotZMTP` as soon as a wrong byte of it is there."""
        head = self._buffer[:GREETING_BYTES]
        wrong = (
            (head and head[0] != 0xFF)
            or (len(head) > 9 and not head[9] & 1)
            or (len(head) > 10 and head[10] < 3)
            or (len(head) >= 32 and bytes(head[12:32]) != GREETING[12:32])
        )
        if wrong:
            raise NotZMTP("no ZMTP 3 without keys")
        self._is_greeted = len(head) == GREETING_BYTES
        return self._is_greeted

    def _commanded(self, body: bytes) -> bytes:
        name, data = body[1 : 1 + body[0]] if body else b"", body[1 + body[0] :] if body else b""
        if not self._is_ready:
            if name != b"READY":
                raise NotZMTP("a command before READY")
            self._is_ready = True
        elif name == b"PING":
            return command(b"PONG", data[2:18])
        elif name not in (b"PONG", b"READY"):
            raise NotZMTP("an unknown command")
        return b""
