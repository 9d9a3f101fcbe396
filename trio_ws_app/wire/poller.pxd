cdef int _WRITABLE

cdef class Poller:
    cdef readonly object epoll
    cdef readonly dict transports
    cdef bytearray _buffer

    cpdef Py_ssize_t feed_turn(self, object engine) except -1
    cdef Py_ssize_t _feed_ready(self, double now) except -1
