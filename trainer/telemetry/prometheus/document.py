"""Write the tables of docs/metrics.md from the declared metrics:  python -m trainer.telemetry.prometheus.document"""

import re
from pathlib import Path

from trainer.telemetry.prometheus.declared import Metric
from trainer.telemetry.prometheus.metric_table import CLUSTER, NODE, RUN

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"
_KINDS = {"info": "gauge", "table": "gauge"}
_HEAD = "| metric | type | labels | unit | what it is | source |\n|---|---|---|---|---|---|\n"


def rewrite(text: str) -> str:
    """Return the document with its tables written again: of the run, of a node, of the cluster, in this order."""
    tables = iter((RUN, NODE, CLUSTER))
    return re.sub(
        r"^\| metric \|.*\n(?:\|.*\n)+", lambda _: _HEAD + "".join(map(_row, next(tables))), text, flags=re.MULTILINE
    )


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    cells = (
        f"`{metric.full_name}`",
        _KINDS.get(metric.kind, metric.kind),
        labels,
        metric.unit,
        metric.help,
        metric.source,
    )
    return "| " + " | ".join(cells) + " |\n"


if __name__ == "__main__":
    DOCUMENT.write_text(rewrite(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
