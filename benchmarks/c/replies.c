#include <string.h>

#include "loadgen.h"

enum { CHECKED = 100, SAMPLED = 16 }; /* first messages of a connection: contents compared, printed */

static int head_length(const uint8_t *head)
{
    int length = head[1] & 0x7f;
    return length < 126 ? 2 : length == 126 ? 4 : 10;
}

static uint64_t payload_length(const uint8_t *head)
{
    int length = head_length(head);
    if (length == 2)
        return head[1] & 0x7f;
    uint64_t size = 0;
    for (int i = 2; i < length; i++)
        size = size << 8 | head[i];
    return size;
}

static void begin_frame(struct replies *replies, const struct script *script)
{
    int opcode = replies->head[0] & 0x0f;
    if (opcode == 8)
        die("the server closed the connection after %llu replies", (unsigned long long)replies->messages);
    if (replies->head[1] & 0x80)
        die("the server masked a frame");
    replies->opcode = opcode;
    replies->last = replies->head[0] & 0x80;
    replies->left = payload_length(replies->head);
    replies->in_payload = true;
    if (opcode >= 8 || opcode == 0)
        return;
    replies->offset = 0;
    if (opcode != script->opcode)
        die("the reply has opcode %d instead of %d", opcode, script->opcode);
    if (((replies->head[0] & 0x40) != 0) != script->deflate)
        die(script->deflate ? "the reply is not compressed" : "the reply is compressed");
}

static void check_content(struct replies *replies, const struct script *script, const uint8_t *data, size_t size)
{
    int message = (int)(replies->messages % (uint64_t)script->messages);
    if (replies->offset + size > script->sizes[message] ||
        memcmp(data, script->payloads[message] + replies->offset, size) != 0)
        die("reply %llu is not what was sent", (unsigned long long)replies->messages + 1);
}

static void take_payload(struct replies *replies, const struct script *script, const uint8_t *data, size_t size)
{
    if (!script->deflate && replies->messages < CHECKED)
        check_content(replies, script, data, size);
    if (replies->sample != NULL && replies->messages < SAMPLED)
        for (size_t i = 0; i < size; i++)
            fprintf(replies->sample, "%02x", data[i]);
    replies->offset += size;
}

static int end_frame(struct replies *replies, const struct script *script)
{
    replies->in_payload = false;
    replies->head_size = 0;
    if (replies->opcode >= 8 || !replies->last)
        return 0;
    if (!script->deflate && replies->offset != script->sizes[replies->messages % (uint64_t)script->messages])
        die("a reply has %llu bytes of payload", (unsigned long long)replies->offset);
    if (replies->sample != NULL && replies->messages < SAMPLED)
        fputc(' ', replies->sample);
    replies->bytes += replies->offset;
    replies->messages++;
    return 1;
}

/* Takes received bytes, however they are cut, and returns how many replies they complete. */
int take_replies(struct replies *replies, const struct script *script, const uint8_t *data, size_t size)
{
    const uint8_t *end = data + size;
    int complete = 0;
    while (data < end) {
        if (!replies->in_payload) {
            replies->head[replies->head_size++] = *data++;
            if (replies->head_size < 2 || replies->head_size < head_length(replies->head))
                continue;
            begin_frame(replies, script);
        }
        size_t part = (size_t)(end - data) < replies->left ? (size_t)(end - data) : (size_t)replies->left;
        if (replies->opcode < 8)
            take_payload(replies, script, data, part);
        data += part;
        replies->left -= part;
        if (replies->left == 0)
            complete += end_frame(replies, script);
    }
    return complete;
}
