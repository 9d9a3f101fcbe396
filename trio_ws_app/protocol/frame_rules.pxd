cimport cython

cdef class FrameRules:
    cdef readonly Py_ssize_t max_message_size
    cdef readonly Py_ssize_t max_payload_size
    cdef readonly Py_ssize_t max_fragments
    cdef readonly bint compression
    cdef readonly int opcode
    cdef readonly bint compressed
    cdef readonly Py_ssize_t size
    cdef readonly Py_ssize_t fragments

    cpdef void reset(self) noexcept
    @cython.locals(copied=FrameRules)
    cpdef FrameRules copy(self)
    @cython.locals(length=Py_ssize_t, long_length=object)
    cpdef Py_ssize_t length(self, bytearray data, Py_ssize_t at) except -1
    @cython.locals(opcode=int, compressed=bint, limit=Py_ssize_t)
    cpdef object check(self, int first, int second, Py_ssize_t length)
    @cython.locals(opcode=int)
    cdef object _check_control(self, int first, int second)
    cpdef void advance(self, int first, Py_ssize_t length) noexcept
    cpdef object too_big(self)
