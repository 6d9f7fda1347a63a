# The image has its packages; not those of this node, nor of ~/.local.
export PYTHONPATH=$HPCRUN_WORKING_DIRECTORY:/lab/history/users/ada/sdk/0.1.0-0123456789ab PYTHONNOUSERSITE=${PYTHONNOUSERSITE-1}



# What it sees of the node, and what of the site's folders is there.
binds=(/lab/history:/lab/history /tmp:/tmp '/data/it'"'"'s mine:/mine:ro')
for folder in /home/ada "${SCRATCH:-}" /data "${TMPDIR:-}" "${HPCRUN_RESUME_FROM:-}"; do
    if [ -e "$folder" ] && [[ $folder != /lab/history/* && " ${binds[*]}" != *" $folder:"* ]]; then binds+=("$folder:$folder"); fi
done
# It hands on only what is named. An entry point of the image would take the words for its own.
container=(env podman run --rm --network=host --pid=host --ipc=host --entrypoint=)
for name in HPCRUN_ SLURM PMI PMIX_ OMPI_ MV2_ MPI_ CUDA_ NVIDIA_ ROCR_ HIP_ OMP_ AZ_BATCH; do container+=(--env "$name*"); done
for name in PYTHONPATH PYTHONNOUSERSITE TMPDIR NCCL_SOCKET_IFNAME MODE A_KEY; do container+=(--env "$name"); done
for bind in "${binds[@]}"; do container+=(--volume "$bind"); done
container+=(--device nvidia.com/gpu=all --one 'two words' nvcr.io/nvidia/pytorch:24.01-py3)

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
