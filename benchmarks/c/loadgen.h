/* The load generator: many clients of WebSocket or HTTP in one thread, on raw sockets and one epoll.
 *
 * It is written in C because one in Python saturates before the servers do. Frames are built before the
 * clock starts, and its own share of a core is part of every result.
 */
#ifndef LOADGEN_H
#define LOADGEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- options.c: what was asked for, from key=value arguments ---- */

struct options {
    const char *mode;      /* echo, fanout, idle, handshake, fairness, http */
    int port;
    int port2;             /* every other connection goes there, if it is given */
    int connections;
    int inflight;          /* messages on their way at once, per connection */
    size_t size;           /* payload bytes, where no payload file is given */
    double seconds;        /* measured time */
    double warmup;         /* time before it, in the same load */
    bool text;             /* text messages instead of binary ones */
    bool tls;
    const char *payloads;  /* file: repeated 32-bit little-endian length and bytes, or NULL */
    bool deflate;          /* the payloads are compressed, and permessage-deflate is required */
    const char *path;      /* http: of the request */
    const char *progress;  /* fanout: file in which broadcasts that every receiver has are counted, or NULL */
};

struct options parse_options(int argc, char **argv);

/* Ends the program with one line on standard error. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- stats.c: time, histograms, our own share of the core ---- */

enum { HISTOGRAM_SIZE = 64 * 40 };

struct histogram {
    uint64_t count;
    uint64_t buckets[HISTOGRAM_SIZE]; /* 64 per power of two: values are exact within 1.6 % */
};

struct stopwatch {
    uint64_t wall;
    uint64_t cpu;
};

uint64_t now_ns(void);
void record(struct histogram *histogram, uint64_t value, uint64_t times);
double percentile_us(const struct histogram *histogram, double percent);
struct stopwatch stopwatch_start(void);
double stopwatch_seconds(const struct stopwatch *since);
double stopwatch_share(const struct stopwatch *since);

/* ---- tls.c: OpenSSL, loaded when asked for ---- */

void *tls_connect(int fd);
long tls_read(void *tls, void *buffer, size_t size);        /* as recv: 0 at the end, -1 for "later" */
long tls_write(void *tls, const void *buffer, size_t size); /* as send */

/* ---- net.c: one connection, opened and upgraded ---- */

struct link {
    int fd;
    void *tls; /* NULL without TLS */
};

void raise_descriptor_limit(void);
int open_socket(const struct options *options, uint64_t index, bool wait);
const char *upgrade_request(const struct options *options);
void check_upgrade(const struct options *options, const char *response);
struct link open_link(const struct options *options, uint64_t index);
long link_read(const struct link *link, void *buffer, size_t size);
long link_write(const struct link *link, const void *buffer, size_t size);
void set_nonblocking(int fd);
int watch(int epoll, int fd, uint32_t events, void *data, bool known);

/* ---- frames.c: one client frame ---- */

size_t build_frame(uint8_t *target, int opcode, bool rsv1, const uint8_t *payload, size_t size);

/* ---- script.c: what a connection says, over and over, and what must come back ---- */

struct script {
    int messages;       /* in one cycle */
    uint8_t **payloads; /* of each message */
    size_t *sizes;
    int opcode;
    bool deflate;
    uint8_t *block;     /* the frames, repeated so that any `inflight` of them lie in a row */
    size_t *offsets;    /* of each frame in the block, and the block's end */
};

struct outgoing {
    int next;           /* message of the cycle that is to be sent first */
    size_t partial;     /* bytes of it that are sent already */
    int pending;        /* messages to be sent, at most `inflight` */
};

struct script build_script(const struct options *options, int inflight);
bool send_pending(struct outgoing *outgoing, const struct link *link, const struct script *script);

/* ---- replies.c: an incremental parser that checks the replies and keeps nothing of them ---- */

struct replies {
    uint64_t messages;  /* complete ones */
    uint64_t bytes;     /* of payload */
    uint64_t offset;    /* payload bytes of the current message that were seen */
    uint64_t left;      /* payload bytes of the current frame that are to come */
    int opcode;         /* of the current frame */
    bool in_payload;
    bool last;          /* the current frame ends its message */
    int head_size;
    uint8_t head[10];
    FILE *sample;       /* the first payloads are printed here in hexadecimal, or NULL */
};

int take_replies(struct replies *replies, const struct script *script, const uint8_t *data, size_t size);

/* ---- control: one JSON object a line on standard output, a line on standard input to go on ---- */

void tell_connected(void);
void wait_for_end(void);

void run_echo(const struct options *options);
void run_fanout(const struct options *options);
void run_idle(const struct options *options);
void run_handshake(const struct options *options);
void run_fairness(const struct options *options);
void run_http(const struct options *options);

#endif
