cimport cython

from trio_ws_app.primitives cimport empty
from trio_ws_app.wire.transport cimport Transport

cdef Py_ssize_t _JOIN_LIMIT
cdef Py_ssize_t _VECTORS
cdef Py_ssize_t _TLS_RECORD
cdef Py_ssize_t _WORTH_SWEEPING
cdef Py_ssize_t _WRITE_LIMIT
cdef Py_ssize_t _CHUNK_OVERHEAD
cdef Py_ssize_t _WRITTEN
cdef Py_ssize_t BLOCKED
cdef Py_ssize_t LOST

cdef class Outbox:
    cdef readonly Transport transport
    cdef readonly Py_ssize_t limit
    cdef public bint blocked
    cdef readonly bint woke
    cdef bint _in_frame
    cdef readonly long long bytes_out
    cdef Py_ssize_t _bytes
    cdef Py_ssize_t _first
    cdef Py_ssize_t _gone_between
    cdef Py_ssize_t _head_sent
    cdef Py_ssize_t _committed
    cdef readonly Py_ssize_t shifts
    cdef readonly list chunks
    cdef readonly list held
    cdef public bint shared
    cdef readonly bint sealed
    cdef object _waiting

    @cython.locals(count=Py_ssize_t)
    cpdef Py_ssize_t queued_cost(self) except -1
    cpdef bint is_empty(self) except -1
    cpdef bint has_room(self) except -1
    cpdef bint has_room_for_fragment(self) except -1
    cpdef bint fits(self, Py_ssize_t size) except -1
    cpdef object push(self, object chunk)
    cpdef object push_streamed(self, bytes frame)
    @cython.locals(chunks=list, place=Py_ssize_t)
    cpdef object push_urgent(self, object frame, object superseded=*)
    @cython.locals(chunks=list, place=Py_ssize_t, reach=Py_ssize_t)
    cpdef Py_ssize_t first_free(self) except -1
    cpdef object seal(self)
    cpdef object end_stream(self)
    cpdef object drop_held(self)
    @cython.locals(outcome=Py_ssize_t)
    cpdef Py_ssize_t write(self) except -3
    @cython.locals(count=Py_ssize_t, size=Py_ssize_t, sent=Py_ssize_t)
    cdef Py_ssize_t _write_some(self) except -3
    @cython.locals(chunks=list)
    cdef list _next_chunks(self, Py_ssize_t count)
    @cython.locals(chunks=list)
    cdef object _joined(self)
    @cython.locals(total=Py_ssize_t, place=Py_ssize_t)
    cdef list _up_to(self, Py_ssize_t limit)
    @cython.locals(chunks=list, place=Py_ssize_t)
    cdef object _written(self, Py_ssize_t count)
    cpdef object sweep(self)
    cdef object _forget_chunks(self)
    cpdef object discard(self)
    @cython.locals(chunks=list)
    cpdef object take_out(self, Py_ssize_t place)
    @cython.locals(old=Py_ssize_t, new=Py_ssize_t)
    cpdef bint replace(self, list chunks, Py_ssize_t place, object chunk) except -1
    cpdef object wake_waiting(self)
