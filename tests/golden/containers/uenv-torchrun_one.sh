# The snapshot first, then the part of hpcrun that `from hpcrun import Run` needs.
export PYTHONPATH=$HPCRUN_WORKING_DIRECTORY:/lab/history/users/ada/sdk/0.1.0-0123456789ab${PYTHONPATH:+:$PYTHONPATH}



# Of srun, not of sbatch. It shows its software beside all that the node has, and hands on all variables.
container_step=(--uenv=prgenv-gnu/25.6:v2 --one 'two words')

task=(sh /lab/history/users/ada/sdk/0.1.0-0123456789ab/hpcrun/agent/task.sh python3 train.py)
# torchrun cannot always tell by names whether it is the rendezvous host: the node's number says it.
late='[ "${SLURM_NODEID:-0}" = 0 ] && host=true || host=false; exec "$0" -m torch.distributed.run --rdzv-conf "is_host=$host" "$@"'
torchrun=(sh -c "$late" python3 --rdzv-backend=c10d --rdzv-id="$HPCRUN_JOB_ID" --rdzv-endpoint="$HPCRUN_MASTER_ADDR:$HPCRUN_MASTER_PORT")
# torchrun gives each process one thread unless it is told.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# It puts values in place of $local_rank and makes $ of $$; without -- it heeds words such as --no.
torchrun+=(--nnodes=1 --nproc-per-node=2 --no-python -- "${task[@]//\$/\$\$}")
step=(srun --nodes=1 --ntasks=1 --ntasks-per-node=1)
# srun does not take it from the job in Slurm 22.05 and 23.02.
step+=(--cpus-per-task=2)
step+=(--kill-on-bad-exit=1 --wait=60)
step+=("${container_step[@]}")
command=("${step[@]}" "${torchrun[@]}")
