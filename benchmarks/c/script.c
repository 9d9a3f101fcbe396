#include <stdlib.h>
#include <string.h>

#include "loadgen.h"

enum { FRAME_HEAD = 14, MOST_PAYLOADS = 4096 };

static void *allocate(size_t size)
{
    void *memory = calloc(1, size);
    if (memory == NULL)
        die("out of memory");
    return memory;
}

static void add_payload(struct script *script, uint8_t *payload, size_t size)
{
    if (script->messages == MOST_PAYLOADS)
        die("too many payloads");
    script->payloads[script->messages] = payload;
    script->sizes[script->messages++] = size;
}

static void read_payloads(struct script *script, const char *path)
{
    uint8_t head[4];
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        die("cannot read %s", path);
    while (fread(head, 1, sizeof head, file) == sizeof head) {
        size_t size = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        uint8_t *payload = allocate(size + 1);
        if (fread(payload, 1, size, file) != size)
            die("%s is cut short", path);
        add_payload(script, payload, size);
    }
    fclose(file);
}

static void make_payload(struct script *script, size_t size)
{
    uint8_t *payload = allocate(size + 1);
    for (size_t i = 0; i < size; i++)
        payload[i] = (uint8_t)('a' + i % 26);
    add_payload(script, payload, size);
}

static void build_block(struct script *script, int inflight)
{
    int frames = script->messages + inflight;
    size_t room = 0, used = 0;
    for (int i = 0; i < frames; i++)
        room += script->sizes[i % script->messages] + FRAME_HEAD;
    script->block = allocate(room);
    script->offsets = allocate(((size_t)frames + 1) * sizeof *script->offsets);
    for (int i = 0; i < frames; i++) {
        int message = i % script->messages;
        script->offsets[i] = used;
        used += build_frame(script->block + used, script->opcode, script->deflate, script->payloads[message],
                            script->sizes[message]);
    }
    script->offsets[frames] = used;
}

struct script build_script(const struct options *options, int inflight)
{
    struct script script = {.opcode = options->text ? 1 : 2, .deflate = options->deflate};
    script.payloads = allocate(MOST_PAYLOADS * sizeof *script.payloads);
    script.sizes = allocate(MOST_PAYLOADS * sizeof *script.sizes);
    if (options->payloads != NULL)
        read_payloads(&script, options->payloads);
    else
        make_payload(&script, options->size);
    if (script.messages == 0)
        die("there are no payloads");
    build_block(&script, inflight);
    return script;
}

/* Writes as much of the pending messages as the socket takes; true when nothing is left. */
bool send_pending(struct outgoing *outgoing, const struct link *link, const struct script *script)
{
    while (outgoing->pending > 0) {
        size_t start = script->offsets[outgoing->next] + outgoing->partial;
        size_t end = script->offsets[outgoing->next + outgoing->pending];
        long sent = link_write(link, script->block + start, end - start);
        if (sent < 0)
            return false;
        outgoing->partial += (size_t)sent;
        while (outgoing->pending > 0) {
            size_t frame = script->offsets[outgoing->next + 1] - script->offsets[outgoing->next];
            if (outgoing->partial < frame)
                break;
            outgoing->partial -= frame;
            outgoing->next = (outgoing->next + 1) % script->messages;
            outgoing->pending--;
        }
    }
    return true;
}
