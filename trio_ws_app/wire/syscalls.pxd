cdef extern from "sys/socket.h" nogil:
    ssize_t recv(int descriptor, void *buffer, size_t size, int flags)
    ssize_t send(int descriptor, const void *data, size_t size, int flags)
    int MSG_NOSIGNAL
