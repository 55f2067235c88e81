# The cells of one comparison, by arm and by stratum of their covariates.
#
# Arm b n_groups + k holds the cells of group k in stratum b. The cells of an arm in a stratum have
# nodes; beside numeric covariates, whose slopes give every gene size factors of its own,
# each cell is its own node.

from libc.math cimport exp, log
from libc.string cimport memset

from crispyx._kernels.node_sums cimport Arm, Table, group_of, int64, value_t, weigh_counts

cdef struct Problem:
    const Table* table
    Py_ssize_t n_groups
    Py_ssize_t n_strata
    Py_ssize_t n_columns      # of the design, without the perturbation
    Py_ssize_t perturbed      # number of the perturbation among the groups
    const double* design      # (n_strata, n_columns)
    bint diagonal             # every stratum has a column of its own
    int shifted               # arm that carries the effect
    int arms                  # that are fitted, 1 the control, 2 the perturbation
    double alpha
    double* ones              # (n_members,); NULL where cells have nodes
    double* rates             # (n_members,), size factors of this gene
    double* log_rates         # (n_members,)
    double* dense             # (n_members,), counts of this gene
    double* weights           # (2, n_strata, n_nodes), of the counts
    double* totals            # (2, n_strata), counts
    double* kept              # (2, n_strata), 1 where the cells take part
    double* beta              # (n_columns + 1,)
    double* step
    double* score
    double* solution
    double* pivots
    double* matrix            # (n_columns + 1, n_columns + 1)
    double* lower             # (n_columns + 1, n_columns + 1)


cdef inline double* carve(Problem* problem, double* scratch) noexcept nogil:
    """Lay out the scratch and return what is left, room for a number a category."""
    cdef Py_ssize_t n = problem.n_strata, q = problem.n_columns + 1
    problem.weights = scratch
    problem.totals = problem.weights + 2 * n * problem.table.n_nodes
    problem.kept = problem.totals + 2 * n
    problem.beta = problem.kept + 2 * n
    problem.step, problem.score = problem.beta + q, problem.beta + 2 * q
    problem.solution, problem.pivots = problem.beta + 3 * q, problem.beta + 4 * q
    problem.matrix = problem.beta + 5 * q
    problem.lower = problem.matrix + q * q
    return problem.lower + q * q


cdef inline Py_ssize_t arm_number(const Problem* problem, int side, Py_ssize_t b) noexcept nogil:
    """Return the number of one arm in one stratum."""
    return b * problem.n_groups + (problem.perturbed if side == 1 else 0)


cdef inline Arm arm_at(const Problem* problem, int side, Py_ssize_t b) noexcept nogil:
    """Return the cells of one arm in one stratum."""
    cdef Arm arm
    cdef Py_ssize_t group = arm_number(problem, side, b)
    cdef Py_ssize_t i = side * problem.n_strata + b
    arm.group, arm.cut, arm.min_mu = group_of(problem.table, group), 0, 0
    arm.w = <double*> arm.group.suffix
    arm.v = problem.weights + i * problem.table.n_nodes
    arm.y_above, arm.y_below = problem.totals[i], 0
    if problem.ones != NULL:
        i = problem.table.cell_ptr[group]
        arm.group.n_nodes, arm.group.size_factors = arm.group.n, problem.rates + i
        arm.group.node_s, arm.group.node_log = problem.rates + i, problem.log_rates + i
        arm.w, arm.v = problem.ones, problem.dense + i
    return arm


cdef inline void lay_out_cells(
    Problem* problem, const value_t* values, const int* ranks,
    const int64* run_ptr, const double* numbers, Py_ssize_t n_numbers, const double* slopes,
    Py_ssize_t stride, double* cells,
) noexcept nogil:
    """Make every cell a node, with the size factors and the counts of this gene."""
    cdef Py_ssize_t i, j, k, n_runs = problem.n_groups * problem.n_strata
    cdef Py_ssize_t n = problem.table.cell_ptr[n_runs]
    cdef double shift
    problem.ones, problem.rates = cells, cells + n
    problem.log_rates, problem.dense = cells + 2 * n, cells + 3 * n
    for i in range(n):
        shift = log(problem.table.size_factors[i])
        for j in range(n_numbers):
            shift += numbers[i * n_numbers + j] * slopes[j * stride]
        problem.ones[i], problem.log_rates[i], problem.rates[i] = 1, shift, exp(shift)
    memset(problem.dense, 0, n * sizeof(double))
    for k in range(n_runs):
        for i in range(run_ptr[k], run_ptr[k + 1]):
            problem.dense[problem.table.cell_ptr[k] + ranks[i]] = values[i]


cdef inline void weigh_arm(Problem* problem, int side, Py_ssize_t k, const value_t* values,
                           const int* ranks, const int64* run_ptr) noexcept nogil:
    cdef Py_ssize_t b, i, run
    cdef Arm arm
    problem.perturbed = k
    for b in range(problem.n_strata):
        arm = arm_at(problem, side, b)
        run = arm_number(problem, side, b)
        if problem.ones != NULL:
            arm.y_above = 0
            for i in range(run_ptr[run], run_ptr[run + 1]):
                arm.y_above += values[i]
        else:
            weigh_counts(&arm, values + run_ptr[run], ranks + run_ptr[run],
                         run_ptr[run + 1] - run_ptr[run])
        problem.totals[side * problem.n_strata + b] = arm.y_above


cdef inline Py_ssize_t n_cells(const Problem* problem, int side, Py_ssize_t b) noexcept nogil:
    cdef Py_ssize_t group = arm_number(problem, side, b)
    return problem.table.cell_ptr[group + 1] - problem.table.cell_ptr[group]


cdef inline double predictor(const Problem* problem, int side, Py_ssize_t b,
                             const double* beta) noexcept nogil:
    """Return the log mean of the cells of an arm in a stratum, per size factor."""
    cdef Py_ssize_t j
    cdef double eta = 0
    if problem.diagonal:
        eta = beta[b]
    else:
        for j in range(problem.n_columns):
            eta += problem.design[b * problem.n_columns + j] * beta[j]
    if side + 1 == problem.shifted:
        eta += beta[problem.n_columns]
    return eta
