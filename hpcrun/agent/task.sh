#!/bin/sh
# One task of a run: sh task.sh WORD...
# Maps the launcher's variables to RANK and its kin, directs the output, records the exit status.

fail() {
    echo "hpcrun: $1" >&2
    exit 1
}

# -- which rank is this? ------------------------------------------------------------------------

read -r host </proc/sys/kernel/hostname

# The host's place among the nodes; names may be short or full.
node_rank() {
    place=0
    for node in $HPCRUN_NODELIST; do
        if [ "${node%%.*}" = "${host%%.*}" ]; then
            echo "$place"
            return
        fi
        place=$((place + 1))
    done
    echo 0
}

# A launcher that numbers nothing would make many worlds of one.
numbered() {
    [ -n "$1" ] || fail "$HPCRUN_LAUNCHER gave this process no rank; does its MPI type fit?"
}

of_slurm() {
    numbered "$SLURM_PROCID"
    RANK=$SLURM_PROCID
    LOCAL_RANK=$SLURM_LOCALID
    NODE_RANK=$SLURM_NODEID
    WORLD_SIZE=${SLURM_STEP_NUM_TASKS:-$SLURM_NTASKS}
    LOCAL_WORLD_SIZE=${HPCRUN_NPROC_PER_NODE:-1}
}

# Open MPI's names, MPICH's and Intel's, or MVAPICH's.
of_mpi() {
    RANK=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${MV2_COMM_WORLD_RANK:-}}}
    numbered "$RANK"
    NODE_RANK=$(node_rank)
    WORLD_SIZE=${OMPI_COMM_WORLD_SIZE:-${PMI_SIZE:-${MV2_COMM_WORLD_SIZE:-}}}
    LOCAL_WORLD_SIZE=${OMPI_COMM_WORLD_LOCAL_SIZE:-${MPI_LOCALNRANKS:-${MV2_COMM_WORLD_LOCAL_SIZE:-$HPCRUN_NPROC_PER_NODE}}}
    LOCAL_RANK=${OMPI_COMM_WORLD_LOCAL_RANK:-${MPI_LOCALRANKID:-${MV2_COMM_WORLD_LOCAL_RANK:-$((RANK % LOCAL_WORLD_SIZE))}}}
}

# The nodes' names with a port, the first N of them, as JSON: addresses PORT N
addresses() {
    comma=
    place=0
    for node in $HPCRUN_NODELIST; do
        [ "$place" -lt "$2" ] || break
        printf '%s"%s:%s"' "$comma" "$node" "$1"
        comma=', '
        place=$((place + 1))
    done
}

# Workers come first, a worker on each node; then parameter servers, on the first nodes.
tensorflow() {
    servers=$((HPCRUN_WORLD_SIZE - HPCRUN_NNODES))
    role=${HPCRUN_ROLE:-worker}
    TF_CONFIG=$(
        printf '{"cluster": {"worker": [%s]' "$(addresses "$HPCRUN_MASTER_PORT" "$HPCRUN_NNODES")"
        [ "$servers" = 0 ] || printf ', "ps": [%s]' "$(addresses "$((HPCRUN_MASTER_PORT + 1))" "$servers")"
        printf '}, "task": {"type": "%s", "index": %s}, "environment": "cloud"}' "$role" "$RANK"
    )
    export TF_CONFIG
    if [ "$role" = ps ]; then
        RANK=$((HPCRUN_NNODES + RANK))
        LOCAL_RANK=1
        export CUDA_VISIBLE_DEVICES=-1
    fi
    WORLD_SIZE=$HPCRUN_WORLD_SIZE
    LOCAL_WORLD_SIZE=1
    [ "$NODE_RANK" -ge "$servers" ] || LOCAL_WORLD_SIZE=2
}

case ${HPCRUN_LAUNCHER:-plain} in
plain)
    RANK=0
    LOCAL_RANK=0
    NODE_RANK=0
    WORLD_SIZE=1
    LOCAL_WORLD_SIZE=1
    ;;
srun)
    of_slurm
    ;;
torchrun*)
    numbered "$RANK"
    NODE_RANK=${GROUP_RANK:-0}
    ;;
mpirun)
    of_mpi
    ;;
tensorflow)
    of_slurm
    tensorflow
    ;;
*) # a site's own starter; where it uses srun, MPI names nothing before MPI_Init
    if [ -n "${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${MV2_COMM_WORLD_RANK:-}}}" ]; then
        of_mpi
    else
        of_slurm
    fi
    ;;
esac
case $HPCRUN_LAUNCHER in
torchrun*) ;;
*)
    MASTER_ADDR=${HPCRUN_MASTER_ADDR:-127.0.0.1}
    MASTER_PORT=${HPCRUN_MASTER_PORT:-29500}
    ;;
esac
export RANK LOCAL_RANK NODE_RANK WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT
case $HPCRUN_DISTRIBUTED in
mpi | horovod) # scripts that were written for Azure ML read these, whatever MPI it is
    export OMPI_COMM_WORLD_RANK="$RANK" OMPI_COMM_WORLD_SIZE="$WORLD_SIZE"
    export OMPI_COMM_WORLD_LOCAL_RANK="$LOCAL_RANK" OMPI_COMM_WORLD_LOCAL_SIZE="$LOCAL_WORLD_SIZE"
    ;;
esac
export PYTHONUNBUFFERED="${PYTHONUNBUFFERED-1}"

# A list with commas, from its end.
turned() {
    left=
    for value in $(echo "$1" | tr ',' ' '); do
        left=$value${left:+,$left}
    done
    echo "$left"
}

# The numbers of this node's GPUs, with commas.
every_gpu() {
    left=0
    place=1
    while [ "$place" -lt "$SLURM_GPUS_ON_NODE" ]; do
        left=$left,$place
        place=$((place + 1))
    done
    echo "$left"
}

# The GPUs that a site wants the process to see, of a list with commas.
visible() {
    value=$1
    if [ "$HPCRUN_GPU_VISIBILITY" = all ]; then
        # shellcheck disable=SC2046  # its fields
        set -- $(echo "$value" | tr ',' ' ')
        # Jobs that are confined to their devices number them from 0. In others what Slurm names
        # may be anywhere on the node, and the rest is not theirs.
        case $#-,$(every_gpu), in
        "$SLURM_GPUS_ON_NODE"-*) ;;
        *",$1,"*) value=$(every_gpu) ;;
        esac
    fi
    # The last is nearest to the first CPUs.
    [ "$HPCRUN_GPU_ORDER" != reversed ] || value=$(turned "$value")
    [ "$HPCRUN_GPU_VISIBILITY" != localid ] || value=$(echo "$value" | cut -d , -f "$((LOCAL_RANK + 1))")
    echo "$value"
}

# A parameter server sees none.
if [ -n "$HPCRUN_GPU_ORDER$HPCRUN_GPU_VISIBILITY" ] && [ -n "$SLURM_GPUS_ON_NODE" ] && [ "$CUDA_VISIBLE_DEVICES" != -1 ]; then
    # Slurm may tell neither (--gpu-bind=none, 22.05) or both (without AutoDetect); AMD's driver tells
    # whose GPUs they are. ROCm heeds both, numbers of the second among those of the first.
    if [ -e /dev/kfd ]; then
        export ROCR_VISIBLE_DEVICES="${ROCR_VISIBLE_DEVICES:-${CUDA_VISIBLE_DEVICES:-$(every_gpu)}}"
        unset CUDA_VISIBLE_DEVICES
    elif [ -z "$CUDA_VISIBLE_DEVICES$ROCR_VISIBLE_DEVICES" ]; then
        export CUDA_VISIBLE_DEVICES="$(every_gpu)"
    fi
    [ -z "$CUDA_VISIBLE_DEVICES" ] || CUDA_VISIBLE_DEVICES=$(visible "$CUDA_VISIBLE_DEVICES")
    [ -z "$ROCR_VISIBLE_DEVICES" ] || ROCR_VISIBLE_DEVICES=$(visible "$ROCR_VISIBLE_DEVICES")
fi

# -- where does it write? -----------------------------------------------------------------------

if [ -n "$HPCRUN_SPOOL" ]; then
    [ -d "$HPCRUN_SPOOL" ] || mkdir -m 700 "$HPCRUN_SPOOL" 2>/dev/null
    if [ ! -d "$HPCRUN_SPOOL" ] || [ -L "$HPCRUN_SPOOL" ] || [ ! -O "$HPCRUN_SPOOL" ]; then
        unset HPCRUN_SPOOL
    fi
fi

# A line in the spool, whole or not at all.
note() {
    [ -z "$HPCRUN_SPOOL" ] || { echo "$2" >>"$HPCRUN_SPOOL/$1"; } 2>/dev/null
}

# With the time when it began, in the kernel's ticks (the 22nd field of its stat), a pid is a name.
note_start() {
    read -r stat </proc/$$/stat
    # shellcheck disable=SC2086  # its fields
    set -- ${stat##*) }
    note starts "$RANK $$ ${20}"
}

logs=$HPCRUN_FILES/user_logs/$HPCRUN_ATTEMPT
many=
log=$logs/rank-$RANK.log
if [ "$WORLD_SIZE" -gt 64 ]; then
    many=yes
    log=$logs/node-$host.log
fi
# `true` is no special builtin: a redirection of `:` that fails would end this shell.
if ! { cd "${HPCRUN_WORKING_DIRECTORY:-$HPCRUN_FILES}" && { [ -d "$logs" ] || mkdir -p "$logs"; } && true >>"$log"; } 2>/dev/null; then
    echo "hpcrun: rank $RANK cannot write to $log" >&2
    many=
    log=
fi

# Puts the rank's number before every line, until nobody writes any more. Where the last line has
# no end, the mark that is written behind it gives it one; it is taken out again. It is no child of
# this shell: bash 5.2 would wait for it where it has lost the status of the command.
marker=
if [ -n "$many" ]; then
    mark=$(printf '\001')
    pipe=${HPCRUN_SPOOL:-${TMPDIR:-/tmp}}/output-$RANK-$$
    if mkfifo -m 600 "$pipe"; then
        exec 4<>"$pipe" # no end waits for the other to be opened
        marker=$(
            trap '' TERM INT HUP QUIT USR1 USR2
            sed -u "/^$mark\$/d; s/$mark\$//; s/^/[$RANK] /" <"$pipe" >>"$log" 4>&- &
            echo $!
        )
        exec 3>"$pipe" 4>&-
        rm -f "$pipe"
    fi
fi

# -- the command --------------------------------------------------------------------------------

# Shells start what runs in the background with INT and QUIT ignored; bash can take that back by
# itself, others need a helper. Where there is none (busybox alone), they stay ignored.
as_new() {
    if [ -z "$BASH_VERSION" ]; then
        if env --default-signal=INT,QUIT >/dev/null 2>&1; then
            exec env --default-signal=INT,QUIT sh -c 'exec "$@"' sh "$@"
        elif perl -e 1 2>/dev/null; then
            exec perl -e '$SIG{INT} = $SIG{QUIT} = "DEFAULT"; exec { $ARGV[0] } @ARGV; exit 127' -- "$@"
        fi
    fi
    exec "$@"
}

start() {
    (
        trap - TERM INT QUIT HUP USR1 USR2 CONT
        as_new "$@"
    ) </dev/null &
    child=$!
}

# A signal that comes before the child is there waits for it. caught: what `wait` gives for them.
# shellcheck disable=SC2317  # it is called by traps
pass() {
    caught="$caught $2"
    if [ -n "$child" ]; then
        kill -s "$1" "$child" 2>/dev/null
    else
        early="$early $1"
    fi
}

# Waits for the child's true status: a trap ends `wait` early, with 128 + n. Where the child ends in
# that very moment, bash may have lost it (-1, 5.2); the others give 127 when asked once too often.
reap() {
    while :; do
        wait "$child" 2>/dev/null
        status=$?
        case " $caught -1 " in
        *" $status "*) ;;
        *) return ;;
        esac
        kill -0 "$child" 2>/dev/null || break
    done
    wait "$child" 2>/dev/null
    again=$?
    case $again in
    127 | -1) [ "$status" != -1 ] || status=${caught##* } ;;
    *) status=$again ;;
    esac
}

# In POSIX mode bash forgets a status once it was asked for.
# shellcheck disable=SC3040
[ -z "$BASH_VERSION" ] || set +o posix

child=
early=
caught=
trap 'pass HUP 129' HUP
trap 'pass INT 130' INT
trap 'pass QUIT 131' QUIT
trap 'pass USR1 138' USR1
trap 'pass USR2 140' USR2
trap 'pass TERM 143' TERM
trap 'pass CONT 146' CONT
[ "${HPCRUN_ROLE:-}" != ps ] || trap 'pass TERM 140' USR2

# shellcheck disable=SC2016  # they are meant as they stand
open='${{'
close='}}'

# The place of an input or output, as its variable tells it.
datum() {
    case $1 in
    *[!a-zA-Z0-9_.]*) value=$open$1$close ;;
    inputs.*) eval "value=\${HPCRUN_INPUT_$(capitals "${1#*.}")}" ;;
    *) eval "value=\${HPCRUN_OUTPUT_$(capitals "${1#*.}")}" ;;
    esac
}

capitals() {
    printf %s "$1" | LC_ALL=C tr a-z A-Z
}

# Puts this rank's values in place of the ${{rank}} and its kin of a word; $${{ is ${{ itself.
fill() {
    left=$1
    word=
    while :; do
        case $left in
        *"$open"*"$close"*) ;;
        *) break ;;
        esac
        word=$word${left%%"$open"*}
        left=${left#*"$open"}
        name=${left%%"$close"*}
        case $name in
        *[{}]*)
            word=$word$open
            continue
            ;;
        esac
        left=${left#*"$close"}
        case $word in
        *'$')
            word=${word%?}$open$name$close
            continue
            ;;
        esac
        name=${name# }
        case ${name% } in
        rank) value=$RANK ;;
        world_size) value=$WORLD_SIZE ;;
        local_rank) value=$LOCAL_RANK ;;
        local_world_size) value=$LOCAL_WORLD_SIZE ;;
        node_rank) value=$NODE_RANK ;;
        master_addr) value=$MASTER_ADDR ;;
        master_port) value=$MASTER_PORT ;;
        task_index) value=$HPCRUN_TASK_INDEX ;;
        task_count) value=$HPCRUN_TASK_COUNT ;;
        inputs.* | outputs.*) datum "${name% }" ;;
        *) value=$open$name$close ;;
        esac
        word=$word$value
    done
    word=$word$left
}

# The variable says how many words before the others are left as they are.
if [ -n "$HPCRUN_PLACEHOLDERS" ]; then
    place=0
    for word; do
        shift
        [ "$place" -lt "$HPCRUN_PLACEHOLDERS" ] || fill "$word"
        set -- "$@" "$word"
        place=$((place + 1))
    done
    unset HPCRUN_PLACEHOLDERS
fi

# With a checkpoint to go on from, if the run asks for the argument (resume_from).
if [ -n "$HPCRUN_RESUME_ARGUMENT" ] && [ -n "$HPCRUN_RESUME_FROM" ]; then
    set -- "$@" "$HPCRUN_RESUME_ARGUMENT" "$HPCRUN_RESUME_FROM"
fi

# Whether a command can be executed.
is_there() {
    case $1 in
    */*) [ -f "$1" ] && [ -x "$1" ] ;;
    *) command -v -- "$1" >/dev/null 2>&1 ;;
    esac
}

# Whether the kernel has killed a process of this task for memory: Slurm's groups are new for each
# step, and gone soon after it. Version 1 counts in one file, version 2 in another.
killed_for_memory() {
    while IFS=: read -r _ controllers group; do
        case $group in
        */job_*/step_*) ;;
        *) continue ;;
        esac
        case ,$controllers, in
        ,,) counts=/sys/fs/cgroup$group/memory.events ;;
        *,memory,*) counts=/sys/fs/cgroup/memory$group/memory.oom_control ;;
        *) continue ;;
        esac
        while read -r name count; do
            [ "$name" != oom_kill ] || [ "$count" = 0 ] || return 0
        done <"$counts"
    done </proc/self/cgroup 2>/dev/null
    return 1
}

# Our own line, where the rank's output goes.
say() {
    if [ -n "$marker" ]; then
        echo "hpcrun: $1" >&3
    elif [ -n "$log" ]; then
        echo "hpcrun: $1" >>"$log"
    else
        echo "hpcrun: $1" >&2
    fi
}

note_start
if [ -n "$marker" ]; then
    start "$@" >&3 2>&1 3>&-
elif [ -n "$log" ]; then
    start "$@" >>"$log" 2>&1
else
    start "$@"
fi
for name in $early; do
    kill -s "$name" "$child" 2>/dev/null
done
reap
# bash 5.2 cannot run a trap while it reads `$(…)`; nobody is left to pass a signal on to.
trap '' HUP INT QUIT USR1 USR2 TERM CONT
# It is the end that a parameter server has when the workers are done.
case ${HPCRUN_ROLE:-}$status in
ps140 | ps143) status=0 ;;
esac
killed=
[ "$status" != 137 ] || ! killed_for_memory || killed=memory
note exits "$RANK $status $(date +%s.%N) $host${killed:+ $killed}"
case $status in
126 | 127) is_there "$1" || say "rank $RANK on $host cannot start $1" ;;
esac

# Its last lines are waited for; not those of processes that the command left behind.
if [ -n "$marker" ]; then
    trap '' PIPE
    echo "$mark" >&3
    exec 3>&-
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ -e "/proc/$marker/exe" ] || break # a zombie has none
        sleep 0.1
    done
fi
exit "$status"
