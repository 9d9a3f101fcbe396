cimport cython

from trio_ws_app.primitives cimport empty
from trio_ws_app.protocol.decoder cimport Decoder

cdef Py_ssize_t _WORTH_SWEEPING

cdef class Inbox:
    cdef readonly list messages
    cdef readonly Py_ssize_t limit
    cdef readonly Decoder decoder
    cdef readonly bint paused
    cdef Py_ssize_t _cost
    cdef Py_ssize_t _taken
    cdef object _waiting

    cpdef object feed(self, bytearray data, Py_ssize_t size)
    cpdef object refill(self)
    cpdef bint pause_if_full(self) except -1
    cpdef Py_ssize_t count(self) except -1
    @cython.locals(messages=list)
    cpdef object pop(self)
    cpdef object clear(self)
    cpdef object wait(self, object task)
    cpdef bint wake(self) except -1
