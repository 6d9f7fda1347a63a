#SBATCH --image=docker:nvcr.io/nvidia/pytorch:24.01-py3
#SBATCH --module=gpu,nccl-plugin
#SBATCH --volume="/data/it's mine:/mine:ro"
# The image has its packages; not those of this node, nor of ~/.local.
export PYTHONPATH=$HPCRUN_WORKING_DIRECTORY:/lab/history/users/ada/sdk/0.1.0-0123456789ab PYTHONNOUSERSITE=${PYTHONNOUSERSITE-1}



# sbatch was told of the image and the volumes; the site's own file systems are seen. Variables of the image would win.
container=(env shifter --env=PYTHONPATH="$PYTHONPATH")
container+=(--env=MODE='a "$b"')
container+=(--one 'two words')

command=(sh /lab/history/users/ada/sdk/0.1.0-0123456789ab/hpcrun/agent/task.sh python3 train.py)
command=("${container[@]}" "${command[@]}")
