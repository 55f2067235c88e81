#!/bin/bash
# The negative binomial test of a screen as job arrays of SLURM.
#
#     bash slurm_nb_glm.sh SCREEN.h5ad RESULT.h5ad
#
# The folder of the result must be one that all nodes see. A block that failed is run again by
# submitting its array again: blocks that are there are left as they are.
set -euo pipefail
screen=$1
result=$2

srun --cpus-per-task=8 --mem=16G \
    crispyx de plan nb-glm "$screen" --perturbation-column perturbation \
    --memory-limit-gb 8 --executor processes --json -o "$result" > "$result.plan.json"
folder=$(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["folder"])' \
    "$result.plan.json")
passes=$(python -c '
import json, sys
for one in json.load(open(sys.argv[1]))["passes"]:
    print("{first}-{last}".format(**one))' "$result.plan.json")

before=""
for blocks in $passes; do # each pass waits for all blocks of the one before
    before=$(sbatch --parsable ${before:+--dependency=afterok:$before} --array="$blocks" \
        --cpus-per-task=2 --mem=10G \
        --wrap "crispyx de run-block '$folder' --block \$SLURM_ARRAY_TASK_ID --threads 2")
done
sbatch --parsable --dependency=afterok:"$before" --cpus-per-task=2 --mem=10G \
    --wrap "crispyx de assemble '$folder'"
