/* A file that is cut short while it is mapped: the page that is gone reads as zeros, and is noted.

Without this the system ends the process with SIGBUS. The handler is there only while a mapping is
watched; a fault anywhere else is handed to whoever handled it before. */

#ifndef CRISPYX_BUS_GUARD_H
#define CRISPYX_BUS_GUARD_H

#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

enum { CRISPYX_MAX_WATCHED = 64 };

typedef struct {
    volatile uintptr_t begin, end; /* 0, 0 where the place is free */
    volatile sig_atomic_t faulted;
} crispyx_watched;

static crispyx_watched crispyx_watched_maps[CRISPYX_MAX_WATCHED];
static struct sigaction crispyx_bus_before;
static int crispyx_n_watched = 0;
static uintptr_t crispyx_page = 0;

static void crispyx_on_bus(int number, siginfo_t *info, void *context) {
    const uintptr_t address = (uintptr_t)info->si_addr;
    (void)number;
    (void)context;
    for (int i = 0; i < CRISPYX_MAX_WATCHED; ++i) {
        crispyx_watched *map = &crispyx_watched_maps[i];
        if (address < map->begin || address >= map->end) continue;
        map->faulted = 1;
        if (mmap((void *)(address & ~(crispyx_page - 1)), crispyx_page, PROT_READ,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED)
            return;
    }
    /* Not ours: the access is tried again, under the handler from before. */
    sigaction(SIGBUS, &crispyx_bus_before, NULL);
}

/* Return the place of the mapping in the list, or -1 where it cannot be watched. */
static int crispyx_watch(uintptr_t begin, uintptr_t n_bytes) {
    for (int i = 0; i < CRISPYX_MAX_WATCHED; ++i) {
        crispyx_watched *map = &crispyx_watched_maps[i];
        if (map->end) continue;
        if (crispyx_n_watched == 0) {
            struct sigaction action;
            crispyx_page = (uintptr_t)sysconf(_SC_PAGESIZE);
            action.sa_sigaction = crispyx_on_bus;
            action.sa_flags = SA_SIGINFO | SA_ONSTACK;
            sigemptyset(&action.sa_mask);
            if (sigaction(SIGBUS, &action, &crispyx_bus_before)) return -1;
        }
        map->faulted = 0;
        map->begin = begin;
        map->end = begin + n_bytes;
        ++crispyx_n_watched;
        return i;
    }
    return -1;
}

static void crispyx_unwatch(int place) {
    crispyx_watched_maps[place].begin = crispyx_watched_maps[place].end = 0;
    if (--crispyx_n_watched == 0) {
        struct sigaction now;
        /* Left alone where somebody else has taken the signal meanwhile. */
        if (!sigaction(SIGBUS, NULL, &now) && now.sa_sigaction == crispyx_on_bus)
            sigaction(SIGBUS, &crispyx_bus_before, NULL);
    }
}

static int crispyx_has_faulted(int place) { return crispyx_watched_maps[place].faulted != 0; }

#endif
