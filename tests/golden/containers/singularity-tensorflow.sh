# The image has its packages; not those of this node, nor of ~/.local.
export PYTHONPATH=$HPCRUN_WORKING_DIRECTORY:/lab/history/users/ada/sdk/0.1.0-0123456789ab PYTHONNOUSERSITE=${PYTHONNOUSERSITE-1}



# What it sees of the node, and what of the site's folders is there.
binds=(/lab/history:/lab/history /tmp:/tmp '/data/it'"'"'s mine:/mine:ro')
for folder in /home/ada "${SCRATCH:-}" /data "${TMPDIR:-}" "${HPCRUN_RESUME_FROM:-}"; do
    if [ -e "$folder" ] && [[ $folder != /lab/history/* && " ${binds[*]}" != *" $folder:"* ]]; then binds+=("$folder:$folder"); fi
done
# It hands on all variables but PATH, and shows $HOME and /tmp by itself.
container=(env singularity exec)
for bind in "${binds[@]}"; do container+=(--bind "$bind"); done
container+=(--nv --one 'two words' docker://python:3.12)

task=(sh /lab/history/users/ada/sdk/0.1.0-0123456789ab/hpcrun/agent/task.sh python3 train.py)
task=("${container[@]}" "${task[@]}")
step=(srun --nodes=2 --ntasks=2 --ntasks-per-node=1)
step+=(--kill-on-bad-exit=1 --wait=60)
# Parameter servers serve until they are told to end. The workers decide how the run ends, unless a server falls before.
# srun hands USR2 on to its tasks; TERM would have it kill them (22.05).
servers=(srun --overlap --mem=0 --relative=0 --nodes=1 --ntasks=1
    --ntasks-per-node=1 --kill-on-bad-exit=1 --wait=60 --wait=0 env HPCRUN_ROLE=ps "${task[@]}")
late='trap : TERM INT HUP USR1 USR2 CONT
    "${@:2:$1}" &
    servers=$!
    "${@:$1 + 2}" &
    workers=$!
    fallen=0
    while kill -0 "$workers" && kill -0 "$servers"; do wait -n; done 2>/dev/null
    if kill -0 "$workers" 2>/dev/null; then
        wait "$servers" || { fallen=$?; kill "$workers"; }
    fi
    while kill -0 "$workers" 2>/dev/null; do wait "$workers"; done
    wait "$workers"
    status=$?
    kill -USR2 "$servers" 2>/dev/null
    for _ in {1..100}; do kill -0 "$servers" 2>/dev/null || break; sleep 0.2; done
    kill "$servers" 2>/dev/null
    wait "$servers"
    [ "$fallen" = 0 ] || status=$fallen
    exit "$status"'
command=(bash -c "$late" bash "${#servers[@]}" "${servers[@]}" "${step[@]}" "${task[@]}")
