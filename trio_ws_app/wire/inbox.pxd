cimport cython

cdef Py_ssize_t _WORTH_SWEEPING

cdef class Inbox:
    cdef readonly list messages
    cdef readonly Py_ssize_t limit
    cdef Py_ssize_t _cost
    cdef Py_ssize_t _taken
    cdef object _waiting

    cpdef Py_ssize_t room(self) except? -1
    cpdef Py_ssize_t count(self) except -1
    cpdef object added(self, Py_ssize_t cost)
    @cython.locals(messages=list)
    cpdef object pop(self)
    cpdef object clear(self)
    cpdef object wait(self, object task)
    cpdef bint wake(self) except -1
