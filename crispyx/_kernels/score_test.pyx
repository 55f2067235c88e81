"""Score tests of every perturbation: the null of each batch, the guard and the saddlepoint.

All sums over cells are taken at nodes. A tilted mean with a pole near the largest size factor is not
smooth enough for them; such an arm is summed cell by cell.
"""

from libc.math cimport INFINITY, NAN, copysign, exp, expm1, fabs, isnan, log, log1p, sqrt
from cython.parallel cimport prange, threadid

from crispyx._kernels.log_means cimport best_log_mean, empirical_fill, lay_out
from crispyx._kernels.node_sums cimport (
    LANES, Arm, Table, information, int64, log1p_nodes, score, value_t,
)

cdef extern from *:
    """
    #if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__linux__)
    #define CRISPYX_TILTS __attribute__((target_clones("avx2", "default")))
    #else
    #define CRISPYX_TILTS
    #endif
    /* For means m = scale * s, q = 1 / (1 + alpha m) and x = t share q: the mean in mean[], and
       exp(x) - 1 in grown[]. With x = k log 2 + r, |r| <= log(2) / 2, it is 2^k (exp(r) - 1) + 2^k - 1;
       the first term left out of the series of exp(r) - 1 is below 1e-17 of it. */
    CRISPYX_TILTS static void crispyx_tilts(const double *s, double scale, double alpha,
                                            double share, double t, double *mean, double *grown,
                                            int n)
    {
        int i;
        for (i = 0; i < n; i++) {
            double m = scale * s[i], x = t * (share / (1 + alpha * m)), k, r, series, power;
            uint64_t bits;
            k = (x * 1.44269504088896338700 + 6755399441055744.0);
            memcpy(&bits, &k, 8);
            k -= 6755399441055744.0;
            bits = (bits + 1023) << 52;
            memcpy(&power, &bits, 8);
            r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
            series = 1 / 6227020800.0;
            series = 1 / 479001600.0 + r * series;
            series = 1 / 39916800.0 + r * series;
            series = 1 / 3628800.0 + r * series;
            series = 1 / 362880.0 + r * series;
            series = 1 / 40320.0 + r * series;
            series = 1 / 5040.0 + r * series;
            series = 1 / 720.0 + r * series;
            series = 1 / 120.0 + r * series;
            series = 1 / 24.0 + r * series;
            series = 1 / 6.0 + r * series;
            series = r + r * r * (0.5 + r * series);
            mean[i] = m;
            grown[i] = power * series + (power - 1);
        }
    }
    """
    void tilts "crispyx_tilts"(
        const double* s, double scale, double alpha, double share, double t, double* mean,
        double* grown, int n
    ) noexcept nogil

cdef enum:
    N_OUT = 4  # score, variance, overdispersion, root
    SOLVER_ITERATIONS = 200

cdef double NORMAL_BELOW = 0.05
cdef double SOLVER_TOLERANCE = 1e-7
cdef double NEAR_POLE = 0.5  # smallest 1 - alpha mu (exp(t a) - 1) that nodes are trusted with

cdef struct Batch:
    Arm control
    Arm perturbed
    double squares0     # of the control about its own mean, and their expectation
    double expected0
    double scale        # exp of the null log mean
    double i0
    double i1
    bint speaks

cdef struct Cumulants:
    double k
    double first
    double second

BATCH_NUMBERS = sizeof(Batch) // sizeof(double) + 1


def score_tests(
    const value_t[::1] values,        # IN (nnz,)
    const int[::1] ranks,             # IN (nnz,), of each cell in its arm, by size factor
    const int64[:, ::1] run_ptr,      # IN (n_genes, n_groups * n_batches + 1)
    const int64[::1] cell_ptr,        # IN (n_groups * n_batches + 1,)
    const int64[::1] suffix_ptr,      # IN (n_groups * n_batches + 1,)
    const double[::1] size_factors,   # IN (n_members,), rising in each arm
    const double[:, ::1] rows,        # IN (n_members, n_nodes)
    const double[:, ::1] suffix,      # IN (n_suffixes, n_nodes)
    const double[:, ::1] node_s,      # IN (n_groups * n_batches, n_nodes)
    const double[:, ::1] node_log,    # IN (n_groups * n_batches, n_nodes)
    const double[::1] prefix_log,     # IN (n_members + n_groups * n_batches,)
    Py_ssize_t n_batches,
    const double[:, ::1] alpha,       # IN (n_groups - 1, n_genes), NaN is not tested
    double[:, ::1] scratch,           # SCRATCH (n_threads, n_batches * (4 * n_nodes + BATCH_NUMBERS))
    double[:, :, ::1] out,            # OUT (4, n_groups - 1, n_genes)
    int n_threads,
):
    """Fill score, variance, overdispersion and root, as ``reference.score_test``.

    Arm ``b * n_groups + k`` holds the cells of group k in batch b.
    """
    cdef Py_ssize_t g, n_groups = (cell_ptr.shape[0] - 1) // n_batches
    cdef int t
    cdef Table table
    table.cell_ptr, table.suffix_ptr = &cell_ptr[0], &suffix_ptr[0]
    table.size_factors, table.rows = &size_factors[0], &rows[0, 0]
    table.suffix, table.prefix_log = &suffix[0, 0], &prefix_log[0]
    table.node_s, table.node_log = &node_s[0, 0], &node_log[0, 0]
    table.n_nodes = rows.shape[1]
    cdef const value_t* first_value = &values[0] if values.shape[0] > 0 else NULL
    cdef const int* first_rank = &ranks[0] if ranks.shape[0] > 0 else NULL
    with nogil:
        for g in prange(run_ptr.shape[0], schedule="dynamic", num_threads=n_threads):
            t = threadid()
            tests_of_gene(
                &table, n_groups, n_batches, first_value, first_rank, &run_ptr[g, 0], &alpha[0, g],
                &scratch[t, 0], &out[0, 0, g], out.shape[2], out.shape[1] * out.shape[2],
            )


cdef void tests_of_gene(
    const Table* table, Py_ssize_t n_groups, Py_ssize_t n_batches, const value_t* values,
    const int* ranks, const int64* run_ptr, const double* alphas, double* scratch, double* out,
    Py_ssize_t stride, Py_ssize_t table_stride,
) noexcept nogil:
    cdef Batch* batches = <Batch*> (scratch + 4 * n_batches * table.n_nodes)
    cdef double alpha, last_alpha = NAN
    cdef Py_ssize_t k, b, at, i
    for b in range(n_batches):
        batches[b].control.w = scratch + 4 * b * table.n_nodes
        batches[b].control.v = batches[b].control.w + table.n_nodes
        batches[b].perturbed.w = batches[b].control.v + table.n_nodes
        batches[b].perturbed.v = batches[b].perturbed.w + table.n_nodes
        if table.cell_ptr[b * n_groups + 1] > table.cell_ptr[b * n_groups]:
            lay_out(&batches[b].control, table, b * n_groups, values, ranks, run_ptr)
    for k in range(1, n_groups):
        at = (k - 1) * stride
        alpha = alphas[at]
        if isnan(alpha):
            for i in range(N_OUT):
                out[i * table_stride + at] = NAN
            continue
        if alpha != last_alpha:
            fit_controls(table, batches, n_groups, n_batches, values, ranks, run_ptr, alpha)
            last_alpha = alpha
        test_pair(table, batches, n_groups, n_batches, k, values, ranks, run_ptr, alpha, out + at,
                  table_stride)


cdef void fit_controls(
    const Table* table, Batch* batches, Py_ssize_t n_groups, Py_ssize_t n_batches,
    const value_t* values, const int* ranks, const int64* run_ptr, double alpha,
) noexcept nogil:
    cdef Py_ssize_t b, arm
    for b in range(n_batches):
        arm = b * n_groups
        batches[b].squares0 = batches[b].expected0 = 0
        if table.cell_ptr[arm + 1] > table.cell_ptr[arm]:
            add_squares(&batches[b].control, arm, values, ranks, run_ptr, alpha,
                        &batches[b].squares0, &batches[b].expected0)


cdef void add_squares(
    const Arm* arm, Py_ssize_t k, const value_t* values, const int* ranks, const int64* run_ptr,
    double alpha, double* squares, double* expected,
) noexcept nogil:
    """Add the squared residuals of an arm about its own mean, and their expectation."""
    cdef double eta, w, ignored, ignored2
    if arm.y_above == 0:
        return
    eta = best_log_mean(arm, NULL, alpha)
    information(arm, eta, alpha, &w, &ignored, &ignored2)
    expected[0] += w
    squares[0] += empirical_fill(arm, values + run_ptr[k], ranks + run_ptr[k],
                                 run_ptr[k + 1] - run_ptr[k], eta, alpha)


cdef void test_pair(
    const Table* table, Batch* batches, Py_ssize_t n_groups, Py_ssize_t n_batches, Py_ssize_t k,
    const value_t* values, const int* ranks, const int64* run_ptr, double alpha, double* out,
    Py_ssize_t table_stride,
) noexcept nogil:
    cdef double u = 0, variance = 0, squares = 0, expected = 0, phi, eta, ignored, ignored2
    cdef Py_ssize_t b, arm
    cdef Batch* batch
    for b in range(n_batches):
        batch = &batches[b]
        arm = b * n_groups + k
        batch.speaks = (table.cell_ptr[arm - k + 1] > table.cell_ptr[arm - k]
                        and table.cell_ptr[arm + 1] > table.cell_ptr[arm])
        if not batch.speaks:
            continue
        lay_out(&batch.perturbed, table, arm, values, ranks, run_ptr)
        batch.speaks = batch.control.y_above + batch.perturbed.y_above > 0
        if not batch.speaks:
            continue
        eta = best_log_mean(&batch.control, &batch.perturbed, alpha)
        batch.scale = exp(eta)
        information(&batch.control, eta, alpha, &batch.i0, &ignored, &ignored2)
        information(&batch.perturbed, eta, alpha, &batch.i1, &ignored, &ignored2)
        u += score(&batch.perturbed, eta, alpha).first
        variance += batch.i0 * batch.i1 / (batch.i0 + batch.i1)
        squares += batch.squares0
        expected += batch.expected0
        add_squares(&batch.perturbed, arm, values, ranks, run_ptr, alpha, &squares, &expected)
    out[0], out[table_stride], out[2 * table_stride] = u, variance, 1
    out[3 * table_stride] = NAN
    if variance > 0:
        phi = max(1, squares / expected)
        out[2 * table_stride] = phi
        out[3 * table_stride] = saddlepoint_root(batches, n_batches, u / sqrt(phi), variance, alpha)


cdef double saddlepoint_root(const Batch* batches, Py_ssize_t n_batches, double u, double variance,
                             double alpha) noexcept nogil:
    cdef double sign = copysign(1, u), limit, t, r, z
    cdef Cumulants at
    if fabs(u) < NORMAL_BELOW * sqrt(variance):
        return u / sqrt(variance)
    limit = farthest(batches, n_batches, sign, alpha)
    t = log1p(u / variance) if u > 0 else -u / variance
    t = sign * min(t, limit / 2)
    t = solve(batches, n_batches, u, t, limit, alpha, False)
    if near_pole(batches, n_batches, t, alpha):
        t = solve(batches, n_batches, u, t, limit, alpha, True)
        at = cumulants(batches, n_batches, t, alpha, True, True)
    else:
        at = cumulants(batches, n_batches, t, alpha, False, True)
    r = sign * sqrt(2 * (t * u - at.k))
    z = r + log(t * sqrt(at.second) / r) / r
    return sign * max(sign * z, 0)


cdef double solve(const Batch* batches, Py_ssize_t n_batches, double u, double t, double limit,
                  double alpha, bint by_cell) noexcept nogil:
    """Return t with K'(t) = u, as ``reference.score_test._solve``."""
    cdef double sign = copysign(1, u), near = 0, far = limit, step
    cdef Cumulants at
    cdef int _i
    for _i in range(SOLVER_ITERATIONS):
        at = cumulants(batches, n_batches, t, alpha, by_cell, False)
        if sign * (at.first - u) < 0:
            near = fabs(t)
        else:
            far = fabs(t)
        step = (u - at.first) / at.second
        if not near <= sign * (t + step) <= far:
            step = sign * (near + far) / 2 - t
        t += step
        if fabs(step) <= SOLVER_TOLERANCE * fabs(t):
            break
    return t


cdef Cumulants cumulants(const Batch* batches, Py_ssize_t n_batches, double t, double alpha,
                         bint by_cell, bint with_k) noexcept nogil:
    cdef Cumulants total
    cdef const Batch* batch
    cdef double sum
    cdef Py_ssize_t b
    total.k = total.first = total.second = 0
    for b in range(n_batches):
        batch = &batches[b]
        if not batch.speaks:
            continue
        sum = batch.i0 + batch.i1
        add_cumulants(&total, &batch.perturbed, batch.scale, batch.i0 / sum, t, alpha, by_cell,
                      with_k)
        add_cumulants(&total, &batch.control, batch.scale, -batch.i1 / sum, t, alpha, by_cell,
                      with_k)
    return total


cdef void add_cumulants(Cumulants* total, const Arm* arm, double scale, double share, double t,
                        double alpha, bint by_cell, bint with_k) noexcept nogil:
    cdef double[LANES] mean
    cdef double[LANES] grown
    cdef double[LANES] tilted
    cdef double[LANES] large
    cdef double[LANES] ignored
    cdef double k = 0, first = 0, second = 0, a, d, m, w
    cdef const double* s = arm.group.size_factors if by_cell else arm.group.node_s
    cdef Py_ssize_t i = 0, j, n, n_points = arm.group.n if by_cell else arm.group.n_nodes
    while i < n_points:
        n = min(<Py_ssize_t> LANES, n_points - i)
        tilts(s + i, scale, alpha, share, t, mean, grown, <int> n)
        for j in range(n):
            w = 1 if by_cell else arm.w[i + j]
            tilted[j] = mean[j] * grown[j]
            a = share / (1 + alpha * mean[j])
            d = 1 / (1 - alpha * tilted[j])
            m = (mean[j] + tilted[j]) * d
            first += w * (share * tilted[j] * d)
            second += w * (a * a * (m * (1 + alpha * m)))
        if with_k:
            log1p_nodes(tilted, -alpha, large, ignored, <int> n)
            for j in range(n):
                w = 1 if by_cell else arm.w[i + j]
                k += w * (-large[j] / alpha - t * (share * mean[j] / (1 + alpha * mean[j])))
        i += n
    total.k += k
    total.first += first
    total.second += second


cdef double farthest(const Batch* batches, Py_ssize_t n_batches, double sign,
                     double alpha) noexcept nogil:
    """Return the |t| at which the cell of the largest mean has its pole."""
    cdef double found = INFINITY, x, share
    cdef Py_ssize_t b
    cdef const Arm* arm
    for b in range(n_batches):
        if not batches[b].speaks:
            continue
        arm = &batches[b].perturbed if sign > 0 else &batches[b].control
        share = batches[b].i0 if sign > 0 else batches[b].i1
        share = share / (batches[b].i0 + batches[b].i1)
        x = alpha * batches[b].scale * arm.group.size_factors[arm.group.n - 1]
        found = min(found, (1 + x) * log1p(1 / x) / share)
    return found


cdef bint near_pole(const Batch* batches, Py_ssize_t n_batches, double t,
                    double alpha) noexcept nogil:
    """Return whether the tilt of a largest mean is too close to its pole for nodes."""
    cdef double x, share
    cdef Py_ssize_t b
    cdef const Arm* arm
    for b in range(n_batches):
        if not batches[b].speaks:
            continue
        arm = &batches[b].perturbed if t > 0 else &batches[b].control
        share = batches[b].i0 if t > 0 else batches[b].i1
        share = share / (batches[b].i0 + batches[b].i1)
        x = alpha * batches[b].scale * arm.group.size_factors[arm.group.n - 1]
        if 1 - x * expm1(fabs(t) * share / (1 + x)) < NEAR_POLE:
            return True
    return False
