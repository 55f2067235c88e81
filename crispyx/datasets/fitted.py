"""Default parameters of the simulator, fitted to real screens.

How each was estimated, and the estimates from the other screens, are in ``docs/datasets.md``.
"""

from __future__ import annotations

# 10x Genomics (2017), 1,000 unselected genes: counts per cell of genes with a mean of 0.01 or more.
GENE_LOG_MEAN = -2.37
GENE_LOG_SD = 1.54

# Norman et al. (2019): UMIs of the whole library per cell.
LIBRARY_LOG_SD = 0.41

# Papalexi et al. (2021), non-targeting cells: dispersion = floor + slope / mean, scatter around it.
DISPERSION_FLOOR = 0.25
DISPERSION_SLOPE = 0.11
DISPERSION_LOG_SD = 0.89

# Papalexi et al. (2021): share of a gene in the library, between three replicates.
BATCH_LOG_SD = 0.093

# Schraivogel et al. (2020), the ten genes of the panel that are targeted at their promoter.
KNOCKDOWN_LOG2FC = -2.29
KNOCKDOWN_LOG2FC_SD = 0.98
GUIDE_EFFICACY_CV = 0.44

# Assumed: no real screen with a known set of downstream genes exists to fit these to.
RESPONDING_FRACTION = 0.02
RESPONSE_LOG2FC_SD = 0.75

# Schraivogel et al. (2020), 86 guides: cells by number of guides at 5 UMIs or more.
MOI = 0.236
FRACTION_WITHOUT_GUIDE = 0.030
CONTROL_GUIDE_FRACTION = 30 / 86
GUIDE_ABUNDANCE_LOG_SD = 0.55

# Schraivogel et al. (2020): the guide of a singly infected cell, and UMIs of all other guides.
SIGNAL_UMI = 70.1
SIGNAL_SIZE = 2.68
SIGNAL_DEPTH_EXPONENT = 0.32
AMBIENT_UMI = 1.53
AMBIENT_DEPTH_EXPONENT = 0.15
