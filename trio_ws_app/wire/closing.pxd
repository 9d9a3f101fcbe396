from trio_ws_app.wire.inbox cimport Inbox
from trio_ws_app.wire.outbox cimport Outbox
from trio_ws_app.wire.transport cimport Transport

cdef int _CLOSE
cdef int _OPEN
cdef int _CLOSE_RECEIVED
cdef int _CLOSE_SENT
cdef int _GONE

cdef class Closing:
    cdef readonly int state
    cdef readonly object reason
    cdef readonly str closed_by
    cdef readonly bint closed_here
    cdef readonly bint peer_closed
    cdef readonly bint ended
    cdef readonly bint broken
    cdef readonly double gone_at
    cdef Transport _transport
    cdef Outbox _outbox
    cdef Inbox _inbox
    cdef object _pings
    cdef object _timeouts
    cdef object _now
    cdef list _scopes
    cdef object _waiting

    cdef object _turn(self, object turn, str side)
    cpdef object send_close(self, int code, str reason)
    cpdef object close_here(self)
    cpdef object receive_close(self, object close)
    cpdef object reply(self)
    cpdef object delay_reply(self)
    cpdef object fail(self, int code, str text)
    cdef object _queue(self, bytes payload)
    cpdef object written(self)
    cpdef object give_up(self)
    cpdef object peer_is_gone(self, object reason)
    cpdef object lose_writing(self)
    cpdef object lose(self, object reason)
    cpdef object abort(self, str why, bint reset)
    cdef object _lose_peer(self, str side, object reason)
    cdef object _drop(self, bint abort)
    cdef object _cancel_scopes(self)
    cdef object _end(self)

cdef class CancelWhenGone:
    cdef Closing _closing
    cdef object _scope
