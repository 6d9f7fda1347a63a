#!/bin/bash
#SBATCH --job-name=digits_1700000000_0123abcd
#SBATCH --comment=hpcrun:digits_1700000000_0123abcd.1
#SBATCH --chdir=/lab/history/users/ada/files/2023-11/digits_1700000000_0123abcd
#SBATCH --output=/lab/history/users/ada/files/2023-11/digits_1700000000_0123abcd/user_logs/batch-1.log
#SBATCH --open-mode=append
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --time=0-01:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --partition=gpu
#SBATCH --qos=normal
# Run digits_1700000000_0123abcd. Written by hpcrun 0.1.0.

# Slurm's signal before the time limit may come before the agent listens.
trap 'export HPCRUN_WARNED=yes' USR1
export HPCRUN_RUN_ID=digits_1700000000_0123abcd
export HPCRUN_EXPERIMENT=digits
export HPCRUN_WORKSPACE=/lab/history
export HPCRUN_RECORD=/lab/history/users/ada/active/digits_1700000000_0123abcd
export HPCRUN_FILES=/lab/history/users/ada/files/2023-11/digits_1700000000_0123abcd
export HPCRUN_LAUNCHER=srun
export HPCRUN_DISTRIBUTED=mpi
# hpcrun resubmit --resume-from gives the checkpoint as the second argument.
[ -z "${2:-}" ] || export HPCRUN_RESUME_ANEW=yes HPCRUN_RESUME_FROM=$2 HPCRUN_RESUME_ARGUMENT=--resume-from
# The submission (`hpcrun resubmit` gives a later one its number), and the count of requeues in it;
# the variable is absent on a first run.
export HPCRUN_ATTEMPT=${1:-1}.${SLURM_RESTART_COUNT:-0}
export HPCRUN_SPOOL=/tmp/hpcrun-0123abcd-$HPCRUN_ATTEMPT
export HPCRUN_JOB_ID=${SLURM_JOB_ID:-${HPCRUN_JOB_ID:-$$}}
export HPCRUN_WORKING_DIRECTORY=$HPCRUN_FILES
export HPCRUN_OUTPUT_DIRECTORY=$HPCRUN_WORKING_DIRECTORY/outputs

# A submission runs once: the first job to claim it runs, the same job again is a requeue,
# any other job is a duplicate.
claim=$HPCRUN_RECORD/claim-${HPCRUN_ATTEMPT%.*}
printf '%s\n' "$HPCRUN_JOB_ID" > "$claim.$HPCRUN_JOB_ID" || { echo "hpcrun: cannot write $HPCRUN_RECORD on $(hostname)" >&2; exit 1; }
ln "$claim.$HPCRUN_JOB_ID" "$claim" 2>/dev/null || [ -e "$claim" ] || mv -n "$claim.$HPCRUN_JOB_ID" "$claim"
rm -f "$claim.$HPCRUN_JOB_ID"
read -r holder < "$claim"
if [ "$holder" != "$HPCRUN_JOB_ID" ]; then
    echo "hpcrun: job $HPCRUN_JOB_ID is a duplicate: this submission is claimed by $holder"
    exit 0
fi



export VIRTUAL_ENV=/tmp/hpcrun-0123abcd-env/root
export PATH=/tmp/hpcrun-0123abcd-env/root/bin:$PATH
export OMPI_MCA_pml=ucx
export NCCL_SOCKET_IFNAME=ib0
# The snapshot first, then the part of hpcrun that `from hpcrun import Run` needs.
export PYTHONPATH=$HPCRUN_WORKING_DIRECTORY:/lab/history/users/ada/sdk/0.1.0-0123456789ab${PYTHONPATH:+:$PYTHONPATH}

export HPCRUN_NNODES=2
export HPCRUN_NPROC_PER_NODE=1
export HPCRUN_WORLD_SIZE=2
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export HPCRUN_NODELIST="${nodes[*]}" HPCRUN_MASTER_ADDR=${nodes[0]}
# Below the range that Linux gives to clients, seven for each job in turn; the first that is free here.
HPCRUN_MASTER_PORT=$((12000 + (${SLURM_JOB_ID:-$$} * 7 + ${HPCRUN_ATTEMPT#*.}) % 18000))
# Where ss is not there, the kernel goes through all connections that there could be: 10 ms and more.
while [ -n "$(PATH=/usr/sbin:/usr/bin:/sbin:/bin ss -Hltn "sport = :$HPCRUN_MASTER_PORT" 2>/dev/null ||
    grep -hs ":$(printf %04X "$HPCRUN_MASTER_PORT") [0-9A-F]*:0000 0A " /proc/net/tcp /proc/net/tcp6)" ]; do
    HPCRUN_MASTER_PORT=$((HPCRUN_MASTER_PORT + 1))
done
export HPCRUN_MASTER_PORT
# As Azure ML tells MPI programs where the first node is.
export AZ_BATCHAI_MPI_MASTER_NODE=$HPCRUN_MASTER_ADDR
export AZ_BATCH_MASTER_NODE=$HPCRUN_MASTER_ADDR:$HPCRUN_MASTER_PORT

# The environment is one file. Each node unpacks it on its own disk, where PATH and the command name it.
stage=(env -u SLURM_GPUS -u SLURM_GPUS_PER_NODE -u SLURM_GPUS_PER_TASK srun --overlap --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=1 --mem=0 --gres=none --mpi=none sh /lab/history/users/ada/sdk/0.1.0-0123456789ab/hpcrun/agent/stage.sh)
broadcast=(sbcast --force /lab/packs/torch.tar.gz /tmp/hpcrun-0123abcd-env/packed)
export HPCRUN_STAGED=/tmp/hpcrun-0123abcd-env
# A task on each node removes it all, until it hears that the agent has taken over: the job may be canceled meanwhile.
exec {hold}> >(setsid "${stage[@]}" hold "$HPCRUN_STAGED")
export HPCRUN_HOLD=$hold
kib=''
sha256=''
read -r kib sha256 < /lab/packs/torch.tar.gz.facts || echo hpcrun: cannot read /lab/packs/torch.tar.gz on "$(hostname)" >&2
if [ -n "$sha256" ] && "${stage[@]}" room "$HPCRUN_STAGED" "$kib" && "${broadcast[@]}"; then
    "${stage[@]}" unpack "$HPCRUN_STAGED" "$sha256" /envs/torch yes
else
    "${stage[@]}" share "$HPCRUN_STAGED" /envs/torch
fi || { "${stage[@]}" remove "$HPCRUN_STAGED"; exit 1; }


task=(sh /lab/history/users/ada/sdk/0.1.0-0123456789ab/hpcrun/agent/task.sh /tmp/hpcrun-0123abcd-env/root/bin/python train.py)
step=(srun --nodes=2 --ntasks=2 --ntasks-per-node=1)
step+=(--mpi=pmix)
step+=(--kill-on-bad-exit=1 --wait=60)
command=("${step[@]}" "${task[@]}")

agent=(/opt/hpcrun/bin/python -I -S /lab/history/users/ada/sdk/0.1.0-0123456789ab)
# A warning signal that comes before the agent listens must not end the job.
trap '' USR1 USR2
if timeout 60 "${agent[@]}" check; then
    exec "${agent[@]}" run -- "${command[@]}"
fi

# The agent cannot run here: the command runs all the same, `hpcrun collect` gathers later.
unset HPCRUN_SPOOL
trap : USR1 USR2
(echo >&"$hold") 2>/dev/null
exec {hold}>&-
# It may be its Python that this node has not.
cd "$HPCRUN_FILES" && { "${agent[@]}" lay || /tmp/hpcrun-0123abcd-env/root/bin/python "${agent[@]:1}" lay || python3 "${agent[@]:1}" lay; }
"${command[@]}"
status=$?
"${stage[@]}" remove "$HPCRUN_STAGED"
printf '%s\n' "$status" > "$HPCRUN_RECORD/exit-$HPCRUN_ATTEMPT"
exit "$status"
