"""Build dashboards/*.json, which a Grafana loads:  python -m launcher.monitoring.build_dashboards

They are committed, so that using them needs no builder; a test compares. Building needs `grafana-foundation-sdk`, which
`pip install 'd2tv[dev]'` brings.
"""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from launcher.monitoring import board_data, board_fleet, board_hardware, board_run
from shards.files.write import write_output
from trainer.terminal.log import log

DIRECTORY = Path(__file__).with_name("dashboards")


def dashboards() -> dict[str, str]:
    """Return file name -> text of every dashboard."""
    boards = (board_run.build(), board_data.build(), board_hardware.build(), board_fleet.build())
    return {f"{board.uid}.json": _text(board) for board in boards}


def _text(board: Dashboard) -> str:
    made = json.loads(json.dumps(board, cls=JSONEncoder))
    for shown in (*made["links"], *made["annotations"]["list"]):
        # The builder hides them in a menu, and knows no other place; without one they are in sight.
        del shown["placement"]
    return json.dumps(made, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> int:
    """Write them all. Return 1 where the directory holds others, which are named on stderr."""
    made = dashboards()
    for name, text in made.items():
        write_output(DIRECTORY / name, text)
    others = sorted(path.name for path in DIRECTORY.glob("*.json") if path.name not in made)
    if others:
        log.warning(f"not built here, remove them from {DIRECTORY}: {', '.join(others)}")
    return int(bool(others))


if __name__ == "__main__":
    sys.exit(main())
