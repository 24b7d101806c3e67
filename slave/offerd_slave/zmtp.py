"""ZMTP 3.1 on a stream, the server's side, as far as executors need it: one frame is one message, and there are no keys.

What libzmq would do for us it does without bounds: it keeps the parts of a message that has no last one for ever, and hears any
peer until its hello. Here every byte that a peer makes us keep is counted, and what is no single frame ends the connection.
(RFC 37; the mechanism NULL of RFC 23; heartbeats are answered, as the executors' libzmq hangs up where they are not.)
"""

from __future__ import annotations

from offerd.wire.codec import MAX_FRAME_BYTES

GREETING = b"\xff" + bytes(7) + b"\x01\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
"""Signature, version 3.1, mechanism, as-server and filler."""
GREETING_BYTES = 64
MAX_COMMAND_BYTES = 1024
"""READY with what a peer says of itself; heartbeats are smaller."""
MAX_COMMANDS = 1000
"""In what comes at once: a heartbeat is due every few seconds, so there are more after hours of silence only."""

MORE, LARGE, COMMAND = 1, 2, 4
_SMALL_BYTES = 255


class NotZMTP(Exception):
    """The peer speaks something else, or more than we listen to; the text says what is wrong. `messages` came before that."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.messages: list[bytes] = []


def frame(payload: bytes) -> bytes:
    """A message of one frame, for the wire."""
    size = len(payload)
    if size <= _SMALL_BYTES:
        return bytes((0, size)) + payload
    return b"\x02" + size.to_bytes(8, "big") + payload


def command(name: bytes, data: bytes) -> bytes:
    """A command, for the wire."""
    body = bytes((len(name),)) + name + data
    return bytes((COMMAND, len(body))) + body


def _property(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + len(value).to_bytes(4, "big") + value


HELLO = GREETING + command(b"READY", _property(b"Socket-Type", b"ROUTER") + _property(b"Identity", b""))
"""What we say as soon as a peer has connected: nothing of it depends on the peer."""


class Parser:
    """The bytes of one peer in, its messages out. Keeps no more than one frame that is not whole yet."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._is_greeted = False
        self._is_ready = False

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """The messages that are whole with this, and what is to be answered: however many heartbeats came, one answer says that
        we are there. Raises `NotZMTP`."""
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
        """Whether the greeting is whole. Wrong ones are known by their first bytes that are wrong."""
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
