# The snapshot first, then the part of hpcrun that `from hpcrun import Run` needs.
export PYTHONPATH=$HPCRUN_WORKING_DIRECTORY:/lab/history/users/ada/sdk/0.1.0-0123456789ab${PYTHONPATH:+:$PYTHONPATH}

# As Azure ML tells MPI programs where the first node is.
export AZ_BATCHAI_MPI_MASTER_NODE=$HPCRUN_MASTER_ADDR
export AZ_BATCH_MASTER_NODE=$HPCRUN_MASTER_ADDR:$HPCRUN_MASTER_PORT


# Of srun, not of sbatch. It shows its software beside all that the node has, and hands on all variables.
container_step=(--uenv=prgenv-gnu/25.6:v2 --one 'two words')

task=(sh /lab/history/users/ada/sdk/0.1.0-0123456789ab/hpcrun/agent/task.sh python3 train.py)
step=(srun --nodes=2 --ntasks=4 --ntasks-per-node=2)
step+=(--mpi=pmix)
step+=(--kill-on-bad-exit=1 --wait=60)
step+=("${container_step[@]}")
command=("${step[@]}" "${task[@]}")
