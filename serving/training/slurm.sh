#!/bin/bash
# A training by one worker on each of two nodes: sbatch serving/training/slurm.sh /data/dataset --run /data/runs/joint
# /data is a disk that all nodes read; the words are those of amzrec train. Submitted again, it goes on where it stopped.
#SBATCH --job-name=amzrec
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --signal=TERM@120
set -euo pipefail
export AMZREC_HOSTS AMZREC_PORT=$((20000 + SLURM_JOB_ID % 20000))
AMZREC_HOSTS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | paste -sd ' ')

# each task: its number among the workers is SLURM_PROCID, and it listens at AMZREC_PORT + that number
exec srun --kill-on-bad-exit=1 bash -euc '
    workers="" number=0
    for host in $AMZREC_HOSTS; do
        workers+="${workers:+, }\"$host:$((AMZREC_PORT + number))\""
        number=$((number + 1))
    done
    export TF_CONFIG="{\"cluster\": {\"worker\": [$workers]}, \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
    exec amzrec train "$@" --strategy multi-worker --resume
' amzrec "$@"
