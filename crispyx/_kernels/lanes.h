/* Eight doubles at once, and code for more than one instruction set. */

#ifndef CRISPYX_LANES_H
#define CRISPYX_LANES_H

typedef double crispyx_eight __attribute__((vector_size(64), aligned(8)));

/* Where the loader can choose (ELF on x86), AVX-512 beside the portable code. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define CRISPYX_CLONES __attribute__((target_clones("avx512f", "default")))
#else
#define CRISPYX_CLONES
#endif

#endif
