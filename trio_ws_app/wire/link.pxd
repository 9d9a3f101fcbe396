from trio_ws_app.wire.liveness cimport Liveness

cdef Py_ssize_t _WRITE_LIMIT
cdef Py_ssize_t _BLOCKED
cdef Py_ssize_t _LOST
cdef int _GONE

cdef class Link(Liveness):
    cdef readonly long long messages_in
    cdef readonly long long bytes_in
    cdef Py_ssize_t _taken
    cdef Py_ssize_t _inbox_bytes
    cdef Py_ssize_t _inbox_limit
    cdef object _decoder
    cdef object _receiver
    cdef object _sink
    cdef object _sink_error
    cdef object _sink_scope
    cdef object _sink_context

    cpdef object readable(self, bytearray buffer, double now)
    cpdef object feed(self, bytearray buffer, Py_ssize_t size)
    cdef object _act_on_controls(self)
    cdef object _lose_writing(self)
    cdef object _deliver(self)
    cdef object _pop(self)
    cdef object _clear_inbox(self)
    cdef object _forget_inbox(self)
    cdef object _inbox_emptied(self)
    cpdef bint wait_inbox(self, object task) except -1
    cdef object _wake_receiver(self)
    cdef object _run_sink(self)
    cdef object _drained(self)
