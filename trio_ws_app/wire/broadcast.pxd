cimport cython

from trio_ws_app.primitives cimport encode_frame
from trio_ws_app.wire.link cimport Link
from trio_ws_app.wire.sending cimport Sender

cdef int _TEXT
cdef int _BINARY
cdef object _LATEST

cdef class Receiver:
    cdef public object connection
    cdef public object overflow
    cdef Sender _sender

@cython.locals(place=Py_ssize_t, rest=list)
cpdef tuple queue_on_all(list connections, object message, object key=*, bint only_if_idle=*)
@cython.locals(place=Py_ssize_t, rest=list, receiver=Receiver)
cpdef tuple queue_on_receivers(list receivers, object message, object key=*)
@cython.locals(link=Link)
cdef Sender _sender_of(object connection)
cdef bint _takes_simply(Sender sender, object frame, bint only_if_idle) except -1
@cython.locals(sender=Sender, concerned=bint)
cpdef bint flush(list senders) except -1
