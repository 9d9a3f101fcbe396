cimport cython

from trio_ws_app.primitives cimport encode_frame
from trio_ws_app.wire.link cimport Link
from trio_ws_app.wire.outbox cimport Outbox
from trio_ws_app.wire.sending cimport Sender

cdef int _TEXT
cdef int _BINARY

@cython.locals(place=Py_ssize_t, rest=list)
cpdef tuple queue_on_all(list connections, object message, object key=*, bint only_if_idle=*)
@cython.locals(link=Link, sender=Sender, outbox=Outbox)
cdef bint _takes_simply(object connection, object frame, bint only_if_idle) except -1
@cython.locals(sender=Sender, concerned=bint)
cpdef bint flush(list senders) except -1
