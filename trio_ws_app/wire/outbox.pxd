cimport cython

from trio_ws_app.wire.chunks cimport Chunks
from trio_ws_app.wire.transport cimport Transport

cdef Py_ssize_t _JOIN_LIMIT
cdef Py_ssize_t _VECTORS
cdef Py_ssize_t _TLS_RECORD
cdef Py_ssize_t _WRITE_LIMIT
cdef Py_ssize_t _CHUNK_OVERHEAD
cdef Py_ssize_t _WRITTEN
cdef Py_ssize_t BLOCKED
cdef Py_ssize_t LOST

cdef class Outbox(Chunks):
    cdef readonly Transport transport
    cdef readonly Py_ssize_t limit
    cdef public bint blocked
    cdef readonly bint woke
    cdef readonly long long bytes_out
    cdef readonly list held
    cdef public bint shared
    cdef readonly bint sealed
    cdef object _waiting

    @cython.locals(count=Py_ssize_t)
    cpdef Py_ssize_t queued_cost(self) except -1
    cpdef bint has_room(self) except -1
    cpdef bint has_room_for_fragment(self) except -1
    cpdef bint fits(self, Py_ssize_t size) except -1
    cpdef object push(self, object chunk)
    cpdef object push_streamed(self, bytes frame)
    cpdef object seal(self)
    cpdef object end_stream(self)
    cpdef object drop_held(self)
    @cython.locals(outcome=Py_ssize_t)
    cpdef Py_ssize_t write(self) except -3
    @cython.locals(count=Py_ssize_t, size=Py_ssize_t, sent=Py_ssize_t)
    cdef Py_ssize_t _write_some(self) except -3
    cpdef object discard(self)
    @cython.locals(old=Py_ssize_t, new=Py_ssize_t)
    cpdef bint replace(self, list chunks, Py_ssize_t place, object chunk) except -1
    cpdef object wake_waiting(self)
