#include <string.h>

#include "loadgen.h"

static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};

/* Writes one masked client frame (RFC 6455, section 5.2) and returns its size: payload + at most 14. */
size_t build_frame(uint8_t *target, int opcode, bool rsv1, const uint8_t *payload, size_t size)
{
    size_t head = 2;
    target[0] = (uint8_t)(0x80 | (rsv1 ? 0x40 : 0) | opcode);
    if (size < 126) {
        target[1] = (uint8_t)(0x80 | size);
    } else {
        int bytes = size < 65536 ? 2 : 8;
        target[1] = (uint8_t)(0x80 | (bytes == 2 ? 126 : 127));
        for (int i = bytes - 1; i >= 0; i--)
            target[head++] = (uint8_t)(size >> (8 * i));
    }
    memcpy(target + head, mask, sizeof mask);
    head += sizeof mask;
    for (size_t i = 0; i < size; i++)
        target[head + i] = payload[i] ^ mask[i % 4];
    return head + size;
}
