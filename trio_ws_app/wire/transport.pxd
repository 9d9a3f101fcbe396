cdef Py_ssize_t _BLOCKED
cdef Py_ssize_t _LOST

cdef class Transport:
    cdef public object endpoint
    cdef public bint gathers
    cdef public bint stirs
    cdef public bint commits

    cpdef Py_ssize_t recv_into(self, bytearray buffer) except -3
    cpdef Py_ssize_t send(self, object data) except -3
    cpdef Py_ssize_t send_gathered(self, object parts) except -3

cdef class SocketTransport(Transport):
    cdef readonly dict transports
    cdef object _epoll
    cdef object _sock
    cdef int _fd
    cdef int _plain_fd
    cdef int _flags
    cdef int _watched

    cdef object _socket(self)
    cdef object _reset_on_close(self)
