"""Messages between the processes of the sandbox: a length, then JSON; descriptors may ride along."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from typing import Any

HEADER = 4
"""Bytes before a message."""
MAX_MESSAGE = 16 << 20
"""Bytes; a longer message is a broken or hostile peer."""


class Closed(Exception):
    """The other side is gone, or sent what is not a message."""


def send(channel: socket.socket, message: Any, descriptors: Sequence[int] = ()) -> None:
    """Send one message; raises `Closed` if nobody is there."""
    body = json.dumps(message).encode()
    data = struct.pack("<I", len(body)) + body
    try:
        sent = socket.send_fds(channel, [data], list(descriptors)) if descriptors else channel.send(data)
        channel.sendall(data[sent:])
    except OSError as error:
        raise Closed(str(error)) from None


def receive(channel: socket.socket, max_descriptors: int = 0) -> tuple[Any, list[int]]:
    """Wait for one message; return it and the descriptors that came with it. Raises `Closed`."""
    descriptors: list[int] = []
    try:
        if max_descriptors:
            start, descriptors, _, _ = socket.recv_fds(channel, HEADER, max_descriptors)
        else:
            start = channel.recv(HEADER)
        head = start + _exactly(channel, HEADER - len(start)) if start else b""
        if not head:
            raise Closed("end of messages")
        (length,) = struct.unpack("<I", head)
        if length > MAX_MESSAGE:
            raise Closed(f"message of {length} bytes")
        return json.loads(_exactly(channel, length)), descriptors
    except (OSError, ValueError, RecursionError) as error:
        raise Closed(str(error)) from None


def _exactly(channel: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        part = channel.recv(min(count, 1 << 20))
        if not part:
            raise Closed("message broken off")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
