cdef int _WRITABLE

cdef class Poller:
    cdef readonly object epoll
    cdef readonly dict transports
    cdef bytearray _buffer

    cpdef Py_ssize_t feed_ready(self, double now) except -1
