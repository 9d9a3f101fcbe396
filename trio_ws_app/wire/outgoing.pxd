from trio_ws_app.wire.writing cimport Writing

cdef Py_ssize_t _WRITE_LIMIT
cdef Py_ssize_t _LARGE
cdef int _OPEN

cdef class Outgoing(Writing):
    cdef readonly object deflate
    cdef Py_ssize_t _queue_limit
    cdef list _held
    cdef object _payload
    cdef readonly long long messages_out
    cdef bint _in_sink
    cdef readonly bint closed_here
    cdef readonly list inbox
    cdef object _close_reason
    cdef public long long dropped

    cdef object _encode(self, object message)
    cdef object _check_sendable(self)
    cpdef bint try_send(self, object message) except -1
    cpdef object send_nowait(self, object message)
    cdef object _push(self, object frame)
    cpdef bint offer(self, object frame) except -1
    cdef bint _offer(self, object frame) except -1
    cdef object _push_control(self, bytes frame, object old=*)
