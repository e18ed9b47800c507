"""What a program printed, kept up to a limit."""

from __future__ import annotations


class CappedOutput:
    """The first and the last bytes of a stream, half of `limit` each; what lies between is only counted.

    `text()` is exact while no more than `limit` bytes were added, and has a mark in the gap otherwise.
    """

    def __init__(self, limit: int) -> None:
        self.limit = max(2, limit)
        self._head, self._tail, self._count = b"", b"", 0

    def add(self, data: bytes) -> None:
        self._count += len(data)
        room = self.limit - len(self._head)
        self._head += data[:room]
        self._tail = (self._tail + data[room:])[-(self.limit // 2) :]

    def copy(self) -> CappedOutput:
        other = CappedOutput(self.limit)
        other._head, other._tail, other._count = self._head, self._tail, self._count
        return other

    def text(self) -> str:
        if self._count <= self.limit:
            return self._head.decode("utf-8", "replace")
        half = self.limit // 2
        head, tail = self._head[: self.limit - half], (self._head[self.limit - half :] + self._tail)[-half:]
        cut = self._count - len(head) - len(tail)
        return f"{head.decode('utf-8', 'ignore')}\n[... {cut} bytes cut ...]\n{tail.decode('utf-8', 'ignore')}"
