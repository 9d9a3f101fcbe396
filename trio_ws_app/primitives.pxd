cdef extern from "Python.h":
    # One character of a str takes this many bytes: 1, 2 or 4.
    int PyUnicode_KIND(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

cpdef Py_ssize_t receive(int fd, bytearray buffer, Py_ssize_t size) except -3
cpdef Py_ssize_t send(int fd, object data) except -3
cpdef object reset(int fd)
cpdef object shutdown(int fd, int how)
cpdef object exit_after(double seconds, bytearray end, int number)
cpdef bytes encode_frame(int opcode, bytes payload, bint fin=*, bint rsv1=*)
cpdef bytes unmask(bytearray data, Py_ssize_t start, Py_ssize_t size)
cpdef str unmask_text(bytearray data, Py_ssize_t start, Py_ssize_t size)
cpdef object empty(list items)
cpdef Py_ssize_t held_bytes(object message) except -1

cdef class ArrivingPayload:
    cdef readonly Py_ssize_t length
    cdef readonly Py_ssize_t missing
    cdef bytes _payload
    cdef unsigned int _mask

    cpdef Py_ssize_t fill(self, bytearray data, Py_ssize_t start, Py_ssize_t end) except -1
    cpdef bytes take(self)
