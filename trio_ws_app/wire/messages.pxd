cimport cython

from trio_ws_app.primitives cimport encode_frame
from trio_ws_app.wire.outbox cimport Outbox

cdef int _TEXT
cdef int _BINARY
cdef Py_ssize_t _LARGE

cdef class MessageWriter:
    cdef Outbox _outbox
    cdef object _deflate
    cdef Py_ssize_t _threshold

    @cython.locals(outbox=Outbox, payload=bytes, opcode=int)
    cpdef object push(self, object message, bint if_fits)
    cdef object _push_compressed(self, int opcode, bytes payload, bint if_fits)
