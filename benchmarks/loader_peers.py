"""The other loaders of `benchmarks.loader`, each in a process of its own, under the interpreter they are installed for.

    python -m benchmarks.loader_peers NAME --corpus DIR --own DIR --records N

is what the benchmark starts; it then writes one JSON request a line and reads one JSON answer a line:
`{"do": "find"}` asks for the version, `{"do": "write"}` makes the peer's dataset and compares a batch with what it
should hold, `{"do": "round", "workers": W, "seconds": S, "warm": N, "seed": K}` times a round. Each peer is set up as
its documentation says, with the settings that made it fastest, and shuffles as far over the whole set as it can.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import types
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loader_clock import time_round
from benchmarks.loader_records import BATCH, BOXES_SHAPE, RECORD_BYTES, ROI_SHAPE, Delivered, check, make_record

#: Records in a shuffle buffer, for the peers that read their shards from the first byte to the last.
SHUFFLE_BUFFER = 256
FIELDS = ("roi", "boxes", "text", "summary")


def deliver(roi_BIRV: Any, boxes_BIR4: Any, texts: list[str], summaries: list[str]) -> Delivered:
    """A batch from two tensors and the text."""
    import torch

    mask_BI = torch.ones(*roi_BIRV.shape[:2], dtype=torch.bool)
    return Delivered(roi_BIRV.flatten(1, 2), boxes_BIR4.flatten(1, 2), mask_BI, texts, summaries)


class Peer(ABC):
    """A loader. `corpus` holds WebDataset tars; `own` is a folder for the peer's own format."""

    package: str  # what one installs

    def __init__(self, corpus: Path, own: Path, records: int) -> None:
        self.corpus, self.own, self.records = corpus, own, records

    def write(self) -> None:  # noqa: B027 (most have none to make)
        """Make the peer's dataset, once. Those that read tars have none to make."""

    @abstractmethod
    def batches(self, workers: int, seed: int) -> Iterator[Delivered | None]:
        """Batches without end; None where an epoch ends."""


def epochs(loader: Iterable[Delivered]) -> Iterator[Delivered | None]:
    while True:
        yield from loader
        yield None


class Webdataset(Peer):
    """webdataset with its own decoder."""

    package = "webdataset"
    lean = False

    def batches(self, workers: int, seed: int) -> Iterator[Delivered | None]:
        webdataset = importlib.import_module("webdataset")
        tars = [str(path) for path in sorted(self.corpus.glob("*.tar"))]
        # Shards with replacement: its own advice for training, and the buffer never runs empty.
        data = webdataset.WebDataset(tars, resampled=True, shardshuffle=False, seed=seed).shuffle(
            SHUFFLE_BUFFER, initial=SHUFFLE_BUFFER
        )
        data = data.map(_raw_fields) if self.lean else data.decode().map(_decoded_fields)
        data = data.batched(BATCH, collation_fn=_collate)
        return iter(webdataset.WebLoader(data, batch_size=None, num_workers=workers))


class LeanWebdataset(Webdataset):
    """webdataset with a decoder that copies nothing."""

    lean = True


def _decoded_fields(sample: dict[str, Any]) -> tuple[Any, ...]:
    record = next(value for name, value in sample.items() if name.endswith("json"))
    return sample["roi.npy"], sample["boxes.npy"], record["text"], record["summary"]


def _raw_fields(sample: dict[str, Any]) -> tuple[Any, ...]:
    """The same from the members' bytes, without a copy of the features."""
    roi, boxes = sample["roi.npy"], sample["boxes.npy"]
    record = json.loads(next(value for name, value in sample.items() if name.endswith("json")))
    return (
        np.frombuffer(roi, np.float16, offset=len(roi) - RECORD_BYTES).reshape(ROI_SHAPE),
        np.frombuffer(boxes, np.float32, offset=len(boxes) - 4 * int(np.prod(BOXES_SHAPE))).reshape(BOXES_SHAPE),
        record["text"],
        record["summary"],
    )


def _collate(samples: list[tuple[Any, ...]]) -> Delivered:
    """Of numpy arrays: one copy of the features."""
    import torch

    roi, boxes, texts, summaries = map(list, zip(*samples, strict=True))
    return deliver(torch.from_numpy(np.stack(roi)), torch.from_numpy(np.stack(boxes)), texts, summaries)


class Energon(Peer):
    """Megatron-Energon, on the same tars with its index beside them, with the lean decoder."""

    package = "megatron-energon"

    def write(self) -> None:
        prepare = importlib.import_module("megatron.energon.flavors.webdataset.prepare")
        tars = sorted(self.corpus.glob("*.tar"))
        self.own.mkdir()
        for tar in tars:
            os.link(tar, self.own / tar.name)
        names = [tar.name for tar in tars]
        prepare.WebdatasetPreparator.prepare_dataset(
            self.own, names, split_parts_ratio=[("train", 1.0)], split_config="split.yaml", workers=1
        )
        described = "__module__: megatron.energon\n__class__: CrudeWebdataset\n"
        (self.own / ".nv-meta" / "dataset.yaml").write_text(described, encoding="utf-8")

    def batches(self, workers: int, seed: int) -> Iterator[Delivered | None]:
        energon: Any = importlib.import_module("megatron.energon")

        def cook(sample: dict[str, Any]) -> dict[str, Any]:
            return {**energon.basic_sample_keys(sample), "fields": _raw_fields(sample)}

        class Encoder(energon.DefaultTaskEncoder):  # type: ignore[misc]
            decoder = None
            cookers = (energon.Cooker(energon.stateless(cook)),)

            def batch(self, samples: list[Any]) -> Delivered:
                return _collate([sample["fields"] for sample in samples])

        data = energon.get_train_dataset(
            self.own,
            worker_config=energon.WorkerConfig(rank=0, world_size=1, num_workers=workers, seed_offset=seed),
            batch_size=BATCH,
            shuffle_buffer_size=SHUFFLE_BUFFER,
            max_samples_per_sequence=SHUFFLE_BUFFER // 4,
            task_encoder=Encoder(),
        )
        return iter(energon.get_loader(data))


class MosaicML(Peer):
    """mosaicml-streaming: MDS shards of the default 64 MB, its default shuffle, which draws from the whole set here."""

    package = "mosaicml-streaming"

    def write(self) -> None:
        streaming = _import_streaming()
        columns = {
            "roi": "ndarray:float16:" + ",".join(map(str, ROI_SHAPE)),
            "boxes": "ndarray:float32:" + ",".join(map(str, BOXES_SHAPE)),
            "text": "str",
            "summary": "str",
        }
        with streaming.MDSWriter(out=str(self.own), columns=columns) as out:
            for number in range(self.records):
                record = make_record(number)
                values = {"roi": record.roi_IRV, "boxes": record.boxes_IR4}
                out.write({**values, "text": record.text, "summary": record.summary})

    def batches(self, workers: int, seed: int) -> Iterator[Delivered | None]:
        from torch.utils.data import DataLoader

        streaming = _import_streaming()
        data = streaming.StreamingDataset(
            local=str(self.own), shuffle=True, shuffle_seed=seed, batch_size=BATCH, num_canonical_nodes=1
        )
        return epochs(
            DataLoader(
                data,
                batch_size=BATCH,
                drop_last=True,
                num_workers=workers,
                persistent_workers=workers > 0,
                collate_fn=_collate_mappings,
            )
        )


def _import_streaming() -> Any:
    if importlib.util.find_spec("torchvision") is None:
        # Its package imports its image datasets, and those torchvision, of which nothing here has use.
        sys.modules["streaming.vision"] = types.ModuleType("streaming.vision")
    return importlib.import_module("streaming")


def _collate_mappings(samples: list[dict[str, Any]]) -> Delivered:
    return _collate([tuple(sample[field] for field in FIELDS) for sample in samples])


class LitData(Peer):
    """LitData: chunks of 64 MB, memory-mapped. It shuffles the chunks, and inside each of them."""

    package = "litdata"

    def write(self) -> None:
        importlib.import_module("litdata").optimize(
            fn=_litdata_sample,
            inputs=list(range(self.records)),
            output_dir=str(self.own),
            chunk_bytes="64MB",
            num_workers=1,
            verbose=False,
        )

    def batches(self, workers: int, seed: int) -> Iterator[Delivered | None]:
        litdata = importlib.import_module("litdata")
        data = litdata.StreamingDataset(
            str(self.own), shuffle=True, seed=seed, drop_last=True, batch_decode=1, item_shuffle_window="full"
        )
        return epochs(
            litdata.StreamingDataLoader(
                data,
                batch_size=BATCH,
                num_workers=workers,
                persistent_workers=workers > 0,
                collate_fn=_collate_tensors,
            )
        )


def _litdata_sample(number: int) -> dict[str, Any]:
    import torch

    record = make_record(number)
    arrays = {"roi": torch.from_numpy(record.roi_IRV), "boxes": torch.from_numpy(record.boxes_IR4)}
    return {**arrays, "text": record.text, "summary": record.summary}


def _collate_tensors(samples: list[dict[str, Any]]) -> Delivered:
    import torch

    roi, boxes, texts, summaries = ([sample[field] for sample in samples] for field in FIELDS)
    return deliver(torch.stack(roi), torch.stack(boxes), texts, summaries)


PEERS: dict[str, type[Peer]] = {
    "webdataset": Webdataset,
    "webdataset_lean": LeanWebdataset,
    "energon": Energon,
    "mosaicml": MosaicML,
    "litdata": LitData,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--own", type=Path, required=True)
    parser.add_argument("--records", type=int, required=True)
    options = parser.parse_args()
    # Libraries print; the answers keep their pipe to themselves.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    peer = PEERS[options.name](options.corpus, options.own, options.records)
    for line in sys.stdin:
        request = json.loads(line)
        answer = _answer(peer, request)
        print(json.dumps(answer), file=answers, flush=True)
    return 0


def _answer(peer: Peer, request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "find":
        try:
            return {"version": importlib.metadata.version(peer.package)}
        except importlib.metadata.PackageNotFoundError:
            return {"missing": f"{peer.package} is not installed for {sys.executable}"}
    import torch

    # Two threads of one copy wait for each other whenever a core is taken: LitData lost up to nine tenths that way.
    torch.set_num_threads(1)
    if request["do"] == "write":
        peer.write()
        batch = next(peer.batches(0, 0))
        assert batch is not None
        check(batch)
        return {}
    batches = peer.batches(request["workers"], request["seed"])
    return asdict(time_round(batches, lambda batch: len(batch.texts), request["seconds"], request["warm"]))


if __name__ == "__main__":
    sys.exit(main())
