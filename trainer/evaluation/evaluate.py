"""Held-out stories through beam search and ROUGE; the closing table beside the unigram line."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table

from models.network import Network
from shards.collate import Collator
from shards.directions import Direction, parse_directions
from shards.errors import InputError
from shards.files import write_atomically
from shards.index import Corpus
from shards.reader import Reader
from shards.sampler import Groups
from shards.tokenizer import Tokenizer
from trainer.checkpoint import identity, read_state
from trainer.console import progress_bar
from trainer.distributed import Ranks, raise_together
from trainer.evaluation.heldout import choose_examples, concatenate, in_batches, mean_nll, share_of_rank
from trainer.evaluation.rouge import TYPES, Rouge, mean_scores
from trainer.evaluation.unigram import UnigramBaseline
from trainer.recipe import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluator:
    """Everything an evaluation reads. All ranks build one and call `run` together.

    begin_batch: called before every batch, for the watchdog.
    """

    recipe: Recipe
    corpus: Corpus
    reader: Reader
    tokenizer: Tokenizer
    collate: Collator
    ranks: Ranks
    device: torch.device
    begin_batch: Callable[[], None]

    def run(self, network: Network, split: str, checkpoint: Path) -> dict[str, Any] | None:
        """Predictions, ROUGE and NLL of the recipe's directions on `split`; the report on rank 0.

        An example that cannot be read has no prediction and is counted in the report.

        `checkpoint` is where the network's weights are kept.

        Writes evaluation/<split>-predictions.jsonl and evaluation/<split>.json in the run directory.
        """
        settings = self.recipe.evaluation
        directions = parse_directions(settings.directions, self.corpus.languages, self.recipe.mixture.languages)
        kinds = {
            "mms": [(source, target) for source, target in directions if source == target],
            "mxls": [(source, target) for source, target in directions if source != target],
        }
        chosen = {
            kind: choose_examples(self.corpus, split, of_kind, total=settings.examples_per_kind)
            for kind, of_kind in kinds.items()
        }
        groups = concatenate(list(chosen.values()))
        if not len(groups.number):
            raise InputError(f"evaluation.directions={settings.directions}: the {split} split has no such example")
        network.eval()
        mine: list[dict[str, Any]] = []
        problem: InputError | None = None
        try:
            mine = self._decode(network, groups)
        except InputError as error:
            problem = error
        self.begin_batch()  # the clock of a rank that was quick begins anew: it waits for the others
        raise_together(problem)
        gathered: list[Any] = [None] * self.ranks.world_size
        dist.all_gather_object(gathered, mine)
        nll = self._nll(network, split, kinds)
        if not self.ranks.is_first:
            return None
        predictions = sorted((row for rows in gathered for row in rows), key=lambda row: row["number"])
        report = {
            "split": split,
            "settings": settings.model_dump(mode="json"),
            "step": read_state(checkpoint).step,
            "checkpoint": identity(checkpoint),
            "examples": len(predictions),
            "unreadable": len(groups.number) - len(predictions),
            **_summarise(predictions),
            "nll": nll,
        }
        folder = self.recipe.run / "evaluation"
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in predictions)
        text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / f"{split}-predictions.jsonl", lines.encode())
            write_atomically(folder / f"{split}.json", text.encode())
        except OSError as error:
            raise InputError(f"{folder} cannot be written: {error}") from error
        return report

    def _decode(self, network: Network, groups: Groups) -> list[dict[str, Any]]:
        settings, rouge = self.recipe.evaluation, Rouge()
        share = share_of_rank(groups, self.ranks)
        keys = self.corpus.story_keys()
        rows: list[dict[str, Any]] = []
        done = 0
        with progress_bar(disable=not self.ranks.is_first or not Console().is_terminal) as bar:
            task = bar.add_task("decoding", total=len(share.number))
            for batch in in_batches(share, self.collate, settings.batch_size):
                self.begin_batch()
                ids_BN = network.generate(
                    batch,
                    num_beams=settings.num_beams,
                    length_penalty=settings.length_penalty,
                    max_new_tokens=self.recipe.lengths.summary,
                )
                for place, ids in enumerate(ids_BN.tolist()):
                    number, done = done, done + 1
                    if not batch.weight_B[place]:
                        continue
                    article = self.reader.article(int(share.target[number, 0]))
                    prediction = self.tokenizer.decode(ids)
                    rows.append(
                        {
                            "number": int(share.number[number]),
                            "story": keys[int(batch.story_B[place])],
                            "source": self.corpus.languages[int(batch.source_language_B[place])],
                            "target": article.language,
                            "prediction": prediction,
                            "reference": article.summary,
                            **rouge(article.summary, prediction),
                        }
                    )
                bar.advance(task, len(batch))
        return rows

    def _nll(
        self, network: Network, split: str, kinds: Mapping[str, Sequence[Direction]]
    ) -> dict[str, dict[str, float]]:
        """The model's and the unigram's NLL a token of each kind, on the same examples."""
        length = self.recipe.lengths.summary
        self.begin_batch()
        unigram = UnigramBaseline(self.corpus, self.reader, self.tokenizer, length, self.ranks, self.device)
        settings = self.recipe.validation
        result: dict[str, dict[str, float]] = {}
        for kind, directions in kinds.items():
            groups = choose_examples(self.corpus, split, directions, total=settings.examples_per_kind)
            share = share_of_rank(groups, self.ranks)
            batches = in_batches(share, self.collate, settings.batch_size)
            languages = len(self.corpus.languages)
            model = mean_nll(network, batches, self.device, self.begin_batch, languages=languages).nll
            if len(groups.number):
                floor = unigram.nll(groups)
                result[kind] = {
                    "model": model,
                    "unigram": floor,
                    "better_by": 1 - model / floor,
                    "examples": len(groups.number),
                }
        return result


def _summarise(predictions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    by_kind: dict[str, list[dict[str, float]]] = defaultdict(list)
    by_target: dict[str, list[dict[str, float]]] = defaultdict(list)
    by_direction: dict[str, list[dict[str, float]]] = defaultdict(list)
    for row in predictions:
        by_kind["mms" if row["source"] == row["target"] else "mxls"].append(row)
        by_target[row["target"]].append(row)
        by_direction[f"{row['source']}>{row['target']}"].append(row)
    groups = {"by_kind": by_kind, "by_target": by_target, "by_direction": by_direction}
    return {name: {key: mean_scores(rows) for key, rows in sorted(group.items())} for name, group in groups.items()}


def print_report(report: dict[str, Any], validations: Sequence[Mapping[str, float]], run: Path) -> None:
    """The closing table: what was learned, beside the unigram model, and where the run lies."""
    console = Console(soft_wrap=True, highlight=False)
    split = report["split"]
    title = f"held-out stories, step {report['step']}; NLL in nats a token, ROUGE (R) in per cent"
    table = Table(title=title, title_justify="left")
    # Short heads and no wrapping: it fits the 80 columns of a log file.
    columns = ("kind", "validation", split, "unigram", "better", "R-1", "R-2", "R-L")
    for column in columns:
        table.add_column(column, justify="left" if column == "kind" else "right", no_wrap=True)
    for kind, nll in report["nll"].items():
        rouge = report["by_kind"].get(kind, {})
        course = "-"
        if validations and kind in validations[0]:
            course = f"{validations[0][kind]:.3f} → {validations[-1][kind]:.3f}"
        table.add_row(
            kind.upper(),
            course,
            f"{nll['model']:.3f}",
            f"{nll['unigram']:.3f}",
            f"{nll['better_by']:.1%}",
            *(f"{rouge[name]:.2f}" if rouge else "-" for name in TYPES),
        )
    console.print(table)
    unreadable = f", {report['unreadable']} examples unreadable" if report["unreadable"] else ""
    console.print(f"{report['examples']} summaries decoded{unreadable}; they lie in {run}/evaluation", markup=False)


def read_report(run: Path, split: str) -> dict[str, Any] | None:
    """A finished evaluation of `run`, or None."""
    path = run / "evaluation" / f"{split}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
