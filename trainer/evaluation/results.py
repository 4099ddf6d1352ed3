"""Write what an evaluation found: predictions, those of the baselines, and the report, which comes last."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shards.errors import InputError
from shards.files.write import write_atomically
from trainer.evaluation.baselines.compute import Baselines
from trainer.evaluation.kept import evaluation_folder, make_room
from trainer.evaluation.predictions import Prediction, write_predictions


def write_results(
    where: Path,
    report: Mapping[str, Any],
    predictions: Sequence[Prediction],
    measures: Sequence[str],
    baselines: Baselines,
    facts: Mapping[str, Any],
) -> None:
    """Write all files of the evaluation of `where`; one of something else that lies there is moved away.

    facts: what the predictions depend on. Raises `InputError`.
    """
    split, folder = str(report["split"]), evaluation_folder(where)
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if line := make_room(where, split, report):
            print(line)
        write_predictions(where, split, predictions, measures, facts)
        for name, rows in baselines.rows.items():
            of = {"corpus": facts.get("corpus"), "baseline": name, "settings": facts.get("settings")}
            if name == "lead":
                of["words"] = baselines.words
            write_predictions(where, split, rows, baselines.measures, of, name)
        write_atomically(folder / f"{split}.json", text.encode())
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error}") from error
