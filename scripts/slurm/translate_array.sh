#!/bin/bash
# Translate a folder of volumes by a job array: each task takes its share, and again only what is missing.
#
#     sbatch --array=1-16 scripts/slurm/translate_array.sh RUN INPUT_FOLDER OUTPUT_FOLDER [--direction BA ...]
#
# A task that was cut short queues again by itself and goes on; translations that stand are left alone.

#SBATCH --job-name=medgan-translate
#SBATCH --array=1-16
#SBATCH --ntasks=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log

set -eu
run=$1 input=$2 output=$3
shift 3
medgan translate "$run" "$input" --output "$output" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_MAX" "$@"
