"""A heavy step's work in a Ray cluster of its own, made by KubeRay for one RayJob.

The step's pod and the Ray pods share nothing but object storage. What travels there is named by its sha256, and the step believes
the result's manifest, which is written last; never a status or an exit code.

settings.py    what the deployment says: image, queue, sizes, deadlines
documents.py   request and result, as they lie in object storage
exchange.py    puts them and their files there and takes them from there
task.py        what was set on the KFP task, for the Ray pods
pods.py        the pods: security, environment, folders, sizes
manifest.py    the RayJob
cluster.py     the Kubernetes API as the step's pod sees it
follow.py      state and log of a RayJob, into the step's log
run.py         the step's side: make or adopt the RayJob, follow it, take the result, take the RayJob away
prepare.py     before Ray starts in a pod: bring inputs and base model there
entry.py       the driver's side: do the work, give the result
"""
