/* Connect, upgrade, say goodbye, wait until the server has closed, again: `connections` of them at a time. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loadgen.h"

enum { EVENTS = 256, ROOM = 4096, LATE_SECONDS = 10 };
enum stage { CONNECTING, UPGRADING, CLOSING };

struct visitor {
    struct link link;
    enum stage stage;
    uint64_t began;
    size_t size;          /* bytes received in this stage */
    char received[ROOM];
};

struct load {
    const struct options *options;
    int epoll, visiting;
    uint64_t visits, measured, unanswered; /* the server closed without a Close frame */
    bool measuring, stopping;
    uint8_t goodbye[16];
    size_t goodbye_size;
    struct histogram latency; /* from connect to the server's 101 */
};

static void begin(struct load *load, struct visitor *visitor)
{
    visitor->began = now_ns();
    visitor->stage = CONNECTING;
    visitor->size = 0;
    visitor->link.fd = open_socket(load->options, load->visits++, false);
    watch(load->epoll, visitor->link.fd, EPOLLOUT, visitor, false);
}

static void send_all(const struct visitor *visitor, const void *bytes, size_t size)
{
    if (link_write(&visitor->link, bytes, size) != (long)size)
        die("cannot send a handshake");
}

static void on_connected(struct load *load, struct visitor *visitor)
{
    const char *request = upgrade_request(load->options);
    send_all(visitor, request, strlen(request));
    visitor->stage = UPGRADING;
    watch(load->epoll, visitor->link.fd, EPOLLIN, visitor, true);
}

static void on_response(struct load *load, struct visitor *visitor)
{
    visitor->received[visitor->size] = '\0';
    if (strstr(visitor->received, "\r\n\r\n") == NULL)
        return;
    check_upgrade(load->options, visitor->received);
    if (load->measuring)
        record(&load->latency, now_ns() - visitor->began, 1);
    send_all(visitor, load->goodbye, load->goodbye_size);
    visitor->stage = CLOSING;
    visitor->size = 0;
}

static void on_end(struct load *load, struct visitor *visitor)
{
    if (visitor->stage != CLOSING)
        die("the server ended a connection in the handshake");
    if (visitor->size < 4 || (uint8_t)visitor->received[0] != 0x88)
        load->unanswered++;
    close(visitor->link.fd);
    load->measured += load->measuring;
    if (load->stopping)
        load->visiting--;
    else
        begin(load, visitor);
}

static void on_event(struct load *load, struct visitor *visitor)
{
    if (visitor->stage == CONNECTING) {
        on_connected(load, visitor);
        return;
    }
    if (visitor->size + 1 >= ROOM)
        die("the server says too much in a handshake");
    long received = recv(visitor->link.fd, visitor->received + visitor->size, ROOM - 1 - visitor->size, 0);
    if (received < 0 && errno == EAGAIN)
        return;
    if (received <= 0) {
        on_end(load, visitor);
        return;
    }
    visitor->size += (size_t)received;
    if (visitor->stage == UPGRADING)
        on_response(load, visitor);
}

static void run_until(struct load *load, uint64_t end)
{
    struct epoll_event events[EVENTS];
    uint64_t now;
    while ((now = now_ns()) < end && load->visiting > 0) {
        int ready = epoll_wait(load->epoll, events, EVENTS, (int)((end - now) / 1000000u) + 1);
        for (int i = 0; i < ready; i++)
            on_event(load, events[i].data.ptr);
    }
}

void run_handshake(const struct options *options)
{
    static struct load load;
    const uint8_t normal[] = {1000 >> 8, 1000 & 0xff};
    struct visitor *visitors = calloc((size_t)options->connections, sizeof *visitors);
    load.options = options;
    load.epoll = epoll_create1(0);
    load.goodbye_size = build_frame(load.goodbye, 8, false, normal, sizeof normal);
    load.visiting = options->connections;
    tell_connected();

    for (int i = 0; i < options->connections; i++)
        begin(&load, &visitors[i]);
    run_until(&load, now_ns() + (uint64_t)(options->warmup * 1e9));
    load.measuring = true;
    struct stopwatch watch = stopwatch_start();
    run_until(&load, watch.wall + (uint64_t)(options->seconds * 1e9));
    double seconds = stopwatch_seconds(&watch), share = stopwatch_share(&watch);
    load.measuring = false;
    load.stopping = true;
    run_until(&load, now_ns() + LATE_SECONDS * 1000000000ull);
    if (load.visiting > 0)
        die("%d connections did not end within %d s", load.visiting, LATE_SECONDS);
    printf("{\"handshakes\": %llu, \"seconds\": %.6f, \"rate\": %.1f, \"p50_us\": %.2f, \"p99_us\": %.2f, "
           "\"total\": %llu, \"unanswered\": %llu, \"load_share\": %.4f}\n",
           (unsigned long long)load.measured, seconds, (double)load.measured / seconds,
           percentile_us(&load.latency, 50), percentile_us(&load.latency, 99), (unsigned long long)load.visits,
           (unsigned long long)load.unanswered, share);
    wait_for_end();
}
