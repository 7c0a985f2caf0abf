"""Real servers for the tests.

errors.py         what can go wrong, as a tree
environment.py    every environment variable read
processes.py      ports, waiting, ending by process id
artifacts.py      downloads with pinned digests
accounts.py       the user a node runs as
jdk.py            finding Java
node_home.py      the Elasticsearch distribution with its analyzer plugin, prepared once
elasticsearch.py  ElasticsearchNode
redis.py          RedisServer
postgresql.py     PostgresqlServer
databases.py      one database a test, in Redis or PostgreSQL
docker.py         the same servers through Docker Compose
choice.py         environment, else Docker, else local
fixtures.py       what tests ask for
report.py         the closing lines of a run

`python -m tests.servers` starts all for development.
"""
