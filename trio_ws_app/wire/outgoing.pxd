from trio_ws_app.wire.transport cimport Transport

cdef Py_ssize_t _WRITE_LIMIT
cdef Py_ssize_t _JOIN_LIMIT
cdef Py_ssize_t _LARGE
cdef Py_ssize_t _BLOCKED
cdef Py_ssize_t _LOST
cdef int _OPEN
cdef int _GONE

cdef class Outgoing:
    # In the order in which a broadcast touches them: what is read together shares a cache line.
    cdef readonly int state
    cdef readonly bint blocked
    cdef bint _dirty
    cdef bint _broken
    cdef readonly object deflate
    cdef readonly Py_ssize_t queued
    cdef Py_ssize_t _queue_limit
    cdef list _held
    cdef list _chunks
    cdef object _payload
    cdef list _all_dirty
    cdef readonly Transport transport
    cdef Py_ssize_t _head_sent
    cdef readonly long long messages_out
    cdef readonly long long bytes_out
    cdef list _room
    cdef bint _in_frame
    cdef bint _in_sink
    cdef bint _paused
    cdef readonly bint closed_here
    cdef readonly bint ended
    cdef readonly list inbox
    cdef readonly object engine
    cdef readonly object settings
    cdef object _close_reason
    cdef public long long dropped
    cdef double _blocked_since

    cdef object _end(self)
    cdef object _lose_writing(self)
    cdef object _drained(self)
    cdef object _check_at(self, double when)

    cdef object _encode(self, object message)
    cdef object _check_sendable(self)
    cpdef bint try_send(self, object message) except -1
    cpdef object send_nowait(self, object message)
    cdef object _push(self, object frame)
    cpdef bint offer(self, object frame) except -1
    cdef bint _offer(self, object frame) except -1
    cdef bint _flush(self) except -1
    cdef object _push_control(self, bytes frame, object old=*)
    cdef Py_ssize_t _first_free(self) except -1
    cdef object _mark_dirty(self)
    cdef bint _write(self) except -1
    cdef object _joined(self)
    cdef object _written(self, Py_ssize_t count)
    cdef object _discard_queue(self)
    cdef object _block(self)
    cdef object _watch(self)
    cdef object _wake_room(self)
