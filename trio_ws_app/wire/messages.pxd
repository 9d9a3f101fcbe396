cimport cython

from trio_ws_app.primitives cimport encode_frame
from trio_ws_app.wire.outbox cimport Outbox

cdef int _TEXT
cdef int _BINARY
cdef Py_ssize_t _LARGE

@cython.locals(payload=bytes, opcode=int)
cpdef object push_message(Outbox outbox, object message, object deflate, Py_ssize_t threshold, bint if_fits)
cdef object _push_compressed(Outbox outbox, int opcode, bytes payload, object deflate, bint if_fits)
