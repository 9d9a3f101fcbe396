cimport cython

from trio_ws_app.protocol.decoder cimport Decoder
from trio_ws_app.primitives cimport encode_frame
from trio_ws_app.wire.closing cimport Closing
from trio_ws_app.wire.inbox cimport Inbox
from trio_ws_app.wire.inline cimport InlineConsumer
from trio_ws_app.wire.messages cimport MessageWriter
from trio_ws_app.wire.outbox cimport Outbox
from trio_ws_app.wire.transport cimport Transport

cdef Py_ssize_t _BLOCKED
cdef Py_ssize_t _LOST
cdef int _MESSAGES_A_TURN
cdef int _REFILLS_A_TURN
cdef int _OPEN
cdef int _CLOSE_RECEIVED
cdef int _CLOSE_SENT
cdef int _GONE

cdef class Link:
    cdef readonly object engine
    cdef readonly Transport transport
    cdef readonly object settings
    cdef readonly object deflate
    cdef readonly Outbox outbox
    cdef readonly Inbox inbox
    cdef readonly object keepalive
    cdef readonly Closing closing
    cdef public InlineConsumer consumer
    cdef public bint busy
    cdef readonly long long messages_in
    cdef readonly long long bytes_in
    cdef public long long dropped
    cdef readonly double last_seen
    cdef Decoder _decoder
    cdef MessageWriter _messages
    cdef object _controls
    cdef object _timeouts
    cdef Py_ssize_t _read_size
    cdef bint _paused
    cdef int _turn
    cdef bint _is_behind
    cdef bint _awaited
    cdef bint _to_flush
    cdef list _all_to_flush
    cdef object _deadline
    cdef double _deadline_at

    @cython.locals(size=Py_ssize_t)
    cpdef object readable(self, bytearray buffer, double now)
    @cython.locals(inbox=Inbox, before=Py_ssize_t)
    cpdef object feed(self, bytearray buffer, Py_ssize_t size)
    @cython.locals(messages=list, decoder=Decoder, got=bint, refills=int)
    cdef object _act(self, Py_ssize_t before, object failure)
    cdef object _note_unfinished(self, bint got)
    @cython.locals(inbox=Inbox)
    cdef object _decode_kept(self)
    @cython.locals(full=bint)
    cdef object _pause_or_go_on(self)
    cdef object _end_behind_full_inbox(self)
    cdef object _deliver(self)
    @cython.locals(consumer=InlineConsumer, goes_on=bint)
    cdef object _run_consumer(self)
    cpdef object consume_on(self)
    cpdef object take(self)
    cdef object _refill(self)
    cpdef bint is_turn_over(self) except -1
    @cython.locals(closing=Closing)
    cpdef bint must_wait(self) except -1
    cpdef object begin_waiting(self, object task)
    cdef object _wake_receiver(self)
    cpdef bint try_send(self, object message) except -1
    cpdef object send_nowait(self, object message)
    @cython.locals(closing=Closing)
    cpdef object check_sendable(self)
    cpdef object _over(self)
    cpdef bint offer(self, object frame) except -1
    cdef object _flush_soon(self)
    cpdef bint flush(self) except -1
    cdef object _write_now(self)
    @cython.locals(outcome=Py_ssize_t)
    cdef bint _write(self) except -1
    cdef object _write_blocked(self)
    cdef object _watch(self)
    cdef object _lose_writing(self)
    cdef object _act_on_controls(self)
    cdef object _take_pong(self, object pong)
    cdef object _schedule_check(self, double now)
    cdef object _check_at(self, double when)
    cdef object _queue_close(self, bytes payload)
    cdef object _limit_closing(self)
    cdef object _take_close(self, object close)
    cdef object _reply_to_close(self)
    cdef object _end_if_written(self)
    cdef object _fail(self, object error)
    cdef object _peer_is_gone(self, object reason)
    cdef object _lose(self, object reason)
    cdef object _end(self)
    cdef object _drop_transport(self, bint abort)
    cdef object _stop_deadline(self)
