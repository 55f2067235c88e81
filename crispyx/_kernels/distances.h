/* Sums of Euclidean distances between points of a multiple of eight coordinates.

   Squares add up in eight lanes and these in one fixed order, and multiplication and addition round
   separately: all instruction sets give the same bits. */

#ifndef CRISPYX_DISTANCES_H
#define CRISPYX_DISTANCES_H

#include <math.h>
#include <stdint.h>

#include "lanes.h"

static inline __attribute__((always_inline)) double crispyx_distance(const double *a,
                                                                     const double *b,
                                                                     int64_t n_eights) {
    crispyx_eight sum = {0};
    for (int64_t c = 0; c < n_eights; c++) {
        crispyx_eight d = *(const crispyx_eight *)(a + 8 * c) - *(const crispyx_eight *)(b + 8 * c);
        sum += d * d;
    }
    return sqrt(((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7])));
}

/* Add to each of n points its distances to all others, which are read once for all of them. */
CRISPYX_CLONES static void crispyx_add_distances(const double *points, int64_t n,
                                                 const double *others, int64_t n_others,
                                                 int64_t n_eights, double *sums) {
    for (int64_t j = 0; j < n_others; j++)
        for (int64_t i = 0; i < n; i++)
            sums[i] += crispyx_distance(points + 8 * n_eights * i, others + 8 * n_eights * j,
                                        n_eights);
}

/* The distances of all pairs of n points, each pair once. */
CRISPYX_CLONES static double crispyx_pair_distances(const double *points, int64_t n,
                                                    int64_t n_eights) {
    double total = 0;
    for (int64_t i = 1; i < n; i++) {
        double sum = 0;
        for (int64_t j = 0; j < i; j++)
            sum += crispyx_distance(points + 8 * n_eights * i, points + 8 * n_eights * j, n_eights);
        total += sum;
    }
    return total;
}

#endif
