#!/bin/bash
# Train on the GPUs of one node or of several; queue again when the time is up or a node is wanted back, until the end.
#
#     sbatch scripts/slurm/train.sh EXPERIMENT.yaml RUN [--set section.key=value ...]
#     sbatch --nodes=4 scripts/slurm/train.sh EXPERIMENT.yaml RUN
#     sbatch --ntasks-per-node=1 --gpus-per-node=1 scripts/slurm/train.sh EXPERIMENT.yaml RUN
#
# One rank per GPU. RUN lies on a file system that the nodes share. train.batch_size is that of one rank.

#SBATCH --job-name=medgan-train
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --mem=128G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@300
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

set -u
is_over=no
# Five minutes before the end: srun tells the ranks, which save and end. Then the job queues again.
trap 'is_told=yes is_over=yes; kill -USR1 "$training"' USR1
# Pre-emption: SLURM tells the ranks and queues the job again by itself.
trap 'is_told=yes' TERM

srun --kill-on-bad-exit=1 medgan train "$@" &
training=$!
is_told=yes
while [ "$is_told" = yes ]; do # a signal ends `wait`, not the training
    is_told=no
    wait "$training"
    code=$?
done

if [ "$is_over" = yes ] && [ "$code" = 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
