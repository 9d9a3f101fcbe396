cimport cython

from trio_ws_app.protocol.decoder cimport Decoder
from trio_ws_app.wire.closing cimport Closing
from trio_ws_app.wire.inbox cimport Inbox
from trio_ws_app.wire.inline cimport InlineConsumer
from trio_ws_app.wire.outbox cimport Outbox
from trio_ws_app.wire.sending cimport Sender
from trio_ws_app.wire.transport cimport Transport

cdef Py_ssize_t BLOCKED
cdef Py_ssize_t LOST
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
    cdef readonly Inbox inbox
    cdef readonly Outbox outbox
    cdef readonly object pings
    cdef readonly object timeouts
    cdef readonly Closing closing
    cdef readonly Sender sender
    cdef public InlineConsumer consumer
    cdef public bint busy
    cdef readonly long long messages_in
    cdef readonly long long bytes_in
    cdef public long long dropped
    cdef readonly double last_seen
    cdef Py_ssize_t _read_size
    cdef int _turn
    cdef bint _is_behind
    cdef Py_ssize_t _receiver
    cdef bint _at_work

    @cython.locals(size=Py_ssize_t)
    cpdef object readable(self, bytearray buffer, double now)
    @cython.locals(before=Py_ssize_t)
    cpdef object feed(self, bytearray buffer, Py_ssize_t size)
    @cython.locals(messages=list, decoder=Decoder, got=bint, refills=int)
    cdef object _act(self, Py_ssize_t before, object failure)
    cdef object _act_on_controls(self)
    @cython.locals(decoder=Decoder)
    cdef object _note_unfinished(self, bint got)
    cdef object _deliver(self, bint at_once)
    cdef object _wake_receiver(self)
    @cython.locals(consumer=InlineConsumer, goes_on=bint)
    cdef object _run_consumer(self)
    cpdef object consume_on(self)
    cpdef object take(self)
    cdef object _refill(self)
    cpdef bint is_turn_over(self) except -1
    @cython.locals(closing=Closing)
    cpdef bint must_wait(self) except -1
    cpdef object begin_waiting(self, object task)
    cpdef bint try_send(self, object message) except -1
    cpdef object send_nowait(self, object message)
    cpdef object check_sendable(self)
    @cython.locals(closing=Closing)
    cdef object _check_end(self)
    cpdef object closed_error(self)
    @cython.locals(before="long long")
    cdef object _read_the_rest(self, double now)
    cdef object _act_on_late(self, object late, double now)
    cdef object _receive_close(self, object close)
    cdef bint _receives(self) except -1
    cdef bint _has_to_answer(self) except -1
    cdef object _reply_to_close(self)
    cdef object _fail(self, object error)
    cdef object _end_behind_full_inbox(self)
    cdef object _lose(self, object reason)
