from trio_ws_app.wire.ending cimport Ending

cdef int _OPEN

cdef class Liveness(Ending):
    cdef object _latency
    cdef readonly double last_seen
    cdef object _pong
    cdef dict _pings
    cdef long long _ping_number
    cdef double _keepalive_since
    cdef double _next_check
    cdef object _timer

    cdef object _answer_pings(self, object pongs)
    cdef object _take_pong(self, bytes payload)
    cdef object _forget_pings(self)
    cdef object _check_at(self, double when)
    cdef object _stop_timer(self)
    cdef object _check_alive(self, double now)
    cdef object _check_linger(self, double now)
