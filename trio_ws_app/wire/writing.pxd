from trio_ws_app.wire.transport cimport Transport

cdef Py_ssize_t _WRITE_LIMIT
cdef Py_ssize_t _JOIN_LIMIT
cdef Py_ssize_t _TLS_RECORD
cdef Py_ssize_t _BLOCKED
cdef Py_ssize_t _LOST
cdef int _OPEN
cdef int _GONE

cdef class Unwritten:
    cdef readonly Writing first
    cdef Writing _last

    cdef object add(self, Writing link)
    cdef Writing take(self)

cdef class Writing:
    cdef readonly object engine
    cdef readonly object settings
    cdef double _blocked_since
    # From here on to ``Outgoing.messages_out``, what a broadcast touches: it shares few cache lines.
    cdef list _room
    cdef readonly Transport transport
    cdef Py_ssize_t _head_sent
    cdef Py_ssize_t _committed
    cdef readonly long long bytes_out
    cdef bint _in_frame
    cdef bint _paused
    cdef readonly bint ended
    cdef readonly bint blocked
    cdef bint _broken
    cdef bint _dirty
    cdef readonly int state
    cdef Unwritten _all_dirty
    cdef Writing _next_dirty
    cdef list _chunks
    cdef readonly Py_ssize_t queued

    cdef object _end(self)
    cdef object _lose_writing(self)
    cdef object _drained(self)
    cdef object _check_at(self, double when)

    cdef Py_ssize_t _first_free(self) except -1
    cdef object _mark_dirty(self)
    cdef bint _flush(self) except -1
    cdef bint _write(self) except -1
    cdef object _joined(self)
    cdef object _written(self, Py_ssize_t count)
    cdef object _discard_queue(self)
    cdef object _block(self)
    cdef object _watch(self)
    cdef object _wake_room(self)
