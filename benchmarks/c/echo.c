/* Every connection keeps `inflight` messages on their way: each reply is answered with the next message. */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "loadgen.h"

enum { EVENTS = 256, BUFFER = 256 * 1024, DRAIN_SECONDS = 10 };

struct client {
    struct link link;
    struct outgoing outgoing;
    struct replies replies;
    uint64_t *sent;       /* ring: when each message on its way was sent */
    uint64_t asked;       /* messages given to send */
    bool blocked;         /* the socket takes no more */
};

struct load {
    const struct options *options;
    struct script script;
    struct client *clients;
    int epoll;
    bool measuring, stopping;
    uint64_t replies;     /* in the measured time */
    struct histogram latency;
};

static uint8_t buffer[BUFFER];

static void flush_client(struct load *load, struct client *client)
{
    bool blocked = !send_pending(&client->outgoing, &client->link, &load->script);
    if (blocked != client->blocked) {
        client->blocked = blocked;
        watch(load->epoll, client->link.fd, EPOLLIN | (blocked ? EPOLLOUT : 0), client, true);
    }
}

static void ask(struct load *load, struct client *client, int messages, uint64_t now)
{
    for (int i = 0; i < messages; i++)
        client->sent[client->asked++ % (uint64_t)load->options->inflight] = now;
    client->outgoing.pending += messages;
    flush_client(load, client);
}

static void count_replies(struct load *load, struct client *client, int complete, uint64_t now)
{
    uint64_t first = client->replies.messages - (uint64_t)complete;
    if (!load->measuring)
        return;
    load->replies += (uint64_t)complete;
    for (int i = 0; i < complete; i++)
        record(&load->latency, now - client->sent[(first + (uint64_t)i) % (uint64_t)load->options->inflight], 1);
}

static void on_readable(struct load *load, struct client *client)
{
    long received;
    do {
        received = link_read(&client->link, buffer, sizeof buffer);
        if (received == 0)
            die("the server ended a connection");
        if (received < 0)
            return;
        uint64_t now = now_ns();
        int complete = take_replies(&client->replies, &load->script, buffer, (size_t)received);
        count_replies(load, client, complete, now);
        if (complete > 0 && !load->stopping)
            ask(load, client, complete, now);
    } while (client->link.tls != NULL); /* what OpenSSL holds back does not wake epoll */
}

static void run_until(struct load *load, uint64_t end)
{
    struct epoll_event events[EVENTS];
    uint64_t now = now_ns();
    while (now < end) {
        int ready = epoll_wait(load->epoll, events, EVENTS, (int)((end - now) / 1000000u) + 1);
        for (int i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;
            if (events[i].events & EPOLLOUT)
                flush_client(load, client);
            if (events[i].events & ~(uint32_t)EPOLLOUT)
                on_readable(load, client);
        }
        now = now_ns();
    }
}

static void open_clients(struct load *load)
{
    int count = load->options->connections;
    load->clients = calloc((size_t)count, sizeof *load->clients);
    for (int i = 0; i < count; i++) {
        struct client *client = &load->clients[i];
        client->link = open_link(load->options, (uint64_t)i);
        client->sent = calloc((size_t)load->options->inflight, sizeof *client->sent);
        watch(load->epoll, client->link.fd, EPOLLIN, client, false);
    }
}

static uint64_t outstanding(const struct load *load, uint64_t *total)
{
    uint64_t missing = 0;
    *total = 0;
    for (int i = 0; i < load->options->connections; i++) {
        *total += load->clients[i].replies.messages;
        missing += load->clients[i].asked - load->clients[i].replies.messages;
    }
    return missing;
}

/* Nothing may be missing in the end: every message that was sent has had its reply. */
static uint64_t drain(struct load *load)
{
    uint64_t total, deadline = now_ns() + DRAIN_SECONDS * 1000000000ull;
    load->stopping = true;
    while (outstanding(load, &total) > 0) {
        if (now_ns() > deadline)
            die("%llu replies never came", (unsigned long long)outstanding(load, &total));
        run_until(load, now_ns() + 1000000);
    }
    return total;
}

void run_echo(const struct options *options)
{
    static struct load load;
    char *sample = NULL;
    size_t sample_size = 0;
    load.options = options;
    load.script = build_script(options, options->inflight);
    load.epoll = epoll_create1(0);
    open_clients(&load);
    if (options->deflate)
        load.clients[0].replies.sample = open_memstream(&sample, &sample_size);
    tell_connected();

    for (int i = 0; i < options->connections; i++)
        ask(&load, &load.clients[i], options->inflight, now_ns());
    run_until(&load, now_ns() + (uint64_t)(options->warmup * 1e9));
    load.measuring = true;
    struct stopwatch watch = stopwatch_start();
    run_until(&load, watch.wall + (uint64_t)(options->seconds * 1e9));
    double seconds = stopwatch_seconds(&watch), share = stopwatch_share(&watch);
    load.measuring = false;
    uint64_t total = drain(&load);

    if (load.clients[0].replies.sample != NULL)
        fclose(load.clients[0].replies.sample);
    printf("{\"replies\": %llu, \"seconds\": %.6f, \"rate\": %.1f, \"p50_us\": %.2f, \"p99_us\": %.2f, "
           "\"total_replies\": %llu, \"reply_bytes\": %llu, \"load_share\": %.4f, \"sample\": \"%s\"}\n",
           (unsigned long long)load.replies, seconds, (double)load.replies / seconds,
           percentile_us(&load.latency, 50), percentile_us(&load.latency, 99), (unsigned long long)total,
           (unsigned long long)load.clients[0].replies.bytes / (load.clients[0].replies.messages + !load.clients[0].replies.messages),
           share, sample != NULL ? sample : "");
    wait_for_end();
}
