cdef extern from "sys/socket.h" nogil:
    ctypedef unsigned int socklen_t
    cdef struct sockaddr:
        pass
    ssize_t recv(int descriptor, void *buffer, size_t size, int flags)
    ssize_t send(int descriptor, const void *data, size_t size, int flags)
    int accept4(int descriptor, sockaddr *address, socklen_t *size, int flags)
    int setsockopt(int descriptor, int level, int name, const void *value, socklen_t size)
    int MSG_NOSIGNAL
    int SOL_SOCKET
    int SO_LINGER
    int SOCK_NONBLOCK
    int SOCK_CLOEXEC

cdef extern from "netinet/in.h" nogil:
    cdef struct in_addr:
        unsigned int s_addr
    cdef struct sockaddr_in:
        in_addr sin_addr
        unsigned short sin_port
    unsigned short ntohs(unsigned short number)

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        int fd
    cdef struct epoll_event:
        unsigned int events
        epoll_data_t data
    int epoll_wait(int descriptor, epoll_event *events, int size, int milliseconds)
