cimport cython

from trio_ws_app.wire.outbox cimport Outbox

cdef class SharedFrames:
    cdef Outbox _outbox
    cdef Py_ssize_t _shifts
    cdef Py_ssize_t _no_frame_before
    cdef _Places _queued
    cdef _Places _held

    cdef object _look_again(self)
    @cython.locals(outbox=Outbox, chunks=list, place=Py_ssize_t, gone=Py_ssize_t)
    cpdef Py_ssize_t drop_oldest(self, Py_ssize_t needed) except -1
    @cython.locals(outbox=Outbox, place=Py_ssize_t)
    cpdef bint replace_latest(self, object frame) except -1

cdef class _Places:
    cdef dict _by_key
    cdef Py_ssize_t _looked_up_to

    cdef object forget_from(self, Py_ssize_t place)
    @cython.locals(place=Py_ssize_t, found=Py_ssize_t)
    cdef Py_ssize_t find(self, list chunks, Py_ssize_t free, object key) except -2
