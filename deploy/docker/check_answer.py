"""Run inside the API's container by check-compose.sh, with the standard library alone: a client that shares no code.

`check_answer.py ask QUESTION` asks, waits, and prints the lines `answer: TEXT` and `id: ID`; `check_answer.py get ID`
fetches that answer again. Both fail unless it is done and has a citation.
"""

import http.client
import json
import os
import sys
import time
from typing import Any

PATH = "/v1/answers"
PATIENCE_SECONDS = 180


def call(method: str, path: str, body: dict[str, str] | None = None, *, key: str) -> tuple[int, Any]:
    """Status and decoded JSON of one request."""
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=60)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.load(response)
    finally:
        connection.close()


def ask(question: str, key: str) -> str:
    status, _ = call("POST", PATH, {"question": question}, key="")
    if status != 401:
        sys.exit(f"a question without the key was answered with status {status}, not 401")
    status, accepted = call("POST", PATH, {"question": question}, key=key)
    if status != 202:
        sys.exit(f"the question was not accepted: status {status}, {accepted}")
    return str(accepted["id"])


def wait_for(identifier: str, key: str) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        status, answer = call("GET", f"{PATH}/{identifier}?wait=10", key=key)
        if status != 200:
            sys.exit(f"answer {identifier} could not be fetched: status {status}, {answer}")
        if answer["state"] not in ("queued", "running"):
            return answer
    sys.exit(f"answer {identifier} reached no final state within {PATIENCE_SECONDS} s")


def main(command: str, argument: str) -> None:
    key = os.environ["CITEWELL_API_KEY"]
    identifier = ask(argument, key) if command == "ask" else argument
    answer = wait_for(identifier, key)
    if answer["state"] != "done" or not answer["citations"]:
        sys.exit(f"expected an answer that is done and has a citation, got: {json.dumps(answer, ensure_ascii=False)}")
    sys.stdout.write(f"answer: {' '.join(answer['answer'].split())}\nid: {identifier}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
