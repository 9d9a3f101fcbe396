cimport cython

from trio_ws_app.primitives cimport ArrivingPayload, held_bytes, unmask, unmask_text
from trio_ws_app.protocol.frame_rules cimport FrameRules
from trio_ws_app.protocol.read_ahead cimport ReadAhead

cdef Py_ssize_t _OVERHEAD
cdef Py_ssize_t _LARGE
cdef Py_ssize_t _TOO_LARGE
cdef int _TEXT
cdef int _WHOLE_TEXT
cdef int _WHOLE_BINARY
cdef int _CLOSE

cpdef Py_ssize_t message_cost(object message) except -1

cdef class Decoder:
    cdef readonly list controls
    cdef readonly bint closed
    cdef FrameRules _rules
    cdef object _inflate
    cdef bytearray _partial
    cdef Py_ssize_t _needed
    cdef ArrivingPayload _arriving
    cdef int _arriving_first
    cdef bytearray _fragments
    cdef Py_ssize_t _checked
    cdef ReadAhead _ahead
    cdef Py_ssize_t _at

    cpdef bint is_idle(self) except -1
    cpdef object discard(self)
    @cython.locals(cost=Py_ssize_t)
    cpdef Py_ssize_t feed(self, bytearray data, Py_ssize_t size, list messages, Py_ssize_t room) except -1
    @cython.locals(ahead=ReadAhead, kept=bytearray, cost=Py_ssize_t)
    cpdef Py_ssize_t resume(self, list messages, Py_ssize_t room) except -1
    @cython.locals(rules=FrameRules, to_skip=Py_ssize_t)
    cdef object _read_ahead(self, bytearray data, Py_ssize_t at, Py_ssize_t size)
    @cython.locals(cost=Py_ssize_t)
    cdef Py_ssize_t _decode(self, bytearray data, Py_ssize_t size, list messages, Py_ssize_t room) except -1
    @cython.locals(
        rules=FrameRules, cost=Py_ssize_t, needed=Py_ssize_t, first=int, second=int, start=Py_ssize_t,
        length=Py_ssize_t, plain=bint, text=str
    )
    cdef Py_ssize_t _decode_frames(
        self, bytearray data, Py_ssize_t at, Py_ssize_t size, list messages, Py_ssize_t room
    ) except -1
    @cython.locals(rules=FrameRules, final=bint, text=bint, compressed=bint)
    cdef Py_ssize_t _take(self, int first, bytes payload, list messages) except -1
    cdef object _add_fragment(self, bytes payload, bint check, bint final)
