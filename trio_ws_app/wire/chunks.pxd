cimport cython

from trio_ws_app.primitives cimport empty

cdef Py_ssize_t _WORTH_SWEEPING

cdef class Chunks:
    cdef readonly list chunks
    cdef readonly Py_ssize_t shifts
    cdef Py_ssize_t _bytes
    cdef Py_ssize_t _first
    cdef Py_ssize_t _gone_between
    cdef Py_ssize_t _head_sent
    cdef bint _in_frame
    cdef Py_ssize_t _committed

    cpdef bint is_empty(self) except -1
    @cython.locals(chunks=list, place=Py_ssize_t)
    cpdef object push_urgent(self, object frame, object superseded=*)
    @cython.locals(chunks=list, place=Py_ssize_t, reach=Py_ssize_t)
    cpdef Py_ssize_t first_free(self) except -1
    @cython.locals(chunks=list)
    cdef list _next_chunks(self, Py_ssize_t count)
    @cython.locals(chunks=list)
    cdef object _joined(self, Py_ssize_t limit)
    @cython.locals(total=Py_ssize_t, place=Py_ssize_t)
    cdef list _up_to(self, Py_ssize_t limit)
    @cython.locals(chunks=list, place=Py_ssize_t)
    cdef object _written(self, Py_ssize_t count)
    cpdef object sweep(self)
    cdef object _forget_chunks(self)
    @cython.locals(chunks=list)
    cpdef object take_out(self, Py_ssize_t place)
