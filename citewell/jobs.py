"""Bringing messages to workers: threads of this process, or Celery on Redis.

Both only carry an id. Which worker may answer, and whether there is anything left to answer, is the answer store's
word; a message that comes twice, late or never is put right by its leases and its `due`.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, quote, urlsplit

import structlog

from citewell.config import Settings
from citewell.errors import CitewellError, QueueUnavailable
from citewell.priorities import Turns, is_batch, queue_name, queue_names
from citewell.records import JobMessage, Record

if TYPE_CHECKING:
    import redis
    from celery import Celery

log = structlog.get_logger("citewell.jobs")

# The name under which workers know the task; a producer needs nothing else of them.
TASK = "citewell.answer"

_CLOSE_S = 10.0
_PUBLISH_S = 3.0
# How long the list of workers is believed, where estimates are made of it.
_WORKERS_S = 1.0


class InlineQueue:
    """Threads of this process over the answer store, for the embedded stack.

    `run` works on one message. `due` is the store's: asked every `poll_s` seconds, it brings back what was queued
    before a restart, by another process, or by one that died; of that, answers of the generators `own` (all when none
    is named) are for this process. `beside` is called as often, in a thread of its own. The threads end by themselves
    with the main thread.
    """

    def __init__(
        self,
        run: Callable[[JobMessage], object],
        due: Callable[..., list[JobMessage]],
        threads: int,
        poll_s: float = 1.0,
        own: Sequence[str] = (),
        beside: Callable[[], object] | None = None,
    ) -> None:
        self._own = tuple(own)
        self._beside = beside
        self._run = run
        self._due = due
        self._count = threads
        self._poll_s = poll_s
        self._waiting: dict[str, deque[JobMessage]] = {"interactive": deque(), "batch": deque()}
        self._turns = Turns()
        # Ids that wait or run here: the store cannot know that they have a worker coming.
        self._ours: set[str] = set()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._open = False

    def load(self) -> None:
        with self._changed:
            if self._open:
                return
            self._open = True
        targets = [self._work] * self._count + [self._sweep] + ([self._call_beside] if self._beside else [])
        self._threads = [threading.Thread(target=t, name=f"answers-{n}") for n, t in enumerate(targets)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Let what runs end, for 10 seconds at most; what waits stays queued in the store."""
        with self._changed:
            self._open = False
            for line in self._waiting.values():
                line.clear()
            self._ours.clear()
            self._changed.notify_all()
        deadline = time.monotonic() + _CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        left = [thread.name for thread in self._threads if thread.is_alive()]
        if left:
            log.warning("answers_still_running", threads=left)
        self._threads = []

    def info(self) -> dict[str, Any]:
        if not self._open:
            raise QueueUnavailable("the queue of this process is closed", remedy="Call load() first.")
        return {"queue": "inline", "depth": self.depth(), "threads": self._count}

    def submit(self, message: JobMessage) -> None:
        with self._changed:
            if not self._open:
                raise QueueUnavailable("the queue of this process is closed", remedy="Call load() first.")
            if message.answer_id not in self._ours:
                self._ours.add(message.answer_id)
                self._waiting[message.priority].append(message)
                self._changed.notify_all()  # one alone might be the sweeper

    def depth(self, generator: str = "") -> int:
        with self._changed:
            lines = self._waiting.values()
            return sum(not generator or message.generator == generator for line in lines for message in line)

    def slots(self, generator: str) -> int:
        return self._count

    def _work(self) -> None:
        while (message := self._next()) is not None:
            try:
                self._run(message)
            except Exception:  # the thread must live on, whatever it is; the store offers the answer again
                log.exception("message_failed", answer=message.answer_id)
            finally:
                with self._changed:
                    self._ours.discard(message.answer_id)

    def _next(self) -> JobMessage | None:
        """The next message, or None when it is time to end."""
        with self._changed:
            while self._living():
                if (message := self._first()) is not None:
                    return message
                self._changed.wait(self._poll_s)
        return None

    def _first(self) -> JobMessage | None:
        """The message whose turn it is, taken off its line."""
        for name in ("batch", "interactive") if self._turns.batch_first() else ("interactive", "batch"):
            if self._waiting[name]:
                self._turns.took(batch=name == "batch")
                return self._waiting[name].popleft()
        return None

    def _sweep(self) -> None:
        while self._living():
            try:
                for message in self._due(queued=True):
                    if not self._own or message.generator in self._own:
                        self.submit(message)
            except CitewellError as error:
                log.warning("sweep_failed", reason=error.message)
            except Exception:  # without this thread nothing that was left lying would be taken up again
                log.exception("sweep_crashed")
            with self._changed:
                if self._open:
                    self._changed.wait_for(lambda: not self._open, self._poll_s)

    def _call_beside(self) -> None:
        assert self._beside is not None
        while self._living():
            try:
                self._beside()
            except CitewellError as error:
                log.warning("beside_failed", reason=error.message)
            except Exception:  # the thread must live on, whatever it is
                log.exception("beside_crashed")
            with self._changed:
                if self._open:
                    self._changed.wait_for(lambda: not self._open, self._poll_s)

    def _living(self) -> bool:
        # Threads that are no daemons hold up the interpreter's end; an owner that forgot `close` must not hang.
        return self._open and threading.main_thread().is_alive()


class CeleryQueue:
    """Celery on Redis, for the served stack: a queue for each generator and priority, so that each kind of node takes
    its own.

    `generators` are those whose queues `depth` counts; the setting `generator` alone when not given.
    """

    def __init__(self, settings: Settings, generators: Sequence[str] = ()) -> None:
        self._settings = settings
        self._generators = tuple(generators) or (settings.generator,)
        self._publisher = Publisher(settings)
        self._client: redis.Redis | None = None
        self._workers: list[dict[str, Any]] = []
        self._workers_until = 0.0
        self._guard = threading.Lock()

    def load(self) -> None:
        self._ask("be reached", lambda client: client.ping())

    def close(self) -> None:
        self._publisher.close()
        with self._guard:
            if self._client is not None:
                self._client.close()
                self._client = None

    def info(self) -> dict[str, Any]:
        """Queue lengths, and the workers that have given a sign of life lately."""
        prefix = self._settings.index_name
        return {
            "queue": "celery",
            "depth": self.depth(),
            "queues": self._lengths(),
            "workers": self._ask("list workers", lambda client: living_workers(client, prefix)),
        }

    def submit(self, message: JobMessage) -> None:
        self._publisher.send(
            TASK,
            message,
            queue_name(self._settings.index_name, message.generator, message.priority),
            what=f"answer {message.answer_id}",
            remedy="Check that Redis runs and has memory left; the question is stored and will be taken up then.",
        )

    def depth(self, generator: str = "") -> int:
        """Messages that wait in one generator's queue, or in those of all known generators together."""
        names = (generator,) if generator else self._generators
        return sum(self._counted(queue_names(self._settings.index_name, names)))

    def slots(self, generator: str) -> int:
        now = time.monotonic()
        if now >= self._workers_until:
            prefix = self._settings.index_name
            self._workers = self._ask("list workers", lambda client: living_workers(client, prefix))
            self._workers_until = now + _WORKERS_S
        ready = (worker for worker in self._workers if worker.get("state") == "ready")
        return sum(int(w.get("concurrency", 1)) for w in ready if generator in w.get("generators", ()))

    def _lengths(self) -> dict[str, int]:
        """Messages by queue; of batch queues those that hold any."""
        names = queue_names(self._settings.index_name, self._generators)
        counts = dict(zip(names, self._counted(names), strict=True))
        return {name: count for name, count in counts.items() if count or not is_batch(name)}

    def _counted(self, names: Sequence[str]) -> list[int]:
        def count(client: redis.Redis) -> list[int]:
            pipe = client.pipeline(transaction=False)
            for name in names:
                pipe.llen(name)
            return cast(list[int], pipe.execute())

        return cast(list[int], self._ask("count messages", count))

    def _ask(self, what: str, question: Callable[[redis.Redis], Any]) -> Any:
        from citewell.answers.redis_client import connect, translated

        with self._guard:
            if self._client is None:
                self._client = connect(self._settings.redis_url)
            client = self._client
        with translated(self._settings.redis_url, what, QueueUnavailable):
            return question(client)


class Publisher:
    """Sends messages to workers by the name of their task. Light to make; safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._celery: Celery | None = None
        self._guard = threading.Lock()

    def close(self) -> None:
        with self._guard:
            if self._celery is not None:
                self._celery.close()
                self._celery = None

    def send(self, task: str, message: Record, queue: str, *, what: str, remedy: str) -> None:
        """Returns when Redis has it; raises `QueueUnavailable`, which calls the message `what`."""
        from celery.exceptions import CeleryError
        from kombu.exceptions import KombuError
        from redis import RedisError

        policy = {"max_retries": 1, "interval_start": 0.0, "interval_step": 0.2, "interval_max": 0.2}
        try:
            self.app().send_task(task, args=[message.to_dict()], queue=queue, retry=True, retry_policy=policy)
        except (CeleryError, KombuError, RedisError, OSError) as cause:
            from citewell.answers.redis_client import address_of

            raise QueueUnavailable(
                f"the queue in Redis at {address_of(self._settings.redis_url)} did not take {what}: "
                f"{type(cause).__name__}: {cause}",
                remedy=remedy,
            ) from cause

    def app(self) -> Celery:
        with self._guard:
            if self._celery is None:
                from celery import Celery

                app = Celery("citewell", set_as_current=False, fixups=[])
                app.conf.update(celery_config(self._settings))
                app.conf.broker_transport_options |= {"max_retries": 1, "connect_retries_timeout": _PUBLISH_S}
                self._celery = app
            return self._celery


def celery_config(settings: Settings) -> dict[str, Any]:
    """What producers and workers must agree on: JSON, no results, and the same names in Redis.

    A redelivery after `visibility_timeout` finds the lease alive or the answer final, so it may be short.
    """
    prefix = settings.index_name
    return {
        "broker_url": broker_url(settings.redis_url),
        "broker_use_ssl": {"ssl_cert_reqs": ssl.CERT_REQUIRED} if settings.redis_url.startswith("rediss:") else None,
        "broker_connection_timeout": _PUBLISH_S,
        "broker_transport_options": {
            "queue_order_strategy": "citewell.priorities:InteractiveFirst",
            "visibility_timeout": 60,
            "unacked_restore_throttle": 1,
            "unacked_key": f"{prefix}.unacked",
            "unacked_index_key": f"{prefix}.unacked_index",
            "unacked_mutex_key": f"{prefix}.unacked_mutex",
            "socket_timeout": 5.0,
            "socket_connect_timeout": _PUBLISH_S,
            "socket_keepalive": True,
        },
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "result_backend": None,
        "task_default_queue": queue_name(prefix, settings.generator),
        "enable_utc": True,
        "timezone": "UTC",
    }


def broker_url(redis_url: str) -> str:
    """The Redis URL in Celery's spelling, which differs for sockets: `unix://` is `redis+socket://` there."""
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    database = parse_qs(parts.query).get("db", ["0"])[0]
    return f"redis+socket://{parts.netloc}{quote(parts.path)}?virtual_host={database}"


def report_worker(client: redis.Redis, prefix: str, name: str, state: dict[str, Any], ttl_s: int) -> None:
    """A worker's sign of life: what it is, for `ttl_s` seconds. Redis's clock, as a wrong one would hide the others."""
    seconds, microseconds = client.time()
    now = seconds + microseconds / 1e6
    pipe = client.pipeline(transaction=True)
    pipe.set(_worker_key(prefix, name), json.dumps({"name": name, "seen_at": now, **state}), ex=ttl_s)
    pipe.zadd(f"{prefix}:workers", {name: now + ttl_s})
    pipe.zremrangebyscore(f"{prefix}:workers", "-inf", now - ttl_s)
    pipe.expire(f"{prefix}:workers", 10 * ttl_s)
    pipe.execute()


def forget_worker(client: redis.Redis, prefix: str, name: str) -> None:
    """Take a worker that leaves off the list at once."""
    pipe = client.pipeline(transaction=True)
    pipe.delete(_worker_key(prefix, name))
    pipe.zrem(f"{prefix}:workers", name)
    pipe.execute()


def living_workers(client: redis.Redis, prefix: str) -> list[dict[str, Any]]:
    """The states that workers have reported and that have not run out."""
    names = cast(list[str], client.zrange(f"{prefix}:workers", 0, -1))
    states = cast("list[str | None]", client.mget([_worker_key(prefix, name) for name in names])) if names else []
    return [json.loads(state) for state in states if state is not None]


def _worker_key(prefix: str, name: str) -> str:
    return f"{prefix}:worker:{name}"
