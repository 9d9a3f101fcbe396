from trio_ws_app.wire.link cimport Link

cdef int _WRITABLE

cdef class Poller:
    cdef readonly object epoll
    cdef readonly dict transports
    cdef bytearray _buffer
    cdef object _spin

    cpdef Py_ssize_t feed_turn(self, object host, double now, bint everything) except -1
    cdef Py_ssize_t _feed_ready(self, double now) except -1
    cdef object _feed(self, int fd, int events, double now)
