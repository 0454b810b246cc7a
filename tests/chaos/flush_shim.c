/* Preloaded into a broker: while the file named by FLUSH_SLOW exists, every flush takes 300 ms longer; while the file
 * named by FLUSH_FAILS exists, every flush fails with EIO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int interfere(void) {
    const char *slow = getenv("FLUSH_SLOW");
    const char *fails = getenv("FLUSH_FAILS");
    if (slow && access(slow, F_OK) == 0) usleep(300 * 1000);
    if (fails && access(fails, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    return 0;
}

#define INTERPOSE(name)                                         \
    int name(int fd) {                                          \
        static int (*real)(int);                                \
        if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, #name); \
        if (interfere() != 0) return -1;                        \
        return real(fd);                                        \
    }

INTERPOSE(fsync)
INTERPOSE(fdatasync)
INTERPOSE(syncfs)
