from trio_ws_app.wire.outgoing cimport Outgoing

cdef int _OPEN
cdef int _GONE

cdef class Ending(Outgoing):
    cdef readonly str closed_by
    cdef readonly double gone_at
    cdef bint _is_gone
    cdef bint _heard_close
    cdef double _closing_since
    cdef list _gone_scopes
    cdef list _end_waiters

    cdef object _wake_receiver(self)
    cdef object _forget_inbox(self)
    cdef object _forget_pings(self)
    cdef object _stop_timer(self)

    cdef object _queue_close(self, bytes payload)
    cdef object _limit_closing(self)
    cdef object _take_close(self, object close)
    cdef object _turn_gone(self, object turn, object reason)
    cdef object _tell_gone(self)
    cdef object _fail(self, object error)
    cdef object _lose(self, str why)
    cdef object _end(self)
    cdef object _drop_transport(self, bint abort)
    cdef object _wake_ended(self)
