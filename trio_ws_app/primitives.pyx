# cython: language_level=3, boundscheck=False, wraparound=False
"""The few functions that a compiler makes fast; ``primitives.py`` has the same in plain Python.

Everything that differs between the compiled package and the other is in these two files.
"""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.string cimport memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, nanosleep, timespec
from posix.unistd cimport _exit
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.list cimport PyList_SetSlice
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.unicode cimport PyUnicode_DecodeUTF8

cdef extern from "sys/socket.h" nogil:
    ssize_t recv(int descriptor, void *buffer, size_t size, int flags)
    ssize_t c_send "send"(int descriptor, const void *data, size_t size, int flags)
    int MSG_NOSIGNAL
    int AF_UNSPEC
    cdef struct sockaddr:
        unsigned short sa_family
    int c_connect "connect"(int descriptor, const sockaddr *address, unsigned int size)
    int c_shutdown "shutdown"(int descriptor, int how)

cdef extern from "signal.h" nogil:
    int c_raise "raise"(int number)
    void (*SIG_DFL)(int)
    cdef struct c_sigaction "sigaction":
        void (*sa_handler)(int)
    int sigaction(int number, const c_sigaction *new, c_sigaction *old)

COMPILED = True
BLOCKED = -1
LOST = -2


# The interpreter's lock is kept over both calls: neither waits, and a loop that lets go of the lock before
# each of a thousand sends gets it back late a thousand times while another thread computes.


cpdef Py_ssize_t receive(int fd, bytearray buffer, Py_ssize_t size) except -3:
    """Receive up to ``size`` bytes of a non-blocking socket: how many, 0 at the end, BLOCKED or LOST."""
    cdef Py_ssize_t count = recv(fd, PyByteArray_AS_STRING(buffer), min(size, len(buffer)), 0)
    return count if count >= 0 else _failure()


cpdef Py_ssize_t send(int fd, object data) except -3:
    """Send some of ``data`` on a non-blocking socket: how many bytes it took, BLOCKED or LOST."""
    cdef Py_buffer view
    cdef Py_ssize_t count
    if isinstance(data, bytes):
        count = c_send(fd, PyBytes_AS_STRING(data), len(<bytes>data), MSG_NOSIGNAL)
    else:
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        count = c_send(fd, view.buf, view.len, MSG_NOSIGNAL)
        if count < 0:
            count = _failure()
        PyBuffer_Release(&view)
        return count
    return count if count >= 0 else _failure()


cpdef object exit_after(double seconds, bytearray end, int number):
    """End the process once it could run for ``seconds``, also while other code holds the interpreter's lock.

    ``end`` is read at the end: the exit status, and 1 if the lock is not held. If it is held, signal ``number``
    is raised, in this thread, for a handler that needs no lock either, as ``faulthandler`` has them, and the
    exit status is 1. The steps are those of ``running_time``. It does not return.
    """
    cdef timespec step, before, after
    cdef c_sigaction handler
    cdef unsigned char *told = <unsigned char *>PyByteArray_AS_STRING(end)
    step.tv_sec = 0
    step.tv_nsec = 50_000_000
    with nogil:
        while seconds > 0:
            clock_gettime(CLOCK_MONOTONIC, &before)
            nanosleep(&step, NULL)
            clock_gettime(CLOCK_MONOTONIC, &after)
            seconds -= min(0.2, after.tv_sec - before.tv_sec + (after.tv_nsec - before.tv_nsec) / 1e9)
        # An interpreter that has ended but for its last steps has taken the handler back.
        if not told[1] and sigaction(number, NULL, &handler) == 0 and handler.sa_handler != SIG_DFL:
            c_raise(number)
            _exit(1)
        _exit(told[0])


cpdef object reset(int fd):
    """Reset a TCP connection, also if other processes hold its descriptor; do nothing to other sockets."""
    cdef sockaddr nowhere
    nowhere.sa_family = AF_UNSPEC
    c_connect(fd, &nowhere, sizeof(sockaddr))
    return None


cpdef object shutdown(int fd, int how):
    """Shut down a connected socket, also for other processes that hold it; do nothing to others."""
    c_shutdown(fd, how)
    return None


cdef Py_ssize_t _failure() noexcept:
    """What the error of the last system call means."""
    return -1 if errno == EAGAIN or errno == EINTR else -2


cpdef bytes encode_frame(int opcode, bytes payload, bint fin=True, bint rsv1=False):
    """A whole unmasked frame (RFC 6455, section 5.2)."""
    cdef Py_ssize_t size = len(payload)
    cdef Py_ssize_t head = 2 if size < 126 else 4 if size < 0x10000 else 10
    cdef bytes out = PyBytes_FromStringAndSize(NULL, head + size)
    cdef unsigned char *target = <unsigned char *>PyBytes_AS_STRING(out)
    cdef int i
    target[0] = opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)
    if head == 2:
        target[1] = size
    elif head == 4:
        target[1] = 126
        target[2] = size >> 8
        target[3] = size & 0xFF
    else:
        target[1] = 127
        for i in range(8):
            target[2 + i] = (size >> (56 - 8 * i)) & 0xFF
    memcpy(target + head, PyBytes_AS_STRING(payload), size)
    return out


cpdef bytes unmask(bytearray data, Py_ssize_t start, Py_ssize_t size):
    """The ``size`` payload bytes at ``start``, unmasked with the four bytes before them (section 5.3)."""
    cdef bytes out = PyBytes_FromStringAndSize(NULL, size)
    cdef unsigned char *source = <unsigned char *>PyByteArray_AS_STRING(data) + start
    _xor(<unsigned char *>PyBytes_AS_STRING(out), source, size, _mask_at(source - 4))
    return out


cpdef str unmask_text(bytearray data, Py_ssize_t start, Py_ssize_t size):
    """As ``unmask``, decoded from UTF-8; the bytes in ``data`` may be unmasked in place."""
    cdef unsigned char *source = <unsigned char *>PyByteArray_AS_STRING(data) + start
    _xor(source, source, size, _mask_at(source - 4))
    return PyUnicode_DecodeUTF8(<char *>source, size, NULL)


cpdef Py_ssize_t held_bytes(object message) except -1:
    """How many bytes of memory the contents of a str or bytes take: 1, 2 or 4 for a character."""
    if isinstance(message, str):
        return PyUnicode_GET_LENGTH(message) * PyUnicode_KIND(message)
    return len(message)


cpdef object empty(list items):
    """Remove all items."""  # ``items.clear()`` is a call of a Python method, also when it is compiled
    PyList_SetSlice(items, 0, len(items), <object>NULL)
    return None


cdef class ArrivingPayload:
    """A large payload that is unmasked while it arrives, as long as its bytes are in the cache.

    ``data[start - 4 : start]`` is its mask.
    """

    def __init__(self, bytearray data, Py_ssize_t start, Py_ssize_t length):
        self.length = self.missing = length
        self._payload = PyBytes_FromStringAndSize(NULL, length)
        self._mask = _mask_at(<unsigned char *>PyByteArray_AS_STRING(data) + start - 4)

    cpdef Py_ssize_t fill(self, bytearray data, Py_ssize_t start, Py_ssize_t end) except -1:
        """Take bytes from ``data[start:end]`` until the payload is whole; how many those were."""
        cdef Py_ssize_t used = min(end - start, self.missing)
        cdef Py_ssize_t filled = self.length - self.missing
        cdef unsigned int mask = self._mask
        cdef int turn = 8 * (filled & 3)
        if turn:
            mask = (mask >> turn) | (mask << (32 - turn))
        _xor(
            <unsigned char *>PyBytes_AS_STRING(self._payload) + filled,
            <unsigned char *>PyByteArray_AS_STRING(data) + start,
            used,
            mask,
        )
        self.missing -= used
        return used

    cpdef bytes take(self):
        """The whole payload, once nothing of it is missing."""
        assert self.missing == 0
        return self._payload


cdef unsigned int _mask_at(const unsigned char *source) noexcept nogil:
    cdef unsigned int mask
    memcpy(&mask, source, 4)
    return mask


cdef void _xor(
    unsigned char *target, const unsigned char *source, Py_ssize_t size, unsigned int mask
) noexcept nogil:
    """``source`` unmasked into ``target``, which may be the same, eight bytes at a time."""
    cdef unsigned long long key = mask
    cdef unsigned long long word
    cdef Py_ssize_t i = 0
    key |= key << 32
    while i + 8 <= size:
        memcpy(&word, source + i, 8)
        word ^= key
        memcpy(target + i, &word, 8)
        i += 8
    while i < size:
        target[i] = source[i] ^ ((mask >> (8 * (i & 3))) & 0xFF)
        i += 1
