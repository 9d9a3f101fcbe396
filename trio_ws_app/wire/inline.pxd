from trio_ws_app.wire.inbox cimport Inbox
from trio_ws_app.wire.outbox cimport Outbox

cdef class InlineConsumer:
    cdef readonly bint running
    cdef readonly object error
    cdef object _consumer
    cdef object _consume_in_context
    cdef Inbox _inbox
    cdef Outbox _outbox

    cpdef object stop(self)
    cpdef bint run(self) except -1
    cpdef object consume(self)
