/* Every connection has one request on its way; each answer is followed by the next request. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loadgen.h"

enum { EVENTS = 256, ROOM = 16 * 1024, LATE_SECONDS = 10 };

struct client {
    int fd;
    uint64_t sent;        /* when its request was */
    size_t size;          /* of what has come of its answer */
    char received[ROOM];
};

struct load {
    const struct options *options;
    struct client *clients;
    char request[512];
    size_t request_size;
    int epoll;
    int asked;            /* requests without an answer */
    uint64_t answers, total, bytes;
    bool measuring, stopping;
    struct histogram latency;
};

static void ask(struct load *load, struct client *client)
{
    client->sent = now_ns();
    client->size = 0;
    load->asked++;
    if (send(client->fd, load->request, load->request_size, 0) != (ssize_t)load->request_size)
        die("cannot send a request");
}

/* The size of the whole answer, or 0 while that is not known. */
static size_t answer_size(const struct client *client)
{
    const char *end = strstr(client->received, "\r\n\r\n");
    if (end == NULL)
        return 0;
    if (strncmp(client->received, "HTTP/1.1 200 ", 13) != 0)
        die("the server answers: %.*s", (int)strcspn(client->received, "\r\n"), client->received);
    const char *length = strcasestr(client->received, "\r\ncontent-length:");
    if (length == NULL || length > end)
        die("an answer has no Content-Length");
    return (size_t)(end + 4 - client->received) + strtoull(length + 17, NULL, 10);
}

static void on_answer(struct load *load, struct client *client)
{
    load->asked--;
    load->total++;
    load->bytes = client->size;
    if (load->measuring) {
        load->answers++;
        record(&load->latency, now_ns() - client->sent, 1);
    }
    if (!load->stopping)
        ask(load, client);
}

static void on_readable(struct load *load, struct client *client)
{
    ssize_t received = recv(client->fd, client->received + client->size, ROOM - 1 - client->size, MSG_DONTWAIT);
    if (received == 0)
        die("the server ended a connection");
    if (received < 0)
        return;
    client->size += (size_t)received;
    client->received[client->size] = '\0';
    size_t whole = answer_size(client);
    if (whole >= ROOM || (whole > 0 && client->size > whole))
        die("an answer is too long");
    if (whole > 0 && client->size == whole)
        on_answer(load, client);
}

static void run_until(struct load *load, uint64_t end)
{
    struct epoll_event events[EVENTS];
    uint64_t now;
    while ((now = now_ns()) < end && load->asked > 0) {
        int ready = epoll_wait(load->epoll, events, EVENTS, (int)((end - now) / 1000000u) + 1);
        for (int i = 0; i < ready; i++)
            on_readable(load, events[i].data.ptr);
    }
}

static void open_clients(struct load *load)
{
    int count = load->options->connections;
    load->clients = calloc((size_t)count, sizeof *load->clients);
    for (int i = 0; i < count; i++) {
        load->clients[i].fd = open_socket(load->options, (uint64_t)i, true);
        watch(load->epoll, load->clients[i].fd, EPOLLIN, &load->clients[i], false);
    }
}

void run_http(const struct options *options)
{
    static struct load load;
    load.options = options;
    load.epoll = epoll_create1(0);
    load.request_size = (size_t)snprintf(load.request, sizeof load.request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: loadgen\r\nAccept: */*\r\n\r\n",
        options->path, options->port);
    open_clients(&load);
    tell_connected();

    for (int i = 0; i < options->connections; i++)
        ask(&load, &load.clients[i]);
    run_until(&load, now_ns() + (uint64_t)(options->warmup * 1e9));
    load.measuring = true;
    struct stopwatch watch = stopwatch_start();
    run_until(&load, watch.wall + (uint64_t)(options->seconds * 1e9));
    double seconds = stopwatch_seconds(&watch), share = stopwatch_share(&watch);
    load.measuring = false;
    load.stopping = true;
    run_until(&load, now_ns() + LATE_SECONDS * 1000000000ull);
    if (load.asked > 0)
        die("%d answers did not come within %d s", load.asked, LATE_SECONDS);
    printf("{\"answers\": %llu, \"seconds\": %.6f, \"rate\": %.1f, \"p50_us\": %.2f, \"p99_us\": %.2f, "
           "\"total\": %llu, \"answer_bytes\": %llu, \"load_share\": %.4f}\n",
           (unsigned long long)load.answers, seconds, (double)load.answers / seconds,
           percentile_us(&load.latency, 50), percentile_us(&load.latency, 99), (unsigned long long)load.total,
           (unsigned long long)load.bytes, share);
    wait_for_end();
}
