from trio_ws_app.wire.outgoing cimport Outgoing
from trio_ws_app.wire.writing cimport Unwritten, Writing

cdef int _OPEN
cdef int _TEXT
cdef int _BINARY

cdef extern from *:
    """
    /* How much of a link the loops touch: from its header to the end of ``Outgoing``'s hot fields. */
    #define TRIO_WS_APP_LINK 256
    #define TRIO_WS_APP_SMALL 64

    static inline void trio_ws_app_fetch(void *start, size_t size) {
        for (size_t offset = 0; offset < size; offset += 64) {
            __builtin_prefetch((char *) start + offset, 1);
        }
    }
    """
    size_t LINK "TRIO_WS_APP_LINK"
    size_t SMALL "TRIO_WS_APP_SMALL"
    void fetch "trio_ws_app_fetch" (void *start, size_t size) noexcept nogil

cdef inline void before_offer(list everyone, Py_ssize_t place) noexcept:
    """Offering takes less time than memory: look some links ahead."""
    cdef Py_ssize_t size = len(everyone)
    if place + 8 < size:
        fetch(<void *> everyone[place + 8], LINK)
    if place + 4 < size and isinstance(everyone[place + 4], Outgoing):
        fetch(<void *> (<Outgoing> everyone[place + 4])._chunks, SMALL)

cdef inline void before_flush(Writing coming) noexcept:
    """Each link costs a system call: the next ones come to the caches meanwhile."""
    if coming is not None:
        fetch(<void *> coming._chunks, SMALL)
        fetch(<void *> coming.transport, 2 * SMALL)
        if coming._next_dirty is not None:
            fetch(<void *> coming._next_dirty, LINK)
