"""A .runconfig as Azure ML's own template has it, and how tests write and load one."""

from __future__ import annotations

from pathlib import Path

from hpcrun.config import RunConfiguration

# Keys, order, nesting and values of the template of azureml-core 1.x; the comments are ours.
TEMPLATE = """\
# What to run.
script: train.py
# Words for the script.
arguments: []
# The compute target.
target: local
# One of Python, PySpark, CNTK, TensorFlow, PyTorch.
framework: Python
# One of None, ParameterServer, OpenMpi, IntelMpi.
communicator: None
# Prepare the environment as a part of the run.
autoPrepareEnvironment: true
# The longest that the run may take.
maxRunDurationSeconds:
# How many nodes.
nodeCount: 1
# The priority of the run.
priority:
# Environment.
environment:
# Its name.
  name: my-env
# Its version.
  version: 'Autosave_2021-06-23T12:41:56Z_625b1523'
# Variables.
  environmentVariables:
    EXAMPLE_ENV_VAR: EXAMPLE_VALUE
# Python.
  python:
# True: the user manages it.
    userManagedDependencies: true
# The interpreter.
    interpreterPath: python
# Where the packages are listed.
    condaDependenciesFile: .azureml/conda_dependencies.yml
# The base.
    baseCondaEnvironment:
# Docker.
  docker:
    enabled: false
# The image.
    baseImage: mcr.microsoft.com/azureml/openmpi3.1.2-ubuntu18.04:20210513.v1
    platform: {os: Linux, architecture: amd64}
    baseDockerfile:
    sharedVolumes: true
    gpuSupport: false
    arguments: []
    baseImageRegistry:
# Its address.
      address:
      username:
      password:
# Spark.
  spark:
    repositories:
    - https://mmlspark.azureedge.net/maven
    packages:
    - group: com.microsoft.ml.spark
      artifact: mmlspark_2.11
      version: '0.12'
    precachePackages: true
# Databricks.
  databricks:
    mavenLibraries: []
    pypiLibraries: []
    rcranLibraries: []
    jarLibraries: []
    eggLibraries: []
# R.
  r:
# Inferencing.
  inferencingStackVersion:
# History.
history:
# Whether it is collected.
  outputCollection: true
  snapshotProject: true
# Which folders are watched.
  directoriesToWatch:
  - logs
# Spark.
spark:
  configuration:
    spark.app.name: Azure ML Experiment
    spark.yarn.maxAppAttempts: 1
# Docker.
docker:
  useDocker: false
  sharedVolumes: true
  arguments: []
  shmSize: 2g
# HDI.
hdi:
  yarnDeployMode: cluster
# Tensorflow.
tensorflow:
# How many workers.
  workerCount: 1
# How many parameter servers.
  parameterServerCount: 1
# Mpi.
mpi:
# How many processes on each node.
  processCountPerNode: 1
# How many nodes.
  nodeCount: 1
# PyTorch.
pytorch:
  communicationBackend: nccl
  processCount:
  nodeCount: 1
# Parallel task.
paralleltask:
  maxRetriesPerWorker: 0
  workerCountPerNode: 1
  terminalExitCodes:
# Data references.
dataReferences: {}
# Data.
data: {}
# Caches.
datacaches: []
# Output.
outputData: {}
# Where the source is stored.
sourceDirectoryDataStore:
# The one-shot cluster.
amlcompute:
  vmSize:
  vmPriority:
  retainCluster: false
  name:
  clusterMaxNodeCount: 1
# Kubernetes.
kubernetescompute:
  instanceType:
# Whose identity.
credentialPassthrough: false
# In place of script and arguments.
command: ''
# Variables of the run.
environmentVariables: {}
# Doors.
applicationEndpoints: {}
# The end.
"""


def put(folder: Path, text: str, name: str = "run") -> Path:
    file = folder / ".azureml" / f"{name}.runconfig"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def load(text: str, folder: Path) -> RunConfiguration:
    return RunConfiguration.load(put(folder, text))
