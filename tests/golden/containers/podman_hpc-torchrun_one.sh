# The image has its packages; not those of this node, nor of ~/.local.
export PYTHONPATH=$HPCRUN_WORKING_DIRECTORY:/lab/history/users/ada/sdk/0.1.0-0123456789ab PYTHONNOUSERSITE=${PYTHONNOUSERSITE-1}



# What it sees of the node, and what of the site's folders is there.
binds=(/lab/history:/lab/history /tmp:/tmp '/data/it'"'"'s mine:/mine:ro')
for folder in /home/ada "${SCRATCH:-}" /data "${TMPDIR:-}" "${HPCRUN_RESUME_FROM:-}"; do
    if [ -e "$folder" ] && [[ $folder != /lab/history/* && " ${binds[*]}" != *" $folder:"* ]]; then binds+=("$folder:$folder"); fi
done
# It hands on only what is named. An entry point of the image would take the words for its own.
container=(env podman-hpc run --rm --network=host --pid=host --ipc=host --entrypoint=)
for name in HPCRUN_ SLURM PMI PMIX_ OMPI_ MV2_ MPI_ CUDA_ NVIDIA_ ROCR_ HIP_ OMP_ AZ_BATCH; do container+=(--env "$name*"); done
for name in PYTHONPATH PYTHONNOUSERSITE TMPDIR MODE A_KEY; do container+=(--env "$name"); done
for bind in "${binds[@]}"; do container+=(--volume "$bind"); done
container+=(--gpu --one 'two words' nvcr.io/nvidia/pytorch:24.01-py3)

task=(sh /lab/history/users/ada/sdk/0.1.0-0123456789ab/hpcrun/agent/task.sh python3 train.py)
# torchrun cannot always tell by names whether it is the rendezvous host: the node's number says it.
late='[ "${SLURM_NODEID:-0}" = 0 ] && host=true || host=false; exec "$0" -m torch.distributed.run --rdzv-conf "is_host=$host" "$@"'
torchrun=(sh -c "$late" python3 --rdzv-backend=c10d --rdzv-id="$HPCRUN_JOB_ID" --rdzv-endpoint="$HPCRUN_MASTER_ADDR:$HPCRUN_MASTER_PORT")
# torchrun gives each process one thread unless it is told.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# It puts values in place of $local_rank and makes $ of $$; without -- it heeds words such as --no.
torchrun+=(--nnodes=1 --nproc-per-node=2 --no-python -- "${task[@]//\$/\$\$}")
torchrun=("${container[@]}" "${torchrun[@]}")
command=("${torchrun[@]}")
