#SBATCH --image=docker:nvcr.io/nvidia/pytorch:24.01-py3
#SBATCH --module=gpu,nccl-plugin
#SBATCH --volume="/data/it's mine:/mine:ro"
# The image has its packages; not those of this node, nor of ~/.local.
export PYTHONPATH=$HPCRUN_WORKING_DIRECTORY:/lab/history/users/ada/sdk/0.1.0-0123456789ab PYTHONNOUSERSITE=${PYTHONNOUSERSITE-1}

# As Azure ML tells MPI programs where the first node is.
export AZ_BATCHAI_MPI_MASTER_NODE=$HPCRUN_MASTER_ADDR
export AZ_BATCH_MASTER_NODE=$HPCRUN_MASTER_ADDR:$HPCRUN_MASTER_PORT


# sbatch was told of the image and the volumes; the site's own file systems are seen. Variables of the image would win.
container=(env shifter --env=PYTHONPATH="$PYTHONPATH")
container+=(--env=OMPI_MCA_pml=ucx)
container+=(--env=NCCL_SOCKET_IFNAME=ib0)
container+=(--env=MODE='a "$b"')
container+=(--one 'two words')

task=(sh /lab/history/users/ada/sdk/0.1.0-0123456789ab/hpcrun/agent/task.sh python3 train.py)
task=("${container[@]}" "${task[@]}")
step=(srun --nodes=2 --ntasks=4 --ntasks-per-node=2)
step+=(--mpi=pmix)
step+=(--kill-on-bad-exit=1 --wait=60)
command=("${step[@]}" "${task[@]}")
