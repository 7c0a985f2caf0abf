"""The queue shell: Celery around `citewell.run.Runner`, and what keeps its promises when a worker dies.

app.py      the Celery app from settings, and `run_worker`
tasks.py    the one task: a message to a run
loading.py  the ingest worker: batches of documents, for `citewell ingest --distributed`
sources.py  sources of the settings when they are due: the task, and beat, which sends it
sweeper.py  threads beside the pool: answers without a worker are queued again, and a sign of life
"""
