cimport cython

from trio_ws_app.primitives cimport unmask
from trio_ws_app.protocol.frame_rules cimport FrameRules

cdef int _CLOSE

cdef class ReadAhead:
    cdef readonly bytearray kept
    cdef readonly bytearray begun
    cdef readonly bint closed
    cdef FrameRules _rules
    cdef Py_ssize_t _to_skip
    cdef bint _broken

    cpdef object feed(self, bytearray data, Py_ssize_t at, Py_ssize_t size, list controls)
    @cython.locals(
        run=Py_ssize_t, skipped=Py_ssize_t, start=Py_ssize_t, length=Py_ssize_t, first=int, second=int
    )
    cdef Py_ssize_t _walk(self, bytearray data, Py_ssize_t at, Py_ssize_t size, list controls) except -1
