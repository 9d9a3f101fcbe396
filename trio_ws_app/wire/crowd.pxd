from trio_ws_app.wire.outgoing cimport Outgoing

cdef int _OPEN
