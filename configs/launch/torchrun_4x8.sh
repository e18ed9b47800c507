#!/usr/bin/env bash
# Trains on 4 machines of 8 GPUs; start it on each of them, with the name of the first one. RUN must be on a file system
# that all share. A lost rank ends the others, and torchrun starts all again from the last checkpoint, up to three times.
# Launch: bash configs/launch/torchrun_4x8.sh FIRST_MACHINE RECIPE.yaml RUN
set -euo pipefail
first=$1 recipe=$2 run=$3
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-8}"
torchrun --nnodes 4 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint "$first:29500" --max_restarts 3 \
  -m harness fit --config "$recipe" --config configs/hardware/slurm_4x8.yaml --run_dir "$run" --ckpt_path last
