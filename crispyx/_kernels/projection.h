/* Products of one sparse row with eight vectors at once, one vector a lane.

   Every lane adds in four sums that take turns along the row, so that one addition need not wait for
   the other; multiplication and addition round separately. All instruction sets give the same bits. */

#ifndef CRISPYX_PROJECTION_H
#define CRISPYX_PROJECTION_H

#include <stdint.h>

#include "lanes.h"

#define CRISPYX_AT(array, gene) (*(const crispyx_eight *)((array) + (int64_t)(gene)*8))

/* The centered product of the entries FROM to UNTIL of a row. */
#define CRISPYX_SPARSE_DOT(FROM, UNTIL, RESULT)                                                    \
    {                                                                                              \
        crispyx_eight a = {0}, b = {0}, c = {0}, d = {0};                                          \
        const int64_t until = (UNTIL);                                                             \
        int64_t j = (FROM);                                                                        \
        for (; j + 4 <= until; j += 4) {                                                           \
            a += (double)values[j] * CRISPYX_AT(vectors, genes[j]);                                \
            b += (double)values[j + 1] * CRISPYX_AT(vectors, genes[j + 1]);                        \
            c += (double)values[j + 2] * CRISPYX_AT(vectors, genes[j + 2]);                        \
            d += (double)values[j + 3] * CRISPYX_AT(vectors, genes[j + 3]);                        \
        }                                                                                          \
        for (; j < until; j++)                                                                     \
            a += (double)values[j] * CRISPYX_AT(vectors, genes[j]);                                \
        RESULT = ((a + b) + (c + d)) - *(const crispyx_eight *)shift;                              \
    }

#define CRISPYX_ROW_PRODUCT(NAME, VALUE)                                                           \
    CRISPYX_CLONES static void NAME(const VALUE *values, const int *genes, int64_t n,              \
                                    const double *vectors, const double *shift, double *y) {       \
        CRISPYX_SPARSE_DOT(0, n, *(crispyx_eight *)y)                                              \
    }

/* Add x^T y of every row of a stripe to the sums, y being its centered product. */
#define CRISPYX_STRIPE_PRODUCT(NAME, VALUE)                                                        \
    CRISPYX_CLONES static void NAME(const VALUE *values, const int *genes, const long long *ptr,   \
                                    int64_t n_rows, const double *vectors, const double *shift,    \
                                    double *sums) {                                                \
        for (int64_t i = 0; i < n_rows; i++) {                                                     \
            crispyx_eight y;                                                                       \
            CRISPYX_SPARSE_DOT(ptr[i], ptr[i + 1], y)                                              \
            for (int64_t j = ptr[i]; j < ptr[i + 1]; j++)                                          \
                *(crispyx_eight *)(sums + (int64_t)genes[j] * 8) += (double)values[j] * y;         \
        }                                                                                          \
    }

CRISPYX_ROW_PRODUCT(crispyx_row_product_float, float)
CRISPYX_ROW_PRODUCT(crispyx_row_product_double, double)
CRISPYX_STRIPE_PRODUCT(crispyx_stripe_product_float, float)
CRISPYX_STRIPE_PRODUCT(crispyx_stripe_product_double, double)

#endif
