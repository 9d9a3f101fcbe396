/* Receivers of broadcasts: they only read. Every broadcast says which one it is and when it was published. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include "loadgen.h"

/* The payload begins with the broadcast's number and time, big-endian, and a byte that is 1 in the last one. */
enum { NUMBER = 0, TIME = 8, LAST = 16, IDENTITY = 17 };
enum { EVENTS = 256, BUFFER = 256 * 1024, MOST_FRAME = 70000, RING = 1 << 20, SILENCE_MS = 20000 };

struct receiver {
    struct link link;
    uint64_t next;    /* number of the broadcast that has to come */
    size_t kept;      /* bytes of an incomplete frame */
    uint8_t *partial;
};

struct load {
    const struct options *options;
    size_t frame;     /* size of one */
    int epoll, unfinished;
    uint32_t *have;   /* ring: how many receivers have each broadcast */
    uint64_t complete, deliveries, first_published;
    volatile uint64_t *progress;
    struct histogram latency;
    struct stopwatch watch;
};

static uint8_t buffer[BUFFER];

static uint64_t number_at(const uint8_t *bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | bytes[i];
    return value;
}

static void count_complete(struct load *load, uint64_t number)
{
    uint32_t *have = &load->have[number % RING];
    if (++*have < (uint32_t)load->options->connections)
        return;
    *have = 0;
    load->complete = number + 1;
    if (load->progress != NULL)
        *load->progress = load->complete;
}

static void take_frame(struct load *load, struct receiver *receiver, const uint8_t *frame, uint64_t now)
{
    size_t head = load->frame - load->options->size;
    const uint8_t *payload = frame + head;
    uint64_t number = number_at(payload + NUMBER), published = number_at(payload + TIME);
    if (frame[0] != 0x82 || (head == 2 && frame[1] != load->options->size))
        die("a broadcast is not one binary frame of %zu bytes", load->options->size);
    if (number != receiver->next)
        die("a receiver got broadcast %llu instead of %llu", (unsigned long long)number,
            (unsigned long long)receiver->next);
    if (load->deliveries++ == 0) {
        load->first_published = published;
        load->watch = stopwatch_start();
    }
    receiver->next++;
    record(&load->latency, now - published, 1);
    count_complete(load, number);
    if (payload[LAST] == 1)
        load->unfinished--;
}

static void on_readable(struct load *load, struct receiver *receiver)
{
    memcpy(buffer, receiver->partial, receiver->kept);
    long received = link_read(&receiver->link, buffer + receiver->kept, sizeof buffer - receiver->kept);
    if (received == 0)
        die("the server ended a connection");
    if (received < 0)
        return;
    uint64_t now = now_ns();
    size_t size = receiver->kept + (size_t)received, used = 0;
    while (size - used >= load->frame) {
        take_frame(load, receiver, buffer + used, now);
        used += load->frame;
    }
    receiver->kept = size - used;
    memcpy(receiver->partial, buffer + used, receiver->kept);
}

static volatile uint64_t *map_progress(const char *path)
{
    int fd = open(path, O_RDWR);
    void *memory = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        die("cannot map %s", path);
    return memory;
}

static void receive_all(struct load *load)
{
    struct epoll_event events[EVENTS];
    while (load->unfinished > 0) {
        int ready = epoll_wait(load->epoll, events, EVENTS, SILENCE_MS);
        if (ready == 0)
            die("nothing came for %d s; %d receivers miss something", SILENCE_MS / 1000, load->unfinished);
        for (int i = 0; i < ready; i++)
            on_readable(load, events[i].data.ptr);
    }
}

void run_fanout(const struct options *options)
{
    static struct load load;
    int count = options->connections;
    struct receiver *receivers = calloc((size_t)count, sizeof *receivers);
    if (options->size < IDENTITY || options->size > MOST_FRAME - 4 || options->size > 65535)
        die("the size of a broadcast must be between %d and 65535", IDENTITY);
    load.options = options;
    load.frame = options->size + (options->size < 126 ? 2 : 4);
    load.epoll = epoll_create1(0);
    load.unfinished = count;
    load.have = calloc(RING, sizeof *load.have);
    load.progress = options->progress != NULL ? map_progress(options->progress) : NULL;
    for (int i = 0; i < count; i++) {
        receivers[i].link = open_link(options, (uint64_t)i);
        receivers[i].partial = malloc(load.frame);
        watch(load.epoll, receivers[i].link.fd, EPOLLIN, &receivers[i], false);
    }
    tell_connected();

    receive_all(&load);
    double seconds = (double)(now_ns() - load.first_published) / 1e9;
    printf("{\"broadcasts\": %llu, \"deliveries\": %llu, \"seconds\": %.6f, \"rate\": %.1f, \"p50_us\": %.2f, "
           "\"p99_us\": %.2f, \"load_share\": %.4f}\n",
           (unsigned long long)load.complete, (unsigned long long)load.deliveries, seconds,
           (double)load.deliveries / seconds, percentile_us(&load.latency, 50), percentile_us(&load.latency, 99),
           stopwatch_share(&load.watch));
    wait_for_end();
}
