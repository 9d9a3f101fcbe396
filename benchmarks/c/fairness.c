/* Some connections send without pause; one more sends a message at a time, and its latency is measured.
 *
 * After every burst of work for one of the others the probe is looked after first, so that its latency is the
 * server's and not ours.
 */
#include <stdlib.h>
#include <sys/epoll.h>

#include "loadgen.h"

enum { EVENTS = 64, BUFFER = 64 * 1024, BACKLOG = 1000, LATE_SECONDS = 20 };

struct talker {
    struct link link;
    struct outgoing outgoing;
    struct replies replies;
};

struct load {
    struct script script;
    struct talker probe;
    struct histogram latency;
    uint64_t sent; /* when the probe's message was */
    bool measuring, ending, ended;
};

static uint8_t buffer[BUFFER];

static int read_replies(struct talker *talker, const struct script *script)
{
    long received = link_read(&talker->link, buffer, sizeof buffer);
    if (received == 0)
        die("the server ended a connection");
    return received < 0 ? 0 : take_replies(&talker->replies, script, buffer, (size_t)received);
}

static void send_probe(struct load *load)
{
    load->sent = now_ns();
    load->probe.outgoing.pending = 1;
    if (!send_pending(&load->probe.outgoing, &load->probe.link, &load->script))
        die("the probe cannot send");
}

static void check_probe(struct load *load)
{
    if (read_replies(&load->probe, &load->script) == 0)
        return;
    if (load->measuring)
        record(&load->latency, now_ns() - load->sent, 1);
    load->ended = load->ending;
    if (!load->ended)
        send_probe(load);
}

static void talk(struct load *load, struct talker *talker, uint32_t events)
{
    if (events & ~(uint32_t)EPOLLOUT)
        read_replies(talker, &load->script);
    if (events & EPOLLOUT) {
        talker->outgoing.pending = BACKLOG;
        send_pending(&talker->outgoing, &talker->link, &load->script);
    }
}

static void run_until(struct load *load, int epoll, uint64_t end)
{
    struct epoll_event events[EVENTS];
    uint64_t now;
    while ((now = now_ns()) < end && !load->ended) {
        int ready = epoll_wait(epoll, events, EVENTS, (int)((end - now) / 1000000u) + 1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr != &load->probe)
                talk(load, events[i].data.ptr, events[i].events);
            check_probe(load);
        }
    }
}

static uint64_t total(const struct talker *talkers, int count)
{
    uint64_t messages = 0;
    for (int i = 0; i < count; i++)
        messages += talkers[i].replies.messages;
    return messages;
}

void run_fairness(const struct options *options)
{
    static struct load load;
    int count = options->connections, epoll = epoll_create1(0);
    struct talker *talkers = calloc((size_t)count, sizeof *talkers);
    load.script = build_script(options, BACKLOG);
    load.probe.link = open_link(options, 0);
    watch(epoll, load.probe.link.fd, EPOLLIN, &load.probe, false);
    for (int i = 0; i < count; i++) {
        talkers[i].link = open_link(options, (uint64_t)i + 1);
        watch(epoll, talkers[i].link.fd, EPOLLIN | EPOLLOUT, &talkers[i], false);
    }
    tell_connected();

    send_probe(&load);
    run_until(&load, epoll, now_ns() + (uint64_t)(options->warmup * 1e9));
    load.measuring = true;
    uint64_t before = total(talkers, count);
    struct stopwatch watch = stopwatch_start();
    run_until(&load, epoll, watch.wall + (uint64_t)(options->seconds * 1e9));
    double seconds = stopwatch_seconds(&watch), share = stopwatch_share(&watch);
    uint64_t after = total(talkers, count);
    load.ending = true; /* the reply that is still to come counts: it may be the slowest */
    run_until(&load, epoll, now_ns() + LATE_SECONDS * 1000000000ull);
    if (!load.ended)
        die("the measured connection got no reply within %d s", LATE_SECONDS);
    printf("{\"seconds\": %.6f, \"rate\": %.1f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"probes\": %llu, "
           "\"total_replies\": %llu, \"load_share\": %.4f}\n",
           seconds, (double)(after - before) / seconds, percentile_us(&load.latency, 50),
           percentile_us(&load.latency, 99), (unsigned long long)load.latency.count,
           (unsigned long long)total(talkers, count), share);
    wait_for_end();
}
