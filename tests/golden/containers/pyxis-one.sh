# The image has its packages; not those of this node, nor of ~/.local.
export PYTHONPATH=$HPCRUN_WORKING_DIRECTORY:/lab/history/users/ada/sdk/0.1.0-0123456789ab PYTHONNOUSERSITE=${PYTHONNOUSERSITE-1}



# What it sees of the node, and what of the site's folders is there.
binds=(/lab/history:/lab/history /tmp:/tmp '/data/it'"'"'s mine:/mine:ro')
for folder in /home/ada "${SCRATCH:-}" /data "${TMPDIR:-}" "${HPCRUN_RESUME_FROM:-}"; do
    if [ -e "$folder" ] && [[ $folder != /lab/history/* && " ${binds[*]}" != *" $folder:"* ]]; then binds+=("$folder:$folder"); fi
done
# Of srun, not of sbatch: that would bring this script and the agent in. Variables of the image would win.
mounts=$(IFS=,; echo "${binds[*]}")
names=(PYTHONPATH PMIX_MCA_psec MODE A_KEY)
container_step=(--container-image='nvcr.io#nvidia/pytorch:24.01-py3' --container-mounts="$mounts" --container-env="$(IFS=,; echo "${names[*]}")")
container_step+=(--one 'two words')

task=(sh /lab/history/users/ada/sdk/0.1.0-0123456789ab/hpcrun/agent/task.sh python3 train.py)
step=(srun --nodes=1 --ntasks=1 --ntasks-per-node=1)
step+=(--kill-on-bad-exit=1 --wait=60)
step+=("${container_step[@]}")
command=("${step[@]}" "${task[@]}")
