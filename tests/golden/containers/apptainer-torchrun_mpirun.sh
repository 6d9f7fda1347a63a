# The image has its packages; not those of this node, nor of ~/.local.
export PYTHONPATH=$HPCRUN_WORKING_DIRECTORY:/lab/history/users/ada/sdk/0.1.0-0123456789ab PYTHONNOUSERSITE=${PYTHONNOUSERSITE-1}



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
# MPI starts one torchrun on each node and numbers them; all are told where the first one listens.
# Its processes must not take what MPI says of their torchrun for what it says of them.
late='node=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${MV2_COMM_WORLD_RANK:?MPI numbers no node}}}
    unset OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_SIZE OMPI_COMM_WORLD_LOCAL_RANK OMPI_COMM_WORLD_LOCAL_SIZE
    unset PMI_RANK PMI_SIZE MV2_COMM_WORLD_RANK MV2_COMM_WORLD_SIZE MV2_COMM_WORLD_LOCAL_RANK MV2_COMM_WORLD_LOCAL_SIZE
    exec "$0" -m torch.distributed.run --node-rank="$node" "$@"'
torchrun=(sh -c "$late" python3 --master-addr="$HPCRUN_MASTER_ADDR" --master-port="$HPCRUN_MASTER_PORT")
# SRUN_* would reach the srun by which Open MPI starts its daemons.
unset "${!SRUN_@}"
step=(mpirun -np 2 --map-by ppr:1:node --bind-to none)
# torchrun gives each process one thread unless it is told.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# It puts values in place of $local_rank and makes $ of $$; without -- it heeds words such as --no.
torchrun+=(--nnodes=2 --nproc-per-node=2 --no-python -- "${task[@]//\$/\$\$}")
torchrun=("${container[@]}" "${torchrun[@]}")
command=("${step[@]}" "${torchrun[@]}")
