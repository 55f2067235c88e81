/* A hint that memory will be read soon. */

#ifndef CRISPYX_PREFETCH_H
#define CRISPYX_PREFETCH_H

#if defined(__GNUC__) || defined(__clang__)
#define crispyx_prefetch(address) __builtin_prefetch(address)
#else
#define crispyx_prefetch(address)
#endif

#endif
