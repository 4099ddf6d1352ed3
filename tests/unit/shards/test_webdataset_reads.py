"""Stock webdataset's own reading of a shard, held against its index, and without the seconds that torch takes."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

from shards.files.checksum import crc32c
from tests.support.forkserver import ROOT

_MEMBERS = {"a.json": b"1", "a.npy": b"22", "b.json": b"333"}

_READ = """
import json, sys
from pathlib import Path
from shards.format.verification.tars import webdataset_problem

found = [webdataset_problem(Path(sys.argv[1]), keys, crc_of) for keys, crc_of in json.load(sys.stdin)]
assert not sys.modules.keys() & {"torch", "webdataset"}, "reading brought them"

import torch, webdataset
assert issubclass(webdataset.WebDataset, torch.utils.data.IterableDataset), "the copy without torch was left behind"
assert webdataset_problem(Path(sys.argv[1]), ["a", "b"], {}) is not None
print(json.dumps(found))
"""


def test_each_difference_from_the_index_is_found_without_torch(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for name, content in _MEMBERS.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    right = {name: crc32c(content) for name, content in _MEMBERS.items()}
    claims = [
        (["a", "b"], right),
        (["b", "a"], right),
        (["a", "b"], right | {"a.npy": right["a.json"]}),
        (["a", "b", "c"], right),
        (["a", "b"], right | {"b.npy": 0}),
    ]
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(tmp_path / "shard.tar")],
        cwd=ROOT,
        input=json.dumps(claims),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        None,
        "webdataset reads the sample a where the index has b",
        "webdataset reads other bytes of a.npy than the index has",
        "webdataset reads no sample c, which the index has",
        "webdataset reads 3 members, the index has 4",
    ]
