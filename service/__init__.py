"""The HTTP shell: Flask over an `Engine`. Nothing here retrieves, generates or stores.

app.py        create_app: the routes and hooks in one place
state.py      what a request finds: engine, settings, the places for held requests
auth.py       API keys: who may call what, and which host names are answered without one
errors.py     every failure in the one error shape
schemas.py    request bodies
requests.py   request ids and the access log
answers.py    POST /v1/answers, polling, events, cancelling
search.py     POST /v1/search
documents.py  loading, reading and deleting documents
health.py     /healthz, /readyz, /v1/info
server.py     serve: the process
"""
