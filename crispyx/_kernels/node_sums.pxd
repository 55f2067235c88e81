# Sums of the negative binomial likelihood over the cells of a group, zeros included.
#
# All of them are sums of smooth functions of the cell's log size factor, so they are taken at a few
# Chebyshev nodes: w[j] weighs node j for the cells, v[j] for the counts. Cells whose fitted mean is
# held at min_mu are left out of w and v and enter as so many equal cells. Inlined into the kernels.

# Logarithms are taken for all nodes at once by one implementation, which compilers turn into vector
# instructions where the processor has them; no step of it can be rounded in two ways.

from libc.math cimport exp, log, log1p
from libc.string cimport memcpy, memset

ctypedef fused value_t:
    float
    double

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__linux__)
    #define CRISPYX_PATHS __attribute__((target_clones("avx2", "default")))
    #else
    #define CRISPYX_PATHS
    #endif
    /* log(1 + u) and u / (1 + u) for u = scale * s >= 0. With x = 1 + u = 2^e m, m in
       [sqrt(1/2), sqrt(2)) and f = (m - 1) / (m + 1), log m = 2 atanh(f) by its series (|f| < 0.172,
       the first term left out is below 1e-17); (u - (x - 1)) / x makes up for rounding 1 + u. */
    CRISPYX_PATHS static void crispyx_log1p_nodes(const double *s, double scale, double *large,
                                                  double *share, int n)
    {
        int i;
        for (i = 0; i < n; i++) {
            double u = scale * s[i], x = 1 + u, m, e, f, t, series;
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
            large[i] = e * 6.93147180369123816490e-01
                + (series + ((u - (x - 1)) / x + e * 1.90821492927058770002e-10));
            share[i] = u / x;
        }
    }
    /* Score and observed information at n nodes. Lanes are summed apart and joined in one order, so
       that the width of the processor's vectors changes no digit. */
    CRISPYX_PATHS static void crispyx_score_nodes(const double *s, const double *w, const double *v,
                                                  double scale, double alpha, int n, double *out)
    {
        double first[8] = {0}, second[8] = {0};
        int i, k;
        for (i = 0; i + 8 <= n; i += 8)
            for (k = 0; k < 8; k++) {
                double m = scale * s[i + k], q = 1 / (1 + alpha * m);
                first[k] += (v[i + k] - w[i + k] * m) * q;
                second[k] += (w[i + k] + alpha * v[i + k]) * m * (q * q);
            }
        for (k = 0; i + k < n; k++) {
            double m = scale * s[i + k], q = 1 / (1 + alpha * m);
            first[k] += (v[i + k] - w[i + k] * m) * q;
            second[k] += (w[i + k] + alpha * v[i + k]) * m * (q * q);
        }
        for (k = 4; k; k /= 2)
            for (i = 0; i < k; i++) {
                first[i] += first[i + k];
                second[i] += second[i + k];
            }
        out[0] = first[0];
        out[1] = second[0];
    }
    """
    void log1p_nodes "crispyx_log1p_nodes"(
        const double* s, double scale, double* large, double* share, int n
    ) noexcept nogil
    void score_nodes "crispyx_score_nodes"(
        const double* s, const double* w, const double* v, double scale, double alpha, int n,
        double* out
    ) noexcept nogil


cdef enum:
    STRIDE = 8  # ranks between two stored suffix sums
    LANES = 64  # nodes whose logarithms are taken at once

ctypedef long long int64

cdef struct Table:  # the arrays of all groups, group after group
    const int64* cell_ptr        # (n_groups + 1,)
    const int64* suffix_ptr      # (n_groups + 1,)
    const double* size_factors   # (n_members,)
    const double* rows           # (n_members, n_nodes)
    const double* suffix         # (n_suffixes, n_nodes)
    const double* node_s         # (n_groups, n_nodes)
    const double* node_log       # (n_groups, n_nodes)
    const double* prefix_log     # (n_members + n_groups,)
    Py_ssize_t n_nodes

cdef struct Group:
    Py_ssize_t n
    Py_ssize_t n_nodes
    const double* size_factors  # (n,), rising
    const double* rows          # (n, n_nodes), Lagrange basis at each cell
    const double* suffix        # (ceil(n / STRIDE) + 1, n_nodes), rows summed from every 8th cell on
    const double* prefix_log    # (n + 1,), log size factors summed before each cell
    const double* node_s        # (n_nodes,), size factors at the nodes
    const double* node_log      # (n_nodes,), their logs

cdef struct Arm:
    Group group
    double* w          # (n_nodes,)
    double* v          # (n_nodes,)
    Py_ssize_t cut     # cells before it are clamped
    double y_below     # counts in clamped cells
    double y_above
    double min_mu

cdef struct Slopes:
    double first
    double second


cdef inline Group group_of(const Table* table, Py_ssize_t k) noexcept nogil:
    """Return group ``k`` of the table."""
    cdef Group group
    cdef Py_ssize_t n_nodes = table.n_nodes
    group.n = table.cell_ptr[k + 1] - table.cell_ptr[k]
    group.n_nodes = n_nodes
    group.size_factors = table.size_factors + table.cell_ptr[k]
    group.rows = table.rows + table.cell_ptr[k] * n_nodes
    group.suffix = table.suffix + table.suffix_ptr[k] * n_nodes
    group.prefix_log = table.prefix_log + table.cell_ptr[k] + k
    group.node_s = table.node_s + k * n_nodes
    group.node_log = table.node_log + k * n_nodes
    return group


cdef inline Py_ssize_t n_clamped(const Group* group, double eta, double min_mu) noexcept nogil:
    """Return how many cells have a mean below ``min_mu``."""
    cdef Py_ssize_t low = 0, high = group.n, middle
    cdef double scale = exp(eta)
    while low < high:
        middle = (low + high) // 2
        if group.size_factors[middle] * scale < min_mu:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline void weigh_cells(Arm* arm, Py_ssize_t cut) noexcept nogil:
    """Set ``w`` for the cells from ``cut`` on."""
    cdef Py_ssize_t n_nodes = arm.group.n_nodes, i, j
    cdef Py_ssize_t block = (cut + STRIDE - 1) // STRIDE
    memcpy(arm.w, &arm.group.suffix[block * n_nodes], n_nodes * sizeof(double))
    for i in range(cut, min(block * STRIDE, arm.group.n)):
        for j in range(n_nodes):
            arm.w[j] += arm.group.rows[i * n_nodes + j]
    arm.cut = cut


cdef inline void weigh_counts(Arm* arm, const value_t* y, const int* ranks,
                              Py_ssize_t n) noexcept nogil:
    """Set ``v`` and the totals for the non-zeros of a run, given ``cut``."""
    cdef Py_ssize_t n_nodes = arm.group.n_nodes, i, j
    cdef const double* row
    cdef double count
    memset(arm.v, 0, n_nodes * sizeof(double))
    arm.y_above = arm.y_below = 0
    for i in range(n):
        count = y[i]
        if ranks[i] < arm.cut:
            arm.y_below += count
            continue
        arm.y_above += count
        row = &arm.group.rows[ranks[i] * n_nodes]
        for j in range(n_nodes):
            arm.v[j] += count * row[j]


cdef inline void move_clamp(Arm* arm, const value_t* y, const int* ranks, Py_ssize_t n,
                            double eta) noexcept nogil:
    """Clamp the cells whose mean at ``eta`` is too small; counts that cross it change sides."""
    cdef Py_ssize_t i, j, before = arm.cut, n_nodes = arm.group.n_nodes
    cdef Py_ssize_t cut = n_clamped(&arm.group, eta, arm.min_mu)
    cdef const double* row
    cdef double count
    if cut == before:
        return
    weigh_cells(arm, cut)
    for i in range(n):
        if (ranks[i] < cut) == (ranks[i] < before):
            continue
        count = y[i] if cut < before else -y[i]
        row = arm.group.rows + ranks[i] * n_nodes
        for j in range(n_nodes):
            arm.v[j] += count * row[j]
        arm.y_above += count
        arm.y_below -= count


cdef inline double total_size(const Arm* arm) noexcept nogil:
    """Return the sum of the size factors."""
    cdef double total = 0
    cdef Py_ssize_t j
    for j in range(arm.group.n_nodes):
        total += arm.w[j] * arm.group.node_s[j]
    return total


cdef inline double normalized_total(const Group* group, const value_t* y, const int* ranks,
                                    Py_ssize_t n) noexcept nogil:
    """Return the sum of y / s."""
    cdef Py_ssize_t i
    cdef double total = 0
    for i in range(n):
        total += y[i] / group.size_factors[ranks[i]]
    return total


cdef inline Slopes score(const Arm* arm, double eta, double alpha) noexcept nogil:
    """Return score and observed information in eta of the cells that are not clamped."""
    return score_at(arm, exp(eta), alpha)


cdef inline Slopes score_at(const Arm* arm, double scale, double alpha) noexcept nogil:
    """Return the same, given the exponential of eta."""
    cdef Slopes out
    cdef double[2] sums
    score_nodes(arm.group.node_s, arm.w, arm.v, scale, alpha, <int> arm.group.n_nodes, sums)
    out.first, out.second = sums[0], sums[1]
    return out


cdef inline void information(const Arm* arm, double eta, double alpha, double* w,
                             double* w1, double* w2) noexcept nogil:
    """Set the expected information of the cells in ``w`` and its two derivatives in eta."""
    cdef double scale = exp(eta), m, q, a = 0, b = 0, c = 0
    cdef Py_ssize_t j
    for j in range(arm.group.n_nodes):
        m = scale * arm.group.node_s[j]
        q = 1 / (1 + alpha * m)
        m = arm.w[j] * m * q
        a += m
        b += m * q
        c += m * q * (2 * q - 1)
    w[0], w1[0], w2[0] = a, b, c


cdef inline double kernel_loglikelihood(const Arm* arm, double eta, double alpha) noexcept nogil:
    """Return sum y log mu - (y + 1 / alpha) log(1 + alpha mu), clamped cells included."""
    cdef double scale = alpha * exp(eta), total = 0, spread
    cdef double[LANES] larges
    cdef double[LANES] shares
    cdef Py_ssize_t i = 0, j, n
    while i < arm.group.n_nodes:
        n = min(<Py_ssize_t> LANES, arm.group.n_nodes - i)
        log1p_nodes(arm.group.node_s + i, scale, larges, shares, <int> n)
        for j in range(n):
            total += arm.v[i + j] * (arm.group.node_log[i + j] - larges[j])
            total -= arm.w[i + j] * (larges[j] / alpha)
        i += LANES
    total += arm.y_above * eta
    if arm.cut > 0:
        spread = log1p(alpha * arm.min_mu)
        total += arm.y_below * (log(arm.min_mu) - spread) - arm.cut * (spread / alpha)
    return total


cdef inline Slopes dispersion_slopes(const Arm* arm, double eta, double alpha) noexcept nogil:
    """Return the derivatives in log alpha of minus the log-likelihood, but for the terms of the
    counts alone, plus half the log of the information.
    """
    cdef Slopes out
    cdef double scale = alpha * exp(eta), r = 1 / alpha, v, large, w, y
    cdef double f = 0, f1 = 0, f2 = 0, first = 0, second = 0, p, clamped = arm.min_mu
    cdef double[LANES] larges
    cdef double[LANES] shares
    cdef Py_ssize_t i = 0, j, n
    while i < arm.group.n_nodes:
        n = min(<Py_ssize_t> LANES, arm.group.n_nodes - i)
        log1p_nodes(arm.group.node_s + i, scale, larges, shares, <int> n)
        for j in range(n):
            w, y, large, v = arm.w[i + j], arm.v[i + j], larges[j], shares[j]
            p = v * (1 - v)
            f += w * v
            f1 += w * p
            f2 += w * p * (1 - 2 * v)
            first += w * ((large - v) * r) - y * v
            second += w * ((large - 2 * v + p) * r) + y * p
        i += LANES
    if arm.cut > 0:
        log1p_nodes(&clamped, alpha, &large, &v, 1)
        w, p = <double> arm.cut, v * (1 - v)
        f += w * v
        f1 += w * p
        f2 += w * p * (1 - 2 * v)
        first += w * ((large - v) * r) - arm.y_below * v
        second += w * ((large - 2 * v + p) * r) + arm.y_below * p
    out.first = 0.5 * (f1 / f - 1) - first
    out.second = 0.5 * (f2 / f - (f1 / f) * (f1 / f)) + second
    return out


cdef inline Slopes tail_slopes(const double* tail, Py_ssize_t n_tail,
                               double alpha) noexcept nogil:
    """Return the derivatives in log alpha of sum over j of tail[j] log(1 + j alpha).

    ``tail[j]`` is the number of cells with a count above j.
    """
    cdef Slopes out
    cdef double ratio, part
    cdef Py_ssize_t j
    out.first = out.second = 0
    for j in range(1, n_tail):
        ratio = j * alpha
        part = ratio / (1 + ratio) * tail[j]
        out.first += part
        out.second += part / (1 + ratio)
    return out


cdef inline double tail_loglikelihood(const double* tail, Py_ssize_t n_tail,
                                      double alpha) noexcept nogil:
    """Return the sum over cells of log((1 + alpha) .. (1 + (y - 1) alpha)) - log y!."""
    cdef double total = 0
    cdef Py_ssize_t j
    for j in range(1, n_tail):
        total += tail[j] * (log1p(j * alpha) - log(j + 1.0))
    return total


cdef inline Py_ssize_t tail_length(const value_t* y, Py_ssize_t n) noexcept nogil:
    """Return one more than the largest count."""
    cdef Py_ssize_t i
    cdef double largest = 0
    for i in range(n):
        if y[i] > largest:
            largest = y[i]
    return <Py_ssize_t> largest + 1


cdef inline void add_tail(double* tail, const value_t* y, Py_ssize_t n,
                          Py_ssize_t n_tail) noexcept nogil:
    """Add a run to ``tail`` (n_tail,), which is longer than every count of it.

    Counts are put at their place first and summed from the top.
    """
    cdef Py_ssize_t i, j
    cdef double above = 0, here
    for i in range(n):
        tail[n_tail + <Py_ssize_t> y[i]] += 1
    for j in range(n_tail - 1, -1, -1):
        here = tail[n_tail + j]
        tail[n_tail + j] = 0
        tail[j] += above
        above += here
