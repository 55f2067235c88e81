/* The two inner loops of the rank sum on float32 values, for the instruction sets of x86.

   Every path computes the same integers as the portable loops of rank_sum.pyx; the best one that
   the processor has is chosen when the module is imported. */

#ifndef CRISPYX_RANK_SUM_PATHS_H
#define CRISPYX_RANK_SUM_PATHS_H

/* Distinct values of the control, rising, with a monotone table to look values up in. */
typedef struct {
    const float *distinct; /* (n + 1,), infinity behind the last */
    const int *before;     /* (n + 2,), values below distinct[k]; the last two hold all */
    const int *start;      /* (last_bucket + 2,), first k whose bucket is b or above */
    float low, scale, last_bucket;
    int n;
} crispyx_control;

enum { CRISPYX_PORTABLE = 0, CRISPYX_AVX2 = 1, CRISPYX_AVX512 = 2 };

/* Beyond this many steps from the first value of a bucket halving is faster. */
enum { CRISPYX_STEPS = 6 };

#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))
#define CRISPYX_X86 1
#include <immintrin.h>

static int crispyx_best_path(void) {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512vpopcntdq"))
        return CRISPYX_AVX512;
    return __builtin_cpu_supports("avx2") ? CRISPYX_AVX2 : CRISPYX_PORTABLE;
}

static int crispyx_at_least(const float *distinct, int low, int high, float x) {
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (distinct[middle] < x)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* For every value: twice the control's values below plus those equal to it; those equal; and the
   place among the distinct values, n for a value the control does not hold. */
__attribute__((target("avx512f"))) static void
crispyx_look_up_avx512(const crispyx_control *c, const float *values, long long n, int *twice,
                       int *equal, int *place) {
    const __m512 low = _mm512_set1_ps(c->low), scale = _mm512_set1_ps(c->scale);
    const __m512 last = _mm512_set1_ps(c->last_bucket);
    const __m512i one = _mm512_set1_epi32(1);
    for (long long i = 0; i < n; i += 16) {
        __mmask16 lanes = n - i >= 16 ? 0xFFFF : (__mmask16)((1u << (n - i)) - 1);
        __m512 x = _mm512_mask_loadu_ps(low, lanes, values + i);
        __m512 b = _mm512_mul_ps(_mm512_sub_ps(x, low), scale);
        b = _mm512_min_ps(_mm512_max_ps(b, _mm512_setzero_ps()), last);
        __m512i k = _mm512_i32gather_epi32(_mm512_cvttps_epi32(b), c->start, 4);
        __m512 d = _mm512_i32gather_ps(k, c->distinct, 4);
        __mmask16 below = _mm512_cmp_ps_mask(d, x, _CMP_LT_OQ);
        for (int step = 0; below && step < CRISPYX_STEPS; step++) {
            k = _mm512_mask_add_epi32(k, below, k, one);
            d = _mm512_mask_i32gather_ps(d, below, k, c->distinct, 4);
            below = _mm512_mask_cmp_ps_mask(below, d, x, _CMP_LT_OQ);
        }
        if (below) {
            int at[16];
            _mm512_storeu_si512(at, k);
            for (int lane = 0; lane < 16; lane++)
                if (below >> lane & 1)
                    at[lane] = crispyx_at_least(c->distinct, at[lane], c->n, values[i + lane]);
            k = _mm512_loadu_si512(at);
            d = _mm512_i32gather_ps(k, c->distinct, 4);
        }
        __mmask16 same = _mm512_cmp_ps_mask(d, x, _CMP_EQ_OQ);
        __m512i before = _mm512_i32gather_epi32(k, c->before, 4);
        __m512i upto = _mm512_mask_i32gather_epi32(before, same, k, c->before + 1, 4);
        _mm512_mask_storeu_epi32(twice + i, lanes, _mm512_add_epi32(before, upto));
        _mm512_mask_storeu_epi32(equal + i, lanes, _mm512_sub_epi32(upto, before));
        _mm512_mask_storeu_epi32(place + i, lanes,
                                 _mm512_mask_mov_epi32(_mm512_set1_epi32(c->n), same, k));
    }
}

__attribute__((target("avx512f"))) static inline __m512i crispyx_widened_avx512(__m512i v) {
    __m512i low = _mm512_cvtepu32_epi64(_mm512_castsi512_si256(v));
    __m512i high = _mm512_cvtepu32_epi64(_mm512_extracti64x4_epi64(v, 1));
    return _mm512_add_epi64(low, high);
}

/* Sums over the values of a group: of `twice`, and of t (t + 1) with t the equal values of the
   control and of the group's cells before, found by comparing all pairs. t < 65,535. */
__attribute__((target("avx512f,avx512cd,avx512vpopcntdq"))) static long long
crispyx_run_avx512(const float *values, const int *twice, const int *equal, int n,
                   long long *ties) {
    const __m512i one = _mm512_set1_epi32(1);
    __m512i tied = _mm512_setzero_si512(), sum = _mm512_setzero_si512();
    for (int i = 0; i < n; i += 16) {
        __mmask16 lanes = n - i >= 16 ? 0xFFFF : (__mmask16)((1u << (n - i)) - 1);
        __m512i x = _mm512_maskz_loadu_epi32(lanes, values + i);
        __m512i t = _mm512_popcnt_epi32(_mm512_conflict_epi32(x));
        for (int j = 0; j < i; j++) {
            __m512i other = _mm512_set1_epi32(((const int *)values)[j]);
            t = _mm512_mask_add_epi32(t, _mm512_cmpeq_epi32_mask(x, other), t, one);
        }
        t = _mm512_add_epi32(t, _mm512_maskz_loadu_epi32(lanes, equal + i));
        t = _mm512_maskz_mullo_epi32(lanes, t, _mm512_add_epi32(t, one));
        tied = _mm512_add_epi64(tied, crispyx_widened_avx512(t));
        sum = _mm512_add_epi64(
            sum, crispyx_widened_avx512(_mm512_maskz_loadu_epi32(lanes, twice + i)));
    }
    *ties = _mm512_reduce_add_epi64(tied);
    return _mm512_reduce_add_epi64(sum);
}

__attribute__((target("avx2"))) static void
crispyx_look_up_avx2(const crispyx_control *c, const float *values, long long n, int *twice,
                     int *equal, int *place) {
    const __m256 low = _mm256_set1_ps(c->low), scale = _mm256_set1_ps(c->scale);
    const __m256 last = _mm256_set1_ps(c->last_bucket);
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for (long long i = 0; i < n; i += 8) {
        int count = n - i >= 8 ? 8 : (int)(n - i);
        __m256i lanes = _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane);
        __m256 x = _mm256_blendv_ps(low, _mm256_maskload_ps(values + i, lanes),
                                    _mm256_castsi256_ps(lanes));
        __m256 b = _mm256_mul_ps(_mm256_sub_ps(x, low), scale);
        b = _mm256_min_ps(_mm256_max_ps(b, _mm256_setzero_ps()), last);
        __m256i k = _mm256_i32gather_epi32(c->start, _mm256_cvttps_epi32(b), 4);
        __m256 d = _mm256_i32gather_ps(c->distinct, k, 4);
        __m256 below = _mm256_cmp_ps(d, x, _CMP_LT_OQ);
        int open = _mm256_movemask_ps(below);
        for (int step = 0; open && step < CRISPYX_STEPS; step++) {
            k = _mm256_sub_epi32(k, _mm256_castps_si256(below));
            d = _mm256_mask_i32gather_ps(d, c->distinct, k, below, 4);
            below = _mm256_cmp_ps(d, x, _CMP_LT_OQ);
            open = _mm256_movemask_ps(below);
        }
        if (open) {
            int at[8];
            _mm256_storeu_si256((__m256i *)at, k);
            for (int j = 0; j < 8; j++)
                if (open >> j & 1)
                    at[j] = crispyx_at_least(c->distinct, at[j], c->n, values[i + j]);
            k = _mm256_loadu_si256((const __m256i *)at);
            d = _mm256_i32gather_ps(c->distinct, k, 4);
        }
        __m256i same = _mm256_castps_si256(_mm256_cmp_ps(d, x, _CMP_EQ_OQ));
        __m256i before = _mm256_i32gather_epi32(c->before, k, 4);
        __m256i upto = _mm256_mask_i32gather_epi32(before, c->before + 1, k, same, 4);
        _mm256_maskstore_epi32(twice + i, lanes, _mm256_add_epi32(before, upto));
        _mm256_maskstore_epi32(equal + i, lanes, _mm256_sub_epi32(upto, before));
        _mm256_maskstore_epi32(place + i, lanes,
                               _mm256_blendv_epi8(_mm256_set1_epi32(c->n), k, same));
    }
}

__attribute__((target("avx2"))) static inline __m256i crispyx_widened_avx2(__m256i v) {
    return _mm256_add_epi64(_mm256_cvtepu32_epi64(_mm256_castsi256_si128(v)),
                            _mm256_cvtepu32_epi64(_mm256_extracti128_si256(v, 1)));
}

__attribute__((target("avx2"))) static inline long long crispyx_total_avx2(__m256i v) {
    return _mm256_extract_epi64(v, 0) + _mm256_extract_epi64(v, 1) + _mm256_extract_epi64(v, 2) +
           _mm256_extract_epi64(v, 3);
}

__attribute__((target("avx2"))) static long long
crispyx_run_avx2(const float *values, const int *twice, const int *equal, int n,
                 long long *ties) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), one = _mm256_set1_epi32(1);
    const int *bits = (const int *)values;
    __m256i tied = _mm256_setzero_si256(), sum = _mm256_setzero_si256();
    for (int i = 0; i < n; i += 8) {
        int count = n - i >= 8 ? 8 : n - i;
        __m256i lanes = _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane);
        __m256i x = _mm256_maskload_epi32(bits + i, lanes);
        __m256i t = _mm256_maskload_epi32(equal + i, lanes);
        for (int j = 0; j < i; j++)
            t = _mm256_sub_epi32(t, _mm256_cmpeq_epi32(x, _mm256_set1_epi32(bits[j])));
        for (int j = 0; j + 1 < count; j++) {
            __m256i same = _mm256_cmpeq_epi32(x, _mm256_set1_epi32(bits[i + j]));
            __m256i after = _mm256_cmpgt_epi32(lane, _mm256_set1_epi32(j));
            t = _mm256_sub_epi32(t, _mm256_and_si256(same, after));
        }
        t = _mm256_and_si256(lanes, _mm256_mullo_epi32(t, _mm256_add_epi32(t, one)));
        tied = _mm256_add_epi64(tied, crispyx_widened_avx2(t));
        sum = _mm256_add_epi64(sum,
                               crispyx_widened_avx2(_mm256_maskload_epi32(twice + i, lanes)));
    }
    *ties = crispyx_total_avx2(tied);
    return crispyx_total_avx2(sum);
}

static void crispyx_look_up(int path, const crispyx_control *c, const float *values, long long n,
                            int *twice, int *equal, int *place) {
    if (path == CRISPYX_AVX512)
        crispyx_look_up_avx512(c, values, n, twice, equal, place);
    else
        crispyx_look_up_avx2(c, values, n, twice, equal, place);
}

static long long crispyx_run(int path, const float *values, const int *twice,
                                 const int *equal, int n, long long *ties) {
    if (path == CRISPYX_AVX512)
        return crispyx_run_avx512(values, twice, equal, n, ties);
    return crispyx_run_avx2(values, twice, equal, n, ties);
}

#else /* another processor or compiler: the portable loops only */

static int crispyx_best_path(void) { return CRISPYX_PORTABLE; }

static void crispyx_look_up(int path, const crispyx_control *c, const float *values, long long n,
                            int *twice, int *equal, int *place) {}

static long long crispyx_run(int path, const float *values, const int *twice,
                                 const int *equal, int n, long long *ties) {
    return 0;
}

#endif
#endif
