#!/bin/sh
# The four rounds, in order. Each trains policy and PPM afresh from the base with the files of round 4, of which only the
# folders differ. Set total_steps in 41_policy.yaml and 42_ppm.yaml for each round's number of rows first.
#     sh configs/recipes/rstar_math/qwen25_math_7b/rounds.sh [FIRST_ROUND]
set -eu
recipe=configs/recipes/rstar_math/qwen25_math_7b
runs=runs/rstar_math_qwen25_math_7b
sharded="--config configs/hardware/fsdp2.yaml"
for round in 1 2 3 4; do
    [ "$round" -lt "${1:-1}" ] && continue
    harness trees --config $recipe/${round}0_trees.yaml
    harness fit --config $recipe/41_policy.yaml $sharded --run_dir $runs/${round}1_policy \
        --data.init_args.train_files "[$runs/${round}0_trees/traces.jsonl]"
    # The PPM of round 1 starts from the base (an author's answer), later ones from the round's policy.
    start=$runs/${round}1_policy/hf
    [ "$round" = 1 ] && start=Qwen/Qwen2.5-Math-7B
    harness fit --config $recipe/42_ppm.yaml $sharded --run_dir $runs/${round}2_ppm \
        --model.init_args.checkpoint "$start" --data.init_args.train_files "[$runs/${round}0_trees/pairs.jsonl]"
done
