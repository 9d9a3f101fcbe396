#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loadgen.h"

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

/* The sample key of RFC 6455, section 1.3: what must come back is known without SHA-1. */
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

/* A source address offers some 28,000 ports, so they are used in turn: 127.0.0.2 to 127.0.0.9. */
enum { SOURCE_ADDRESSES = 8 };

void raise_descriptor_limit(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

void set_nonblocking(int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void choose_source(int fd, uint64_t index)
{
    int on = 1;
    struct sockaddr_in source = {.sin_family = AF_INET};
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (uint32_t)(index % SOURCE_ADDRESSES));
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&source, sizeof source) != 0)
        die("cannot bind to a source address: %s", strerror(errno));
}

/* Opens a TCP connection to the server; without `wait` it may still be on its way. */
int open_socket(const struct options *options, uint64_t index, bool wait)
{
    int on = 1, port = options->port2 && index % 2 ? options->port2 : options->port;
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | (wait ? 0 : SOCK_NONBLOCK), 0);
    if (fd < 0)
        die("cannot open connection %llu: %s", (unsigned long long)index + 1, strerror(errno));
    choose_source(fd, index);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (struct sockaddr *)&server, sizeof server) != 0 && errno != EINPROGRESS)
        die("cannot connect to the server: %s", strerror(errno));
    return fd;
}

const char *upgrade_request(const struct options *options)
{
    static char request[512];
    snprintf(request, sizeof request,
             "GET / HTTP/1.1\r\n"
             "Host: 127.0.0.1:%d\r\n"
             "Connection: Upgrade\r\n"
             "Upgrade: websocket\r\n"
             "Sec-WebSocket-Version: 13\r\n"
             "Sec-WebSocket-Key: " KEY "\r\n"
             "%s\r\n",
             options->port,
             options->deflate ? "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" : "");
    return request;
}

void check_upgrade(const struct options *options, const char *response)
{
    if (strncmp(response, "HTTP/1.1 101", 12) != 0)
        die("the server refused the upgrade: %.*s", (int)strcspn(response, "\r\n"), response);
    if (strstr(response, ACCEPT) == NULL)
        die("the server's Sec-WebSocket-Accept is wrong");
    if ((strcasestr(response, "permessage-deflate") != NULL) != options->deflate)
        die(options->deflate ? "the server does not compress" : "the server compresses although not asked to");
}

/* Reads byte by byte at the end only: whatever follows the response belongs to the frames. */
static void read_response(const struct link *link, char *response, size_t room)
{
    size_t size = 0;
    while (size < 4 || memcmp(response + size - 4, "\r\n\r\n", 4) != 0) {
        if (size + 1 >= room)
            die("the server's response is too long");
        long received = link_read(link, response + size, 1);
        if (received <= 0)
            die("the server ended the connection in the handshake");
        size += (size_t)received;
    }
    response[size] = '\0';
}

/* Opens a connection, TLS included, and upgrades it; from then on it is non-blocking. */
struct link open_link(const struct options *options, uint64_t index)
{
    char response[4096];
    struct timeval limit = {.tv_sec = 10};
    struct link link = {.fd = open_socket(options, index, true)};
    setsockopt(link.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (options->tls)
        link.tls = tls_connect(link.fd);
    const char *request = upgrade_request(options);
    if (link_write(&link, request, strlen(request)) != (long)strlen(request))
        die("cannot send the opening handshake");
    read_response(&link, response, sizeof response);
    check_upgrade(options, response);
    set_nonblocking(link.fd);
    return link;
}

static long outcome(long result, const char *verb)
{
    if (result < 0 && errno != EAGAIN && errno != EINTR)
        die("cannot %s: %s", verb, strerror(errno));
    return result;
}

long link_read(const struct link *link, void *buffer, size_t size)
{
    if (link->tls != NULL)
        return tls_read(link->tls, buffer, size);
    return outcome(recv(link->fd, buffer, size, 0), "receive");
}

long link_write(const struct link *link, const void *buffer, size_t size)
{
    if (link->tls != NULL)
        return tls_write(link->tls, buffer, size);
    return outcome(send(link->fd, buffer, size, 0), "send");
}

int watch(int epoll, int fd, uint32_t events, void *data, bool known)
{
    struct epoll_event event = {.events = events, .data.ptr = data};
    return epoll_ctl(epoll, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
}
