/* Many connections that stay open. Each is used once; at the end some are again, and one is asked how many
   producers are alive. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "loadgen.h"

enum { USED = 100, ANSWER_MS = 10000, ROOM = 256 };

static void say(const struct link *link, const char *text)
{
    uint8_t frame[ROOM];
    size_t size = build_frame(frame, 1, false, (const uint8_t *)text, strlen(text));
    if (link_write(link, frame, size) != (long)size)
        die("cannot send on an idle connection");
}

/* Reads one short text message into `text`. */
static void hear(const struct link *link, char *text)
{
    uint8_t frame[ROOM];
    size_t size = 0;
    while (size < 2 || size < 2u + frame[1]) {
        struct pollfd ready = {.fd = link->fd, .events = POLLIN};
        if (poll(&ready, 1, ANSWER_MS) != 1)
            die("an idle connection did not answer");
        long received = link_read(link, frame + size, sizeof frame - size);
        if (received == 0)
            die("the server ended an idle connection");
        size += received > 0 ? (size_t)received : 0;
    }
    if (frame[0] != 0x81 || frame[1] > 125)
        die("an idle connection answered with something else than a short text");
    memcpy(text, frame + 2, frame[1]);
    text[frame[1]] = '\0';
}

/* Has the server's consumer answer. */
static void use(const struct link *link)
{
    char answer[ROOM];
    say(link, "are you there?");
    hear(link, answer);
    if (strcmp(answer, "are you there?") != 0)
        die("an idle connection's consumer answered %s", answer);
}

void run_idle(const struct options *options)
{
    char answer[ROOM];
    int count = options->connections;
    struct link *links = calloc((size_t)count, sizeof *links);
    uint64_t start = now_ns();
    for (int i = 0; i < count; i++) {
        links[i] = open_link(options, (uint64_t)i);
        use(&links[i]); /* so consumers are at work, also those that begin with the first message */
    }
    double seconds = (double)(now_ns() - start) / 1e9;
    tell_connected();

    for (int i = 0; i < USED; i++)
        use(&links[(uint64_t)i * (uint64_t)count / USED]);
    say(&links[0], "producers");
    hear(&links[0], answer);
    printf("{\"connections\": %d, \"opened_in\": %.3f, \"producers\": %d}\n", count, seconds, atoi(answer));
    wait_for_end();
}
