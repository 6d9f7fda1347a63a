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
# torchrun cannot always tell by names whether it is the rendezvous host: the node's number says it.
late='[ "${SLURM_NODEID:-0}" = 0 ] && host=true || host=false; exec "$0" -m torch.distributed.run --rdzv-conf "is_host=$host" "$@"'
torchrun=(sh -c "$late" python3 --rdzv-backend=c10d --rdzv-id="$HPCRUN_JOB_ID" --rdzv-endpoint="$HPCRUN_MASTER_ADDR:$HPCRUN_MASTER_PORT")
# torchrun gives each process one thread unless it is told.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# It puts values in place of $local_rank and makes $ of $$; without -- it heeds words such as --no.
torchrun+=(--nnodes=2 --nproc-per-node=2 --no-python -- "${task[@]//\$/\$\$}")
torchrun=("${container[@]}" "${torchrun[@]}")
step=(srun --nodes=2 --ntasks=2 --ntasks-per-node=1)
# srun does not take it from the job in Slurm 22.05 and 23.02.
step+=(--cpus-per-task=2)
step+=(--kill-on-bad-exit=1 --wait=60)
command=("${step[@]}" "${torchrun[@]}")
