# The snapshot first, then the part of hpcrun that `from hpcrun import Run` needs.
export PYTHONPATH=$HPCRUN_WORKING_DIRECTORY:/lab/history/users/ada/sdk/0.1.0-0123456789ab${PYTHONPATH:+:$PYTHONPATH}



# Of srun, not of sbatch. It shows its software beside all that the node has, and hands on all variables.
container_step=(--uenv=prgenv-gnu/25.6:v2 --one 'two words')

task=(sh /lab/history/users/ada/sdk/0.1.0-0123456789ab/hpcrun/agent/task.sh python3 train.py)
step=(srun --nodes=1 --ntasks=1 --ntasks-per-node=1)
step+=(--kill-on-bad-exit=1 --wait=60)
step+=("${container_step[@]}")
command=("${step[@]}" "${task[@]}")
