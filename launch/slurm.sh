#!/bin/bash
# One run of open-rs on one or several nodes of Slurm, queued again at its time limit until it is done.
#   sbatch --nodes 2 launch/slurm.sh recipes/open_rs2.toml runs/open_rs2 [key=value ...]
# Submit from the folder that the recipe and the run lie in, on a file system that all nodes share,
# with open-rs on the PATH (an environment that is active, or a module). Partition and account:
# options of sbatch. A process for each GPU; both numbers below must be the same.
#SBATCH --job-name=open-rs
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@600
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
# USR1 goes to the processes of srun, ten minutes before the limit: each saves and ends with
# 128 + 10. That status alone is queued again here. A job that Slurm itself takes its nodes from
# (--requeue) or that was cancelled gets TERM, saves too, and is left to Slurm. So is one whose node
# has died: started again, it knows by the number of its job that the run folder is its own.

set -euo pipefail

if [ "$#" -lt 2 ]; then
    echo "usage: sbatch launch/slurm.sh RECIPE RUN [key=value ...]" >&2
    exit 2
fi
recipe=$1
run=$2
shift 2

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export MASTER_ADDR=${hosts[0]}
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # since 22.05 srun does not take sbatch's

# A run that has begun goes on from its newest intact checkpoint, by its own recipe.
if [ -e "$run/recipe.json" ]; then
    command=(open-rs train --resume "$run")
else
    command=(open-rs train "$recipe" "$@" --out "$run")
fi

# What torchrun would set. Not torchrun: its workers are out of reach of Slurm's signals.
# shellcheck disable=SC2016  # expanded in each process
rank='export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS; exec "$@"'
status=0
srun --kill-on-bad-exit=1 bash -c "$rank" rank "${command[@]}" || status=$?

if [ "$status" -eq 138 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
