#!/usr/bin/env bash
# Control grid of arXiv:2412.17256, appendix E: Online RFT with each of 22 settings kept for all nine iterations. Table 6
# gives GSM8K / MATH for two of them: 46.8 / 23.2 at (1.0, 0.0) and 40.4 / 18.2 at (1.1, -0.1).
# Finished runs are left alone and interrupted ones go on, so the script may be started again. Further options
# (such as --config configs/hardware/fsdp2.yaml) are passed on to every run.
set -euo pipefail
settings=(1.0,0.0 1.1,-0.1)
for temperature in 0.5 0.7 0.9 1.1; do
  for threshold in -0.4 -0.2 0.0 0.2 0.4; do settings+=("$temperature,$threshold"); done
done
for setting in "${settings[@]}"; do
  temperature=${setting%,*} threshold=${setting#*,}
  run=runs/bstar_math_mistral7b/50_static_grid/temperature_${temperature}_threshold_$threshold
  harness fit --config configs/recipes/bstar/math_mistral7b/30_online_rft.yaml "$@" --run_dir "$run" --ckpt_path last \
    --trainer.callbacks.init_args.scheduler.init_args.sampling.temperature "$temperature" \
    --trainer.callbacks.init_args.scheduler.init_args.reward_threshold="$threshold"
done
