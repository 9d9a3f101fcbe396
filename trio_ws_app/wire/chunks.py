# cython: annotation_typing=False
"""Chunks in their order, of which the first may be partly sent."""

from __future__ import annotations

from typing import Any

from ..primitives import empty

_WORTH_SWEEPING = 64  # places of chunks that are gone


class Header(bytes):
    """A chunk: a frame's header whose payload is the next chunk, so nothing may come between."""


class Urgent(bytes):
    """A chunk that no other overtakes: a ping, a pong, the answer to the opening handshake."""


class Chunks:
    """A queue of chunks, by place.

    A chunk is a whole frame or message (bytes), a shared ``Frame``, a ``Header`` and the payload behind it,
    or an ``Urgent``. Chunks leave the queue only when the transport has taken them whole, so whatever
    happens the peer sees a prefix of well-formed frames (G2).
    """

    def __init__(self) -> None:
        self.chunks: list[Any] = []  # by place; None for one that is gone
        self.shifts = 0  # how often the places have changed their chunks
        self._bytes = 0  # that are queued
        self._first = 0  # the place of the first chunk; what is before is gone
        self._gone_between = 0  # places behind it that are gone too
        self._head_sent = 0  # how much of the first chunk the transport has taken
        self._in_frame = False  # the first chunk is the payload of a header that has been sent
        self._committed = 0  # bytes after ``_head_sent`` that the next write has to begin with

    def is_empty(self) -> bool:
        """Whether nothing waits to be written."""
        return self._first == len(self.chunks)

    def push_urgent(self, frame: Urgent, superseded: object = None) -> None:
        """Queue ``frame`` ahead of the messages that wait, behind earlier urgent ones.

        Never inside a frame that is partly sent (RFC 6455, section 5.4). If ``superseded``, an urgent frame,
        still waits, it takes its place.
        """
        chunks = self.chunks
        place = self.first_free()
        while place < len(chunks) and isinstance(chunks[place], Urgent):
            if chunks[place] is superseded:
                self._bytes += len(frame) - len(chunks[place])
                chunks[place] = frame
                return
            place += 1
        chunks.insert(place, frame)
        self.shifts += 1
        self._bytes += len(frame)

    def first_free(self) -> int:
        """The first place that a frame may be put at: behind what is half sent or committed."""
        chunks = self.chunks
        place = self._first + (1 if self._in_frame else 0)
        reach = self._head_sent + self._committed
        if reach:
            place = self._first
            while reach > 0 and place < len(chunks):
                if chunks[place] is not None:
                    reach -= len(chunks[place])
                place += 1
            if isinstance(chunks[place - 1], Header):
                place += 1
        return place

    def _next_chunks(self, count: int) -> list[Any]:
        """Up to ``count`` places of chunks, without those that are gone."""
        chunks = self.chunks[self._first : self._first + count]
        return [chunk for chunk in chunks if chunk is not None] if self._gone_between else chunks

    def _joined(self, limit: int) -> bytes:
        """The first chunks, as many as are at most ``limit`` bytes together; one at least."""
        chunks = self.chunks
        if self._bytes > limit:
            chunks = self._up_to(limit)
        elif self._first or self._gone_between:
            chunks = self._next_chunks(len(chunks))
        return b"".join(chunks)

    def _up_to(self, limit: int) -> list[Any]:
        fitting: list[Any] = []
        total = 0
        for place in range(self._first, len(self.chunks)):
            chunk = self.chunks[place]
            if chunk is not None:
                total += len(chunk)
                if fitting and total > limit:
                    break
                fitting.append(chunk)
        return fitting

    def _written(self, count: int) -> object:
        """The transport has taken ``count`` bytes."""
        self._committed = 0
        self._bytes -= count
        if self._bytes == 0:
            self._forget_chunks()
            return None
        chunks = self.chunks
        count += self._head_sent
        place = self._first
        while place < len(chunks):
            chunk = chunks[place]
            if chunk is None:
                self._gone_between -= 1
            else:
                if count < len(chunk):
                    break
                count -= len(chunk)
                self._in_frame = isinstance(chunk, Header)
                chunks[place] = None
            place += 1
        self._first = place
        self._head_sent = count
        self.sweep()
        return None

    def sweep(self) -> object:
        """Give back the places of chunks that are gone once they are half of the list."""
        gone = self._first + self._gone_between
        if gone >= _WORTH_SWEEPING and gone * 2 >= len(self.chunks):
            self.chunks[:] = [chunk for chunk in self.chunks if chunk is not None]
            self._first = self._gone_between = 0
            self.shifts += 1
        return None

    def _forget_chunks(self) -> object:
        empty(self.chunks)
        self._first = self._gone_between = self._head_sent = 0
        self._in_frame = False
        self.shifts += 1
        return None

    def take_out(self, place: int) -> object:
        """Forget the chunk at ``place``. The last place of the list is never one that is gone."""
        chunks = self.chunks
        self._bytes -= len(chunks[place])
        chunks[place] = None
        self._gone_between += 1
        while len(chunks) > self._first and chunks[-1] is None:
            chunks.pop()
            self._gone_between -= 1
        return None
