/* Products of one sparse row with eight vectors at once, one vector a lane.

   Every lane adds in the order of the row, and multiplication and addition round separately, so that
   all instruction sets give the same bits. */

#ifndef CRISPYX_PROJECTION_H
#define CRISPYX_PROJECTION_H

#include <stdint.h>

typedef double crispyx_eight __attribute__((vector_size(64), aligned(8)));

/* Where the loader can choose (ELF on x86), AVX-512 beside the portable code. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define CRISPYX_CLONES __attribute__((target_clones("avx512f", "default")))
#else
#define CRISPYX_CLONES
#endif

#define CRISPYX_ROW_PRODUCT(NAME, VALUE)                                                           \
    CRISPYX_CLONES static void NAME(const VALUE *values, const int *genes, int64_t n,              \
                                    const double *vectors, const double *shift, double *y) {       \
        crispyx_eight sum = {0};                                                                   \
        for (int64_t j = 0; j < n; j++)                                                            \
            sum += (double)values[j] * *(const crispyx_eight *)(vectors + (int64_t)genes[j] * 8);  \
        *(crispyx_eight *)y = sum - *(const crispyx_eight *)shift;                                 \
    }

/* Add x^T y of every row of a stripe to the sums, y being its centered product. */
#define CRISPYX_STRIPE_PRODUCT(NAME, VALUE)                                                        \
    CRISPYX_CLONES static void NAME(const VALUE *values, const int *genes, const long long *ptr,   \
                                    int64_t n_rows, const double *vectors, const double *shift,    \
                                    double *sums) {                                                \
        for (int64_t i = 0; i < n_rows; i++) {                                                     \
            crispyx_eight y = {0};                                                                 \
            for (int64_t j = ptr[i]; j < ptr[i + 1]; j++)                                          \
                y += (double)values[j] * *(const crispyx_eight *)(vectors + (int64_t)genes[j] * 8);\
            y -= *(const crispyx_eight *)shift;                                                    \
            for (int64_t j = ptr[i]; j < ptr[i + 1]; j++)                                          \
                *(crispyx_eight *)(sums + (int64_t)genes[j] * 8) += (double)values[j] * y;         \
        }                                                                                          \
    }

CRISPYX_ROW_PRODUCT(crispyx_row_product_float, float)
CRISPYX_ROW_PRODUCT(crispyx_row_product_double, double)
CRISPYX_STRIPE_PRODUCT(crispyx_stripe_product_float, float)
CRISPYX_STRIPE_PRODUCT(crispyx_stripe_product_double, double)

#endif
