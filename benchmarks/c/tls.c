/* OpenSSL through dlopen: its library is nearly everywhere, its headers are not, and eleven functions
 * that have kept their shape since OpenSSL 1.1 are all that is needed. */
#include <dlfcn.h>

#include "loadgen.h"

enum { WANT_READ = 2, WANT_WRITE = 3, ZERO_RETURN = 6 }; /* SSL_get_error */
enum { CTRL_MODE = 33, PARTIAL_WRITE_AND_MOVING_BUFFER = 3 };

static struct {
    const void *(*client_method)(void);
    void *(*context_new)(const void *method);
    long (*context_ctrl)(void *context, int command, long value, void *pointer);
    void *(*new)(void *context);
    int (*set_fd)(void *ssl, int fd);
    int (*connect)(void *ssl);
    int (*read_ex)(void *ssl, void *buffer, size_t size, size_t *done);
    int (*write_ex)(void *ssl, const void *buffer, size_t size, size_t *done);
    int (*get_error)(const void *ssl, int result);
    void (*clear_error)(void);
} ssl;

static void *context;

static void load(void **function, void *library, const char *name)
{
    *function = dlsym(library, name);
    if (*function == NULL)
        die("OpenSSL's library has no %s", name);
}

static void load_all(void)
{
    void *library = dlopen("libssl.so.3", RTLD_NOW);
    if (library == NULL)
        library = dlopen("libssl.so.1.1", RTLD_NOW);
    if (library == NULL)
        die("the TLS rows need OpenSSL's shared library, libssl.so.3 or libssl.so.1.1");
    load((void **)&ssl.client_method, library, "TLS_client_method");
    load((void **)&ssl.context_new, library, "SSL_CTX_new");
    load((void **)&ssl.context_ctrl, library, "SSL_CTX_ctrl");
    load((void **)&ssl.new, library, "SSL_new");
    load((void **)&ssl.set_fd, library, "SSL_set_fd");
    load((void **)&ssl.connect, library, "SSL_connect");
    load((void **)&ssl.read_ex, library, "SSL_read_ex");
    load((void **)&ssl.write_ex, library, "SSL_write_ex");
    load((void **)&ssl.get_error, library, "SSL_get_error");
    load((void **)&ssl.clear_error, library, "ERR_clear_error");
    context = ssl.context_new(ssl.client_method());
    ssl.context_ctrl(context, CTRL_MODE, PARTIAL_WRITE_AND_MOVING_BUFFER, NULL);
}

void *tls_connect(int fd)
{
    if (context == NULL)
        load_all();
    void *tls = ssl.new(context);
    ssl.set_fd(tls, fd);
    if (ssl.connect(tls) != 1)
        die("the TLS handshake failed");
    return tls;
}

static long outcome(void *tls, int result, size_t done)
{
    if (result == 1)
        return (long)done;
    int error = ssl.get_error(tls, result);
    if (error == ZERO_RETURN)
        return 0;
    if (error != WANT_READ && error != WANT_WRITE)
        die("TLS failed with OpenSSL's error %d", error);
    return -1;
}

long tls_read(void *tls, void *buffer, size_t size)
{
    size_t done = 0;
    ssl.clear_error();
    int result = ssl.read_ex(tls, buffer, size, &done);
    return outcome(tls, result, done);
}

long tls_write(void *tls, const void *buffer, size_t size)
{
    size_t done = 0;
    ssl.clear_error();
    int result = ssl.write_ex(tls, buffer, size, &done);
    return outcome(tls, result, done);
}
