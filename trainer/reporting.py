"""Where rank 0 reports: console, files, Prometheus."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from shards.schema import Unreadable
from trainer.console import Console
from trainer.metrics import MetricsLog
from trainer.prometheus import PrometheusExporter


@dataclass(frozen=True, kw_only=True, slots=True)
class Reporting:
    """What rank 0 has and the other ranks have not."""

    console: Console
    log: MetricsLog
    unreadable: MetricsLog  # unreadable.jsonl, one line a placeholder
    exporter: PrometheusExporter

    def placeholders(self, found: Sequence[Unreadable], step: int, story_keys: Sequence[str]) -> None:
        """List those of one step, at least one; the first is said aloud."""
        for one in found:
            self.unreadable.write({"kind": "unreadable", "step": step, **asdict(one), "story": story_keys[one.story]})
            self.exporter.unreadable(one)
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        self.console.say(f"step {step}: slot {found[0].slot} has a placeholder{more}: {found[0].problem}")

    def close(self) -> None:
        self.console.close()
        self.log.close()
        self.unreadable.close()
