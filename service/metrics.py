"""`GET /metrics`: what this process has counted, and what waits in the queue now, in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Iterator

import structlog
from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from citewell.engine import Engine
from citewell.errors import Unavailable
from citewell.metrics import REGISTRY
from citewell.service.state import engine

log = structlog.get_logger("citewell.service")

blueprint = Blueprint("metrics", __name__)

_GAUGES = {
    "waiting": "Questions that wait for a worker.",
    "running": "Answers that are being written, as workers told last.",
    "workers": "Workers that live and are ready.",
}


@blueprint.get("/metrics")
def metrics() -> Response:
    own = CollectorRegistry()
    own.register(_Queues(engine()))
    return Response(generate_latest(REGISTRY) + generate_latest(own), content_type=CONTENT_TYPE_LATEST)


class _Queues(Collector):
    """The catalogue of generators as gauges. A queue that does not answer is `citewell_queue_up` 0, and no error: the
    rest is worth having just then."""

    def __init__(self, asked: Engine) -> None:
        self._engine = asked

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("citewell_queue_up", "Whether the queue says how it is.")
        try:
            rows = self._engine.catalogue()
        except Unavailable as error:
            log.warning("queue_not_measured", reason=error.message)
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        for name, said in _GAUGES.items():
            gauge = GaugeMetricFamily(f"citewell_{name}", said, labels=["generator"])
            for row in rows:
                gauge.add_metric([row["name"]], row[name])
            yield gauge
