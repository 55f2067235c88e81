/* Loops over the nodes of a group and over the counts of a gene.

   Every sum runs in eight lanes that are joined in one order, and multiplication and addition round
   separately: all instruction sets give the same bits. */

#ifndef CRISPYX_NODE_SUMS_H
#define CRISPYX_NODE_SUMS_H

#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__linux__)
#define CRISPYX_PATHS __attribute__((target_clones("avx512f", "avx2", "default"), unused))
#else
#define CRISPYX_PATHS
#endif
#if defined(__GNUC__)
#define CRISPYX_INLINED static inline __attribute__((always_inline))
#else
#define CRISPYX_INLINED static inline
#endif

/* The statement for k and i of all n places, whose lane is k. */
#define CRISPYX_IN_LANES(n, ...)                                                                   \
    for (i = 0; i + 8 <= (n); i += 8)                                                              \
        for (k = 0; k < 8; k++)                                                                    \
            __VA_ARGS__                                                                            \
    for (k = 0; i + k < (n); k++)                                                                  \
        __VA_ARGS__

CRISPYX_INLINED double crispyx_joined(const double *lanes)
{
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6]))
        + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

/* log(1 + u) and u / (1 + u) for u >= 0. With x = 1 + u = 2^e m, m in [sqrt(1/2), sqrt(2)) and
   f = (m - 1) / (m + 1), log m = 2 atanh(f) by its series (|f| < 0.172, the first term left out is
   below 1e-17); (u - (x - 1)) / x makes up for rounding 1 + u. */
CRISPYX_INLINED void crispyx_log1p(double u, double *large, double *share)
{
    double x = 1 + u, over = 1 / x, m, e, f, t, series;
    uint64_t bits, exponent;
    memcpy(&bits, &x, 8);
    bits += 0x3ff0000000000000ULL - 0x3fe6a09e667f3bcdULL;
    exponent = (bits >> 52) | 0x4330000000000000ULL;
    bits = (bits & 0x000fffffffffffffULL) + 0x3fe6a09e667f3bcdULL;
    memcpy(&e, &exponent, 8);
    memcpy(&m, &bits, 8);
    e -= 4503599627370496.0 + 1023.0;
    f = (m - 1) / (m + 1);
    t = f * f;
    series = 1 / 21.0 + t * (1 / 23.0);
    series = 1 / 17.0 + t * (1 / 19.0 + t * series);
    series = 1 / 13.0 + t * (1 / 15.0 + t * series);
    series = 1 / 9.0 + t * (1 / 11.0 + t * series);
    series = 1 / 5.0 + t * (1 / 7.0 + t * series);
    series = 2 * f + 2 * f * (t * (1 / 3.0 + t * series));
    *large = e * 6.93147180369123816490e-01
        + (series + ((u - (x - 1)) * over + e * 1.90821492927058770002e-10));
    *share = u * over;
}

/* The two functions at u = scale * s of any number of places. */
CRISPYX_PATHS static void crispyx_log1p_nodes(const double *s, double scale, double *large,
                                              double *share, int n)
{
    int i;
    for (i = 0; i < n; i++)
        crispyx_log1p(scale * s[i], large + i, share + i);
}

/* Score and observed information. */
CRISPYX_PATHS static void crispyx_score_nodes(const double *s, const double *w, const double *v,
                                              double scale, double alpha, int n, double *out)
{
    double first[8] = {0}, second[8] = {0};
    int i, k;
    CRISPYX_IN_LANES(n, {
        double m = scale * s[i + k], q = 1 / (1 + alpha * m);
        first[k] += (v[i + k] - w[i + k] * m) * q;
        second[k] += (w[i + k] + alpha * v[i + k]) * m * (q * q);
    })
    out[0] = crispyx_joined(first);
    out[1] = crispyx_joined(second);
}

/* Expected information and its two derivatives in the log mean. */
CRISPYX_PATHS static void crispyx_information_nodes(const double *s, const double *w, double scale,
                                                    double alpha, int n, double *out)
{
    double a[8] = {0}, b[8] = {0}, c[8] = {0};
    int i, k;
    CRISPYX_IN_LANES(n, {
        double m = scale * s[i + k], q = 1 / (1 + alpha * m), x = w[i + k] * m * q;
        a[k] += x;
        b[k] += x * q;
        c[k] += x * q * (2 * q - 1);
    })
    out[0] = crispyx_joined(a);
    out[1] = crispyx_joined(b);
    out[2] = crispyx_joined(c);
}

/* sum v (log s - log(1 + scale s)) - w r log(1 + scale s), scale and r being alpha exp(eta) and
   1 / alpha. */
CRISPYX_PATHS static double crispyx_likelihood_nodes(const double *s, const double *log_s,
                                                     const double *w, const double *v, double scale,
                                                     double r, int n)
{
    double total[8] = {0};
    int i, k;
    CRISPYX_IN_LANES(n, {
        double large, share;
        crispyx_log1p(scale * s[i + k], &large, &share);
        total[k] += v[i + k] * (log_s[i + k] - large) - w[i + k] * (large * r);
    })
    return crispyx_joined(total);
}

/* What the derivatives in log alpha need: information F and its two derivatives, the first and the
   second slope, of weights w of the cells and v of the counts. */
CRISPYX_PATHS static void crispyx_slope_nodes(const double *s, const double *w, const double *v,
                                              double scale, double r, int n, double *out)
{
    double f[8] = {0}, f1[8] = {0}, f2[8] = {0}, first[8] = {0}, second[8] = {0};
    int i, k;
    CRISPYX_IN_LANES(n, {
        double cells = w[i + k], counts = v[i + k], large, share, p;
        crispyx_log1p(scale * s[i + k], &large, &share);
        p = share * (1 - share);
        f[k] += cells * share;
        f1[k] += cells * p;
        f2[k] += cells * p * (1 - 2 * share);
        first[k] += cells * ((large - share) * r) - counts * share;
        second[k] += cells * ((large - 2 * share + p) * r) + counts * p;
    })
    out[0] = crispyx_joined(f);
    out[1] = crispyx_joined(f1);
    out[2] = crispyx_joined(f2);
    out[3] = crispyx_joined(first);
    out[4] = crispyx_joined(second);
}

/* sum tail[j] j alpha / (1 + j alpha) and its derivative in log alpha, over j from 1 on. */
CRISPYX_PATHS static void crispyx_tail_slopes(const double *tail, int64_t n, double alpha,
                                              double *out)
{
    double first[8] = {0}, second[8] = {0};
    int64_t i, k;
    CRISPYX_IN_LANES(n - 1, {
        double u = (double)(int)(i + k + 1) * alpha, q = 1 / (1 + u);
        double part = u * q * tail[i + k + 1];
        first[k] += part;
        second[k] += part * q;
    })
    out[0] = crispyx_joined(first);
    out[1] = crispyx_joined(second);
}

/* Loops over the counts of a run, in both types of counts. */
#define CRISPYX_OF_COUNTS(VALUE)                                                                   \
    /* Add the Lagrange rows of the cells from rank `cut` on, times their counts, to v; return the \
       sum of those counts. */                                                                     \
    CRISPYX_PATHS static double crispyx_weigh_##VALUE(const VALUE *y, const int *ranks, int64_t n, \
                                                      int64_t cut, const double *rows,             \
                                                      int n_nodes, double *restrict v)             \
    {                                                                                              \
        double above = 0;                                                                          \
        int64_t i = 0, j, k;                                                                       \
        for (; i + 4 <= n; i += 4) {                                                               \
            const double *row[4];                                                                  \
            double c[4];                                                                           \
            for (k = 0; k < 4; k++) {                                                              \
                c[k] = ranks[i + k] < cut ? 0 : (double)y[i + k];                                  \
                row[k] = rows + (int64_t)ranks[i + k] * n_nodes;                                   \
            }                                                                                      \
            above += (c[0] + c[1]) + (c[2] + c[3]);                                                \
            for (j = 0; j < n_nodes; j += 8)                                                       \
                for (k = 0; k < 8; k++)                                                            \
                    v[j + k] += (c[0] * row[0][j + k] + c[1] * row[1][j + k])                      \
                        + (c[2] * row[2][j + k] + c[3] * row[3][j + k]);                           \
        }                                                                                          \
        for (; i < n; i++) {                                                                       \
            double c = ranks[i] < cut ? 0 : (double)y[i];                                          \
            const double *row = rows + (int64_t)ranks[i] * n_nodes;                                \
            above += c;                                                                            \
            for (j = 0; j < n_nodes; j += 8)                                                       \
                for (k = 0; k < 8; k++)                                                            \
                    v[j + k] += c * row[j + k];                                                    \
        }                                                                                          \
        return above;                                                                              \
    }                                                                                              \
    CRISPYX_PATHS static double crispyx_total_##VALUE(const VALUE *y, int64_t n)                   \
    {                                                                                              \
        double total[8] = {0};                                                                     \
        int64_t i, k;                                                                              \
        CRISPYX_IN_LANES(n, { total[k] += (double)y[i + k]; })                                     \
        return crispyx_joined(total);                                                              \
    }                                                                                              \
    /* Add the rows of the cells from rank `low` to `high`, times their counts and a sign, to v;   \
       return the sum of those counts. */                                                          \
    CRISPYX_PATHS static double crispyx_move_##VALUE(const VALUE *y, const int *ranks, int64_t n,  \
                                                     int low, int high, double sign,               \
                                                     const double *rows, int n_nodes,              \
                                                     double *restrict v)                           \
    {                                                                                              \
        const unsigned width = (unsigned)(high - low);                                             \
        double moved = 0;                                                                          \
        int64_t i, j, k;                                                                           \
        for (i = 0; i < n; i++) {                                                                  \
            const double *row = rows + (int64_t)ranks[i] * n_nodes;                                \
            double c = sign * (double)y[i];                                                        \
            if ((unsigned)(ranks[i] - low) >= width)                                               \
                continue;                                                                          \
            moved += c;                                                                            \
            for (j = 0; j < n_nodes; j += 8)                                                       \
                for (k = 0; k < 8; k++)                                                            \
                    v[j + k] += c * row[j + k];                                                    \
        }                                                                                          \
        return moved;                                                                              \
    }                                                                                              \
    /* sum log(1 + times y / s) */                                                                 \
    CRISPYX_PATHS static double crispyx_logs_##VALUE(const VALUE *y, const int *ranks, int64_t n,  \
                                                     const double *s, double times)                \
    {                                                                                              \
        double total[8] = {0}, large, share;                                                       \
        int64_t i, k;                                                                              \
        CRISPYX_IN_LANES(n, {                                                                      \
            crispyx_log1p(times * ((double)y[i + k] / s[ranks[i + k]]), &large, &share);           \
            total[k] += large;                                                                     \
        })                                                                                         \
        return crispyx_joined(total);                                                              \
    }                                                                                              \
    /* Mean of y / s over n_cells cells, and the squares about it; the n counts are not zero. */   \
    CRISPYX_PATHS static void crispyx_moments_##VALUE(const VALUE *y, const int *ranks, int64_t n, \
                                                      const double *s, int64_t n_cells,            \
                                                      double *mean, double *squares)               \
    {                                                                                              \
        double total[8] = {0}, apart[8] = {0}, center;                                             \
        int64_t i, k;                                                                              \
        CRISPYX_IN_LANES(n, { total[k] += (double)y[i + k] / s[ranks[i + k]]; })                   \
        center = crispyx_joined(total) / (double)n_cells;                                          \
        CRISPYX_IN_LANES(n, {                                                                      \
            double d = (double)y[i + k] / s[ranks[i + k]] - center;                                \
            apart[k] += d * d;                                                                     \
        })                                                                                         \
        *mean = center;                                                                            \
        *squares = (double)(n_cells - n) * center * center + crispyx_joined(apart);                \
    }                                                                                              \
    /* The largest count, a whole number. */                                                       \
    CRISPYX_PATHS static int crispyx_largest_##VALUE(const VALUE *y, int64_t n)                    \
    {                                                                                              \
        int largest = 0;                                                                           \
        int64_t i;                                                                                 \
        for (i = 0; i < n; i++) {                                                                  \
            int count = (int)y[i];                                                                 \
            largest = count > largest ? count : largest;                                           \
        }                                                                                          \
        return largest;                                                                            \
    }                                                                                              \
    /* How many counts are above a level. */                                                       \
    CRISPYX_PATHS static int64_t crispyx_above_##VALUE(const VALUE *y, int64_t n, int level)       \
    {                                                                                              \
        int64_t found = 0, i;                                                                      \
        for (i = 0; i < n; i++)                                                                    \
            found += y[i] > (VALUE)level;                                                          \
        return found;                                                                              \
    }

CRISPYX_OF_COUNTS(float)
CRISPYX_OF_COUNTS(double)

#endif
