#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "loadgen.h"

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static bool set(struct options *options, const char *key, const char *value)
{
    if (strcmp(key, "port") == 0)
        options->port = atoi(value);
    else if (strcmp(key, "port2") == 0)
        options->port2 = atoi(value);
    else if (strcmp(key, "connections") == 0)
        options->connections = atoi(value);
    else if (strcmp(key, "inflight") == 0)
        options->inflight = atoi(value);
    else if (strcmp(key, "size") == 0)
        options->size = strtoull(value, NULL, 10);
    else if (strcmp(key, "seconds") == 0)
        options->seconds = atof(value);
    else if (strcmp(key, "warmup") == 0)
        options->warmup = atof(value);
    else if (strcmp(key, "text") == 0)
        options->text = atoi(value);
    else if (strcmp(key, "tls") == 0)
        options->tls = atoi(value);
    else if (strcmp(key, "payloads") == 0)
        options->payloads = value;
    else if (strcmp(key, "deflate") == 0)
        options->deflate = atoi(value);
    else if (strcmp(key, "path") == 0)
        options->path = value;
    else if (strcmp(key, "progress") == 0)
        options->progress = value;
    else
        return false;
    return true;
}

struct options parse_options(int argc, char **argv)
{
    struct options options = {.connections = 1, .inflight = 1, .size = 64, .seconds = 1.0, .warmup = 0.2,
                              .path = "/"};
    if (argc < 2)
        die("usage: loadgen MODE port=PORT [key=value]...");
    options.mode = argv[1];
    for (int i = 2; i < argc; i++) {
        char *equals = strchr(argv[i], '=');
        if (equals == NULL)
            die("not key=value: %s", argv[i]);
        *equals = '\0';
        if (!set(&options, argv[i], equals + 1))
            die("unknown option: %s", argv[i]);
    }
    if (options.port < 1 || options.connections < 1 || options.inflight < 1)
        die("port, connections and inflight must be positive");
    return options;
}
