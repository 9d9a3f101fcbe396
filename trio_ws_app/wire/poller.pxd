from trio_ws_app.wire.link cimport Link

cdef int _WRITABLE
cdef double _LONGEST
cdef double _SOON
cdef int _IN_A_ROW
cdef int _REST

cdef double _seconds() noexcept nogil

cdef class Poller:
    cdef readonly object epoll
    cdef readonly dict transports
    cdef bytearray _buffer
    cdef int _fd
    cdef double _waiting_since
    cdef int _last
    cdef int _in_a_row

    cpdef Py_ssize_t feed_turn(self, object engine, double now) except -1
    cdef Py_ssize_t _feed_ready(self, double now) except -1
    cdef object _note(self, Py_ssize_t count, int first)
    cpdef bint stay_awake(self, double timeout) except -1
    cdef object _feed(self, int fd, int events, double now)
