"""The definition against R's DESeq2, on the two-condition data that PyDESeq2 is tested with.

Counts and values are those of PyDESeq2 0.5.4's source distribution (tests/data/single_factor, MIT
license): DESeq2 with its defaults, without independent filtering.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reference.nb_glm import (
    DEFAULT_OPTIONS,
    PYDESEQ2,
    estimate_size_factors,
    nb_glm,
    without_filters,
)

COUNTS = np.fromstring(
    """
    12 1 4 1 1 0 0 2 5 18 3 7 3 23 6 37 1 26 5 1 3 6 2 17 1 24 0 7 1 1 10 0 7 4 3 2 5 0 3 13 1
    7 3 21 1 0 10 3 15 4 10 13 12 9 4 3 9 36 14 3 5 2 8 16 4 16 16 8 3 29 20 7 6 10 8 5 5 10 9
    25 5 2 8 11 17 4 9 12 10 5 0 9 5 27 2 7 1 10 18 21
    21 44 4 10 11 8 14 19 19 11 19 28 9 12 36 14 28 11 19 18 9 14 23 21 18 22 22 18 15 40 31
    37 12 8 7 13 16 13 28 25 22 13 30 13 5 12 21 21 25 26 24 40 32 18 21 52 38 40 21 30 15 54
    17 7 7 26 19 14 35 12 5 20 41 61 27 13 13 7 40 36 34 25 19 22 4 71 29 55 47 11 31 43 13 12
    24 26 14 36 14 9
    4 2 11 2 6 2 17 11 9 8 13 7 4 9 12 7 11 3 0 5 1 1 5 1 3 1 20 7 8 0 2 0 5 3 8 3 5 14 1 13
    11 7 4 7 6 0 11 2 6 2 3 0 30 1 1 0 3 0 2 4 1 3 5 3 4 5 3 1 3 1 3 13 7 1 3 1 1 4 0 1 7 5 5
    1 1 2 6 5 3 1 11 4 12 0 1 3 3 2 3 3
    130 63 180 100 135 36 159 60 66 157 145 51 128 48 154 96 202 136 267 66 110 61 118 71 73
    201 157 119 114 140 205 94 73 81 324 110 304 113 146 110 131 70 178 161 145 39 88 178 63
    137 102 102 80 43 115 42 171 51 89 90 72 26 134 89 70 89 84 70 124 88 96 28 119 101 88 27
    149 48 102 61 203 94 108 125 78 78 80 90 99 87 119 86 112 89 73 67 71 72 66 42
    18 11 21 44 16 26 11 19 7 35 4 39 36 18 28 23 18 5 51 46 10 12 32 22 46 4 14 58 14 18 15
    42 16 27 33 51 35 40 28 17 14 12 29 18 10 14 21 42 10 10 14 41 18 16 36 51 20 61 42 44 30
    54 34 30 27 80 18 46 59 42 11 19 9 17 14 41 13 47 16 46 42 50 37 23 39 15 50 31 14 33 50
    41 21 86 31 11 33 11 53 13
    0 10 3 9 2 3 19 2 3 0 8 0 2 7 6 0 11 1 18 2 12 11 8 0 14 2 5 20 0 2 14 2 3 2 4 4 3 12 3 2
    3 1 3 13 2 0 14 10 6 1 8 2 7 0 6 8 9 9 4 0 4 0 6 11 17 0 15 16 2 4 0 3 3 6 7 2 1 3 12 3 1
    2 3 10 2 1 0 8 8 0 10 0 3 0 12 4 5 2 11 13
    16 70 28 28 32 36 39 41 13 31 28 23 25 22 9 20 34 8 47 26 41 18 13 47 14 25 19 16 18 18 16
    35 28 39 30 15 53 15 45 21 11 80 19 20 41 24 29 34 47 22 11 51 34 11 15 21 34 17 30 30 40
    57 15 22 10 27 48 15 44 10 48 58 33 86 23 24 63 27 15 57 60 16 29 20 12 40 12 28 26 41 4
    20 31 18 27 41 19 66 32 19
    54 32 34 16 29 42 22 83 25 52 41 54 28 65 8 64 12 44 52 62 62 26 21 128 56 100 68 22 75 41
    74 94 34 17 82 48 56 65 36 59 41 33 54 46 44 28 33 66 18 52 22 81 14 41 32 25 20 40 37 19
    48 57 45 28 27 84 47 69 30 55 26 24 16 63 36 29 86 60 38 31 12 28 24 46 34 26 17 59 12 27
    28 32 22 39 33 44 42 27 19 78
    49 57 65 33 31 42 38 46 52 37 5 55 66 35 23 28 46 54 31 62 52 36 35 38 53 25 29 14 35 51
    55 40 74 84 28 33 75 34 65 33 12 23 41 50 36 66 28 48 35 36 54 28 15 33 12 57 59 65 24 33
    16 29 6 43 58 45 21 61 51 44 26 37 36 21 36 37 42 34 38 21 30 30 22 31 10 19 20 51 23 22
    15 45 24 72 67 54 25 16 79 30
    3 9 2 9 5 17 6 12 3 10 3 11 6 21 2 12 9 11 12 8 5 22 16 15 10 6 7 23 17 2 0 10 38 7 7 7 31
    13 10 9 0 9 4 13 11 9 13 10 7 11 2 25 2 32 8 12 17 42 29 3 21 6 7 13 11 18 3 26 4 41 5 19
    30 8 3 7 2 8 30 4 3 7 15 0 1 20 8 9 10 39 13 1 31 28 4 1 4 9 11 5
    """,
    dtype=int,
    sep=" ",
).reshape(10, 100)  # genes x samples
LABELS = np.repeat(["A", "B"], [50, 50])
FIRST_SIZE_FACTORS = [1.22898093727, 1.18877375355, 0.997222288212, 1.00215773267]
DISPERSION = [
    0.8826170908, 0.2225788865, 0.837136787, 0.1589669916, 0.2500183123, 0.9736367974,
    0.2353072016, 0.1987817341, 0.186521745, 0.6318873916,
]  # fmt: skip
LOG2_FOLD_CHANGE = [
    0.6328123153, 0.5385519738, -0.6328318586, -0.4121017315, 0.5820664037, 0.001457300492,
    0.134335684, -0.2706557801, -0.2127146574, 0.3860110893,
]  # fmt: skip
STANDARD_ERROR = [
    0.2891036389, 0.1499629471, 0.2952214535, 0.1186278773, 0.154730436, 0.3103099101,
    0.1499868537, 0.1364016591, 0.133243837, 0.2445861048,
]  # fmt: skip
STATISTIC = [
    2.188877032, 3.591233596, -2.143583575, -3.473902939, 3.761809368, 0.004696274415,
    0.8956497232, -1.984255778, -1.596431491, 1.578221664,
]  # fmt: skip
# With R's size factors and dispersions of each comparison.
OURS = replace(
    DEFAULT_OPTIONS,
    size_factor_method="deseq2",
    scale_size_factors=False,
    dispersion_scope="per_comparison",
)


@pytest.mark.parametrize("options", [PYDESEQ2, OURS], ids=["preset", "defaults"])
def test_estimates_are_those_of_deseq2(options) -> None:
    found = nb_glm(COUNTS.T, LABELS, "A", without_filters(options))
    s = estimate_size_factors(COUNTS.T, options.size_factor_method)
    np.testing.assert_allclose(s[:4], FIRST_SIZE_FACTORS, rtol=1e-9)
    # R stops its searches for dispersions at a change of 1e-6 in the log posterior, which leaves
    # up to 7e-4 of a dispersion; errors and statistics follow with half of that.
    np.testing.assert_allclose(found.dispersion[0], DISPERSION, rtol=1e-3)
    log2 = np.log(2)
    np.testing.assert_allclose(found.standard_error[0] / log2, STANDARD_ERROR, rtol=5e-4)
    np.testing.assert_allclose(found.statistic[0], STATISTIC, rtol=5e-4)
    # Fold changes hardly depend on the dispersion.
    np.testing.assert_allclose(found.log_fold_change[0] / log2, LOG2_FOLD_CHANGE, atol=5e-6)
