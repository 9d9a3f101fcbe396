cdef int _OPEN
cdef int _CLOSE_RECEIVED

cdef class Closing:
    cdef readonly int state
    cdef readonly object reason
    cdef readonly str closed_by
    cdef readonly bint closed_here
    cdef public bint peer_closed
    cdef readonly bint ended
    cdef public bint broken
    cdef public double since
    cdef readonly double gone_at
    cdef list _scopes
    cdef list _waiting

    cpdef bint can_send(self) except -1
    cpdef bint is_over_for_producers(self) except -1
    cpdef object turn(self, object turn)
    cpdef object blame(self, str side)
    cpdef object peer_is_gone(self, double now, object reason)
    cpdef object close_here(self)
    cdef object _cancel_scopes(self)
    cpdef object end(self)

cdef class CancelWhenGone:
    cdef Closing _closing
    cdef object _scope
