/* Chooses the mode, and the conversation with the program that started us. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "loadgen.h"

static const struct {
    const char *name;
    void (*run)(const struct options *);
} modes[] = {
    {"echo", run_echo},           {"fairness", run_fairness}, {"fanout", run_fanout},
    {"handshake", run_handshake}, {"http", run_http},         {"idle", run_idle},
};

static void read_line(void)
{
    char byte;
    while (read(STDIN_FILENO, &byte, 1) == 1 && byte != '\n')
        ;
}

void tell_connected(void)
{
    puts("{\"phase\": \"connected\"}");
    fflush(stdout);
    read_line();
}

/* Connections stay open until the other side has read its counters: closing them costs the server time. */
void wait_for_end(void)
{
    fflush(stdout);
    read_line();
}

int main(int argc, char **argv)
{
    struct options options = parse_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (strcmp(modes[i].name, options.mode) == 0) {
            modes[i].run(&options);
            return 0;
        }
    }
    die("unknown mode %s", options.mode);
}
