# The image has its packages; not those of this node, nor of ~/.local.
export PYTHONPATH=$HPCRUN_WORKING_DIRECTORY:/lab/history/users/ada/sdk/0.1.0-0123456789ab PYTHONNOUSERSITE=${PYTHONNOUSERSITE-1}

# As Azure ML tells MPI programs where the first node is.
export AZ_BATCHAI_MPI_MASTER_NODE=$HPCRUN_MASTER_ADDR
export AZ_BATCH_MASTER_NODE=$HPCRUN_MASTER_ADDR:$HPCRUN_MASTER_PORT


# What it sees of the node, and what of the site's folders is there.
binds=(/lab/history:/lab/history /tmp:/tmp '/data/it'"'"'s mine:/mine:ro')
for folder in /home/ada "${SCRATCH:-}" /data "${TMPDIR:-}" "${HPCRUN_RESUME_FROM:-}"; do
    if [ -e "$folder" ] && [[ $folder != /lab/history/* && " ${binds[*]}" != *" $folder:"* ]]; then binds+=("$folder:$folder"); fi
done
# It hands on all variables but PATH, and shows $HOME and /tmp by itself.
container=(env apptainer exec)
for bind in "${binds[@]}"; do container+=(--bind "$bind"); done
container+=(--nv --one 'two words' /home/ada/images/torch.sif)

task=(sh /lab/history/users/ada/sdk/0.1.0-0123456789ab/hpcrun/agent/task.sh python3 train.py)
task=("${container[@]}" "${task[@]}")
# Open MPI reads the allocation itself; SRUN_* would reach the srun by which it starts its daemons.
unset "${!SRUN_@}"
command=(mpirun -np 2 --map-by ppr:1:node --bind-to none "${task[@]}")
