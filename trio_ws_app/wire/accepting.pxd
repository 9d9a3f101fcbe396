cdef class Accepting:
    cdef object _sock
    cdef int _fd
    cdef bint _plain

    cdef object _accept_plain(self)
