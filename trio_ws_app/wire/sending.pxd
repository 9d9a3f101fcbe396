cimport cython

from trio_ws_app.primitives cimport encode_frame
from trio_ws_app.wire.closing cimport Closing
from trio_ws_app.wire.inbox cimport Inbox
from trio_ws_app.wire.outbox cimport Outbox

cdef int _TEXT
cdef int _BINARY
cdef int _PING
cdef int _PONG
cdef Py_ssize_t _LARGE
cdef Py_ssize_t BLOCKED
cdef Py_ssize_t LOST

cdef class Sender:
    cdef readonly Outbox outbox
    cdef readonly object deflate
    cdef readonly long long count
    cdef object _host
    cdef Inbox _inbox
    cdef Closing _closing
    cdef object _timeouts
    cdef Py_ssize_t _compression_threshold
    cdef object _last_pong
    cdef bint _to_flush
    cdef list _all_to_flush

    cpdef bint try_send(self, object message) except -1
    @cython.locals(payload=bytes, opcode=int, outbox=Outbox, size=Py_ssize_t)
    cpdef object push(self, object message, bint if_fits)
    cdef bytes _compressed(self, int opcode, bytes payload, bint if_fits)
    cpdef bint offer(self, object frame) except -1
    cpdef object push_fragment(self, int opcode, bytes payload, bint final)
    cpdef object flush_soon(self)
    cpdef bint flush(self) except -1
    cpdef object write_now(self)
    @cython.locals(outcome=Py_ssize_t)
    cpdef bint write(self) except -1
    cpdef object write_close(self)
    cpdef object writable(self)
    cpdef object watch(self)
