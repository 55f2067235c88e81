/* The two-sided tail of Student's distribution, P(|T| > |t|) = I_x(df / 2, 1 / 2) with
   x = df / (df + t^2), to 1e-12 of its value down to the smallest normal numbers.

   With w = log(1 + t^2 / df) and T = df / 2 - 1 / 4 the incomplete beta integral is

       I_x = integral from w of exp(-T v) v^(-1/2) f(v) dv / the same from 0,
       f(v) = (sinh(v / 2) / (v / 2))^(-1/2) = 1 - v^2 / 48 + v^4 / 2560 - ...,

   whose terms are incomplete gamma functions, the first erfc(sqrt(T w)) (Didonato and Morris, ACM
   TOMS 18 (1992) 360, with b = 1/2). They follow from each other without branches, so
   that compilers do many t at once. Few degrees of freedom and far tails of moderate ones take the
   continued fraction of DLMF 8.17.22.

   Only +, -, *, / and sqrt are used, all rounded alike everywhere: every processor and every
   instruction set gives the same bits. */

#ifndef CRISPYX_STUDENT_TAIL_H
#define CRISPYX_STUDENT_TAIL_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#define CRISPYX_INLINE static inline __attribute__((always_inline))
#define CRISPYX_UNROLLED _Pragma("GCC unroll 32") /* else the loop around is not vectorized */
#else
#define CRISPYX_INLINE static inline
#define CRISPYX_UNROLLED
#endif

/* Where the loader can choose (ELF on x86), wider registers beside the portable code. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define CRISPYX_STUDENT_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CRISPYX_STUDENT_CLONES
#endif

#define CRISPYX_LN2_HIGH 6.93147180369123816490e-01 /* 32 bits: products with exponents are exact */
#define CRISPYX_LN2_LOW 1.90821492927058770002e-10
#define CRISPYX_SERIES_DF 16.0 /* degrees of freedom from which the series is used */
#define CRISPYX_SERIES_W 1.25  /* log(1 + t^2 / df) up to which it is */
#define CRISPYX_SERIES_U 700.0 /* T w up to which it is: exp(-T w) is not subnormal */
#define CRISPYX_UNDERFLOW 746.0
enum { CRISPYX_SERIES = 12 };

/* Coefficients of f(v) in v^2. */
static const double crispyx_sinh_root[CRISPYX_SERIES] = {
    1.0,
    -0.020833333333333333333,
    0.000390625,
    -7.8796709656084656085e-6,
    1.6967665791721781305e-7,
    -3.8050641917219065657e-9,
    8.7483775963154073041e-11,
    -2.0445233594119738176e-12,
    4.8333517979677044083e-14,
    -1.1524341017673859239e-15,
    2.7660520435993700423e-17,
    -6.6742819508916599512e-19,
};

/* (1 + 2 x) exp(x^2) erfc(x) as a polynomial in (x - 3.75) / (x + 3.75), error below 1e-16: the
   form of Shepherd and Laframboise, Math. Comp. 36 (1981) 249. Highest power first. */
enum { CRISPYX_ERFC_TERMS = 25 };
static const double crispyx_erfc_terms[CRISPYX_ERFC_TERMS] = {
    4.4349590700096282602e-10,  3.1103107198391649931e-10,   -5.2842869796314205662e-9,
    -3.7435680336345832166e-9,  3.8965452548985968109e-8,    2.3261913276696567394e-8,
    -2.5910696877966578529e-7,  -5.721597255990987179e-8,    1.7520579701663181024e-6,
    -9.735619015182663294e-7,   -0.000011444412439171723062, 0.000022384240314224438333,
    0.000051649211390702851871, -0.0002901540809795271307,   0.00029371363428500812575,
    0.0017556258530017257945,   -0.0097465795525042429682,   0.028362277418940664799,
    -0.058693398590212367225,   0.092304321160378767141,     -0.10880393014171785779,
    0.082276738490145159123,    0.0035854154854637749642,    -0.14024059858554696191,
    1.2375126308378275819,
};

CRISPYX_INLINE uint64_t crispyx_bits(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

CRISPYX_INLINE double crispyx_from_bits(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* exp(-u) for 0 <= u <= CRISPYX_UNDERFLOW. */
CRISPYX_INLINE double crispyx_exp_minus(double u) {
    const double shift = 6755399441055744.0; /* 1.5 2^52: whole numbers in the low bits */
    double x = -u, k = x * 1.44269504088896338700 + shift;
    uint64_t power = (crispyx_bits(k) + 1123) << 52; /* 2^(k + 100), never subnormal */
    double r, p = 1.0 / 6227020800.0;
    k -= shift;
    r = (x - k * CRISPYX_LN2_HIGH) - k * CRISPYX_LN2_LOW;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    return (1.0 + (r + r * r * p)) * crispyx_from_bits(power) * 7.8886090522101180541e-31;
}

/* log(1 + r) for r >= 0, as fdlibm computes it. */
CRISPYX_INLINE double crispyx_log_from_one(double r) {
    double y = 1.0 + r, lost = (r - (y - 1.0)) / y, k, f, s, z, square, rest;
    uint64_t above = crispyx_bits(y) - 0x3fe6a09e667f3bcdULL; /* sqrt(1 / 2) */
    k = crispyx_from_bits((above >> 52) | 0x4330000000000000ULL) - 4503599627370496.0;
    f = crispyx_from_bits(crispyx_bits(y) - (above & 0xfff0000000000000ULL)) - 1.0;
    s = f / (2.0 + f);
    z = s * s;
    rest = 1.479819860511658591e-01;
    rest = rest * z + 1.531383769920937332e-01;
    rest = rest * z + 1.818357216161805012e-01;
    rest = rest * z + 2.222219843214978396e-01;
    rest = rest * z + 2.857142874366239149e-01;
    rest = rest * z + 3.999999999940941908e-01;
    rest = rest * z + 6.666666666666735130e-01;
    square = 0.5 * f * f;
    return k * CRISPYX_LN2_HIGH -
           ((square - (s * (square + rest * z) + (k * CRISPYX_LN2_LOW + lost))) - f);
}

/* exp(x^2) erfc(x) for x >= 0. */
CRISPYX_INLINE double crispyx_scaled_erfc(double x) {
    double z = (x - 3.75) / (x + 3.75), sum = crispyx_erfc_terms[0];
    CRISPYX_UNROLLED
    for (int i = 1; i < CRISPYX_ERFC_TERMS; i++)
        sum = sum * z + crispyx_erfc_terms[i];
    return sum / (1.0 + 2.0 * x);
}

/* exp(T w) times the tail, by the series for df >= CRISPYX_SERIES_DF and w <= CRISPYX_SERIES_W;
   ``u`` becomes T w. */
CRISPYX_INLINE double crispyx_scaled_series(double df, double w, double *exponent) {
    double scale = 0.5 * df - 0.25, v = 1.0 / scale, u = scale * w, root = sqrt(u);
    /* whole: (1/2)_k / T^k, part: what its incomplete gamma function adds to erfc, over
       sqrt(u / pi) exp(-u). Two steps for each term of f. */
    double whole = 1.0, part = 0.0, power = v, all = 1.0, beyond = 0.0;
    CRISPYX_UNROLLED
    for (int n = 1; n < CRISPYX_SERIES; n++) {
        double k = 2.0 * n;
        whole = whole * ((k - 1.5) * (k - 0.5)) * (v * v);
        part = (k - 1.5) * v * part + power;
        power = power * w;
        part = (k - 0.5) * v * part + power;
        power = power * w;
        all += crispyx_sinh_root[n] * whole;
        beyond += crispyx_sinh_root[n] * part;
    }
    *exponent = u;
    return crispyx_scaled_erfc(root) + 0.56418958354775628695 * root * (beyond / all);
}

CRISPYX_INLINE double crispyx_tail_series(double df, double w) {
    double u, scaled = crispyx_scaled_series(df, w, &u);
    return crispyx_exp_minus(u) * scaled;
}

/* Gamma(a + 1/2) / (Gamma(a) sqrt(pi)): the series at w = 0, from a recurrence for small a. */
static double crispyx_one_over_beta(double a) {
    double below = 1.0, v, whole = 1.0, all = 1.0;
    for (; a < 12.0; a += 1.0)
        below *= a / (a + 0.5);
    v = 1.0 / (a - 0.25);
    for (int n = 1; n < CRISPYX_SERIES; n++) {
        whole *= (2.0 * n - 1.5) * (2.0 * n - 0.5) * (v * v);
        all += crispyx_sinh_root[n] * whole;
    }
    return below * sqrt(a - 0.25) * 0.56418958354775628695 / all;
}

/* The continued fraction of I_x(a, b) by Lentz's method, times a B(a, b) / (x^a (1 - x)^b). */
static double crispyx_beta_fraction(double a, double b, double x) {
    double c = 1.0, d = 1.0 / (1.0 - (a + b) * x / (a + 1.0)), h = d;
    for (int m = 1; m < 1000; m++) {
        double step = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / (1.0 + step * d);
        c = 1.0 + step / c;
        h *= d * c;
        step = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / (1.0 + step * d);
        c = 1.0 + step / c;
        h *= d * c;
        if (fabs(d * c - 1.0) < 3e-16)
            break;
    }
    return h;
}

/* The tail by the continued fraction; NaN for a NaN. */
static double crispyx_tail_fraction(double t, double df) {
    double a = 0.5 * df, ratio = fabs(t) / sqrt(df), r = ratio * ratio, w, front;
    if (!(r >= 0.0 && df > 0.0))
        return NAN;
    if (r == 0.0)
        return 1.0;
    w = ratio > 1e100 ? 2.0 * crispyx_log_from_one(ratio) : crispyx_log_from_one(r);
    front = a * w < CRISPYX_UNDERFLOW ? crispyx_exp_minus(a * w) : 0.0;
    front *= (ratio > 1e100 ? 1.0 : ratio / sqrt(1.0 + r)) * crispyx_one_over_beta(a);
    if ((a + 1.0) * (1.0 + r) > a + 2.5)
        return front / a * crispyx_beta_fraction(a, 0.5, 1.0 / (1.0 + r));
    return 1.0 - 2.0 * front * crispyx_beta_fraction(0.5, a, r / (1.0 + r));
}

/* The logarithm of x > 0. */
static double crispyx_log(double x) {
    return x >= 1.0 ? crispyx_log_from_one(x - 1.0) : -crispyx_log_from_one(1.0 / x - 1.0);
}

/* The natural logarithm of the tail, also of one that is too small for a number; NaN for a NaN. */
static double crispyx_log_tail(double t, double df) {
    double a = 0.5 * df, ratio = fabs(t) / sqrt(df), r = ratio * ratio, w, u, front;
    if (!(r >= 0.0 && df > 0.0))
        return NAN;
    if (isinf(t))
        return -INFINITY;
    w = ratio > 1e100 ? 2.0 * crispyx_log_from_one(ratio) : crispyx_log_from_one(r);
    if (df >= CRISPYX_SERIES_DF && df <= 1e30 && w > 0.0 && w <= CRISPYX_SERIES_W) {
        front = crispyx_scaled_series(df, w, &u);
        return crispyx_log(front) - u;
    }
    if (!((a + 1.0) * (1.0 + r) > a + 2.5))
        return crispyx_log(crispyx_tail_fraction(t, df)); /* far from small */
    front = (ratio > 1e100 ? 1.0 : ratio / sqrt(1.0 + r)) * crispyx_one_over_beta(a);
    return crispyx_log(front / a * crispyx_beta_fraction(a, 0.5, 1.0 / (1.0 + r))) - a * w;
}

/* The tails of n values; those the series is not for come out wrong. */
CRISPYX_STUDENT_CLONES static void crispyx_tails_by_series(const double *t, const double *df,
                                                           double *w, double *p, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        w[i] = crispyx_log_from_one(t[i] * t[i] / df[i]);
        p[i] = crispyx_tail_series(df[i], w[i]);
    }
}

enum { CRISPYX_TAILS_AT_ONCE = 256 };

static void crispyx_student_tails(const double *t, const double *df, double *p, int64_t n) {
    double w[CRISPYX_TAILS_AT_ONCE];
    for (int64_t first = 0; first < n; first += CRISPYX_TAILS_AT_ONCE) {
        int64_t m = n - first < CRISPYX_TAILS_AT_ONCE ? n - first : CRISPYX_TAILS_AT_ONCE;
        crispyx_tails_by_series(t + first, df + first, w, p + first, m);
        for (int64_t i = 0; i < m; i++)
            if (!(df[first + i] >= CRISPYX_SERIES_DF && df[first + i] <= 1e30 && w[i] > 0.0 &&
                  w[i] <= CRISPYX_SERIES_W &&
                  0.5 * df[first + i] * w[i] <= CRISPYX_SERIES_U))
                p[first + i] = crispyx_tail_fraction(t[first + i], df[first + i]);
    }
}

#endif
