from trio_ws_app.primitives cimport receive, reset, send, shutdown

cdef Py_ssize_t BLOCKED
cdef Py_ssize_t LOST

cdef class Transport:
    cdef public object endpoint
    cdef public bint vectored
    cdef public bint wakes_tasks
    cdef public bint repeats_writes

    cpdef Py_ssize_t recv_into(self, bytearray buffer, Py_ssize_t size) except -3
    cpdef Py_ssize_t send(self, object data) except -3
    cpdef Py_ssize_t pending(self) except -1
    cpdef Py_ssize_t send_vectored(self, object parts) except -3

cdef class SocketTransport(Transport):
    cdef object _epoll
    cdef dict _transports
    cdef object _tls
    cdef int _fd
    cdef int _watched

    cdef object _set_watched(self, int wanted)
    cdef object _unwatch(self)
