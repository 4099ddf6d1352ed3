"""Check one shard against the index: every byte of its tar, its texts in the arena, its own part of the index.

Knows nothing of other shards, so that processes can share the work.
"""

import os
import tarfile
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from shards.files.checksum import crc32c
from shards.format.part_index import label_of, parse_texts
from shards.format.pixels import SUFFIXES
from shards.format.verification import parts
from shards.format.verification.findings import Findings
from shards.format.verification.pixels import IMAGE_NAME, image_problem, indexed_files
from shards.format.verification.tars import Walk, parse_array, walk_tar, webdataset_problem

#: From an article's features to its boxes: padding, and three blocks of header where a name is long.
_LONGEST_WAY = 4 * tarfile.BLOCKSIZE - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardReport:
    """Findings on one shard.

    expected, found: the first article's member by the index and in the tar, which tell whose tar it is.
    foreign: the tar holds articles, and none that the index has in it.
    """

    name: str
    findings: Findings
    members: int = 0
    expected: str | None = None
    found: str | None = None
    foreign: bool = False


Kind = Literal["json", "roi", "boxes", "pixels"]
#: How the names of members end; those of pixels with a number and the format.
_ENDINGS: dict[Kind, str] = {"json": ".json", "roi": ".roi.npy", "boxes": ".boxes.npy"}


@dataclass(slots=True)
class _Member:
    """A member of the tar by the index, with the articles that use it.

    crc: -1 where no index vouches for it.  images: how many it is of; of pixels, which of them it is.
    """

    kind: Kind
    offset: int
    length: int
    crc: int
    images: int
    rows: list[int] = field(default_factory=list)  # of the shard's own table


def check_shard(task: parts.ShardTask) -> ShardReport:
    """Return everything that is wrong with one shard. Never raises for what it finds in a file."""
    findings = Findings()
    path = task.directory / task.name
    try:
        if not path.is_file():
            findings.add(f"{task.name}: is missing")
            return ShardReport(name=task.name, findings=findings)
        return _ShardCheck(task, findings).run()
    except OSError as error:
        findings.add(f"{task.name}: cannot be read ({error.strerror or error})")
        return ShardReport(name=task.name, findings=findings)


class _ShardCheck:
    def __init__(self, task: parts.ShardTask, findings: Findings) -> None:
        self._task, self._findings = task, findings
        self._path = task.directory / task.name
        self._table = parts.read_rows(task)
        self._images = parts.read_images(task)
        self._keys = parts.read_keys(task)
        #: Row of a variant -> that of its article, in the shard's own table.
        self._target_of = parts.read_variants(task, len(self._table)) if self._table is not None else {}
        self._labels = parts.read_labels(task, self._table) if self._table is not None else None
        self._crc_of: dict[str, int] = {}  # name of a member -> its checksum by the index

    def run(self) -> ShardReport:
        task, findings = self._task, self._findings
        size = self._path.stat().st_size
        walk = walk_tar(self._path)
        articles = [name for name, _ in walk.members.values() if name.endswith(".json")]
        wanted = self._article_names()
        report = ShardReport(
            name=task.name,
            findings=findings,
            members=len(walk.members),
            expected=wanted[0] if wanted else None,
            found=articles[0] if articles else None,
            foreign=bool(wanted) and bool(articles) and set(wanted).isdisjoint(articles),
        )
        if self._table is not None:
            parts.check_part(self._path, task, self._table, self._images, self._target_of, self._keys, findings)
        if report.foreign:  # verify.py finds its owner among all shards; its size follows from that
            return report
        if size != task.size:
            findings.add(f"{task.name}: is {size:,} bytes, the manifest says {task.size:,}")
        if walk.problem is not None:
            findings.add(f"{task.name}: {walk.problem}")
        members = self._members(walk)
        inside = Findings()
        wrong = self._check_members(members, walk, inside)
        if self._table is not None and wrong >= 2 and 2 * wrong > len(members):
            # One line instead of thousands that say the same.
            says = "belongs to another index: the tar is whole, but " if walk.problem is None else ""
            findings.add(
                f"{task.name}: {says}{wrong:,} of {len(members):,} members are not what the index says, "
                f"the first: {inside.shown[0].removeprefix(task.name + ': ')}"
            )
        else:
            findings.extend(inside)
        if not findings.count and self._keys is not None and self._table is not None:
            problem = webdataset_problem(self._path, self._keys, self._crc_of)
            if problem is not None:
                findings.add(f"{task.name}: {problem}")
        return report

    def _article_names(self) -> list[str]:
        """Return the members that hold the shard's articles by the index, in the order of its rows."""
        if self._table is None or self._keys is None:
            return []
        return [self._name(row, _ENDINGS["json"]) for row in range(len(self._table))]

    def _name(self, row: int, ending: str, *, own: bool = True) -> str:
        """Return the name that a member of article `row` has, or would have if its story's articles share it.

        A variant's images are its article's.
        """
        assert self._table is not None
        target = self._target_of.get(row)
        if target is not None and ending != _ENDINGS["json"]:
            return self._name(target, ending, own=own)
        story = int(self._table[row]["story"]) - self._task.first_story
        known = self._keys is not None and 0 <= story < len(self._keys)
        stem = self._keys[story] if known and self._keys is not None else f"(story {story + self._task.first_story})"
        if own:
            stem += f".{self._language(row)}" + ("" if target is None else f"~{self._language(target)}")
        return stem + ending

    def _language(self, row: int) -> str:
        assert self._table is not None
        names, language = self._task.languages, int(self._table[row]["language"])
        return names[language] if language < len(names) else f"(language {language})"

    def _members(self, walk: Walk) -> list[_Member]:
        """Return what the index has in this tar, by offset; without an index, what the tar itself has."""
        found: dict[tuple[Any, ...], _Member] = {}
        if self._table is None:
            for offset, (name, length) in walk.members.items():
                for kind, ending in _ENDINGS.items():
                    if name.endswith(ending):
                        found[offset, kind] = _Member(kind, offset, length, crc=-1, images=-1)
            return [*found.values(), *self._pixels(walk)]
        kinds = tuple(_ENDINGS)
        for row, record in enumerate(self._table):
            images = int(record["images"])
            for kind in kinds if images else kinds[:1]:
                offset, length, crc = (int(record[f"{kind}_{what}"]) for what in ("offset", "length", "crc"))
                # Articles that share their images have the same numbers; any other number is another claim.
                key = (offset, kind, length, crc, images if kind != "json" else row)
                found.setdefault(key, _Member(kind, offset, length, crc, images)).rows.append(row)
            if images:
                way = int(record["boxes_offset"]) - int(record["roi_offset"]) - int(record["roi_length"])
                if not 0 <= way <= _LONGEST_WAY:
                    name = self._name(row, _ENDINGS["roi"])
                    self._findings.add(f"{self._task.name}: the boxes of {name} do not lie behind it")
        return sorted([*found.values(), *self._pixels(walk)], key=lambda member: member.offset)

    def _pixels(self, walk: Walk) -> list[_Member]:
        """Return the image files by the index, each with its articles; without an index, by the tar itself."""
        if self._table is None or self._images is None:
            files = [place for place, (name, _) in walk.members.items() if IMAGE_NAME.search(name)]
            return [_Member("pixels", place, walk.members[place][1], crc=-1, images=-1) for place in files]
        return [
            _Member("pixels", file.offset, file.length, file.crc, file.number, list(file.rows))
            for file in indexed_files(self._task.name, self._table, self._images, self._findings)
        ]

    def _check_members(self, members: list[_Member], walk: Walk, findings: Findings) -> int:
        """Check name, place, checksum and content of every member; return how many differ from the index."""
        where = self._task.name
        by_name = {name: offset for offset, (name, _) in walk.members.items()}
        wrong = 0
        cut: list[str] = []
        with open(self._path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            for member in members:
                name, misplaced = self._place(member, walk, by_name)
                if misplaced is not None:
                    wrong += 1
                    findings.add(f"{where}: {misplaced}")
                    continue
                if member.offset + member.length > size:
                    cut.append(name)
                    continue
                padded = -(-member.length // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                data = os.pread(file.fileno(), padded, member.offset)
                content, padding = data[: member.length], data[member.length :]
                self._crc_of[name] = member.crc
                if member.crc != -1 and crc32c(content) != member.crc:
                    wrong += 1
                    findings.add(f"{where}: {name} at byte {member.offset}: its checksum is wrong")
                    self._check_texts(member, None, findings)
                    continue
                if padding.strip(b"\0"):
                    findings.add(f"{where}: the {len(padding)} bytes behind {name} are not zero")
                self._check_content(member, name, content, findings)
        if cut:
            findings.add(f"{where}: is cut off: {len(cut):,} members are not there to their end, {cut[0]} the first")
        if self._table is not None:
            claimed = {member.offset for member in members}
            extra = [name for offset, (name, _) in walk.members.items() if offset not in claimed]
            findings.add_many(len(extra), (f"{where}: {name} is in no row of the index" for name in extra))
        return wrong

    def _place(self, member: _Member, walk: Walk, by_name: dict[str, int]) -> tuple[str, str | None]:
        """Return the member's name, and what is wrong where the tar has another one there."""
        at = walk.members.get(member.offset)
        if member.crc == -1:
            assert at is not None
            return at[0], None
        if member.kind == "pixels":  # the index leaves the format to the name
            suffix = at[0].rpartition(".")[2] if at is not None else ""
            ending = f".{member.images}.{suffix if suffix in SUFFIXES else next(iter(SUFFIXES))}"
        else:
            ending = _ENDINGS[member.kind]
        names = list(dict.fromkeys(self._name(row, ending) for row in member.rows))
        shared = {self._name(row, ending, own=False) for row in member.rows} if member.kind != "json" else set()
        name = names[0] if len(names) == 1 else min(shared)
        if at is None:
            if member.offset >= walk.end:  # behind a damaged header: the checksum alone vouches for it
                return name, None
            elsewhere = next((each for each in (*names, *shared) if each in by_name), None)
            if elsewhere is None:
                return name, f"{name} is not in the tar; the index has it at byte {member.offset}"
            return name, f"{elsewhere} lies at byte {by_name[elsewhere]}, the index says {member.offset}"
        found, length = at
        if self._keys is not None and not (names == [found] or shared == {found}):
            return name, f"the member at byte {member.offset} is {found}, the index says {name}"
        if length != member.length:
            return found, f"{found} is {length:,} bytes, the index says {member.length:,}"
        return found, None

    def _check_content(self, member: _Member, name: str, content: bytes, findings: Findings) -> None:
        where = f"{self._task.name}: {name}"
        if member.kind == "json":
            variant = member.rows[0] in self._target_of if member.rows else "~" in name.split(".")[1]
            pieces, problem = parse_texts(content, variant=variant)
            if problem is not None:
                findings.add(f"{where}: {problem}")
            elif member.rows and self._labels is not None and label_of(content) != self._labels[member.rows[0]]:
                findings.add(f"{where}: its label {label_of(content)!r} is not that of labels.npy")
            self._check_texts(member, pieces, findings)
            return
        if member.kind == "pixels":
            if (problem := image_problem(name, content)) is not None:
                findings.add(f"{where}: {problem}")
            return
        regions = self._task.regions
        width, dtype = (self._task.feature_size, np.dtype("<f2")) if member.kind == "roi" else (4, np.dtype("<f4"))
        array, problem = parse_array(content, dtype)
        if array is None:
            findings.add(f"{where}: {problem}")
            return
        images = member.images if member.images >= 0 else len(array)  # without an index any number is right
        if array.shape != (images, regions, width):
            findings.add(f"{where}: has the shape {array.shape}, the index says ({images}, {regions}, {width})")
        finite = np.isfinite(array)
        if not finite.all():
            findings.add(f"{where}: {int((~finite).sum()):,} of {array.size:,} values are not finite")
        elif member.kind == "boxes" and not ((array >= 0) & (array <= 1)).all():
            outside = int(((array < 0) | (array > 1)).sum())
            findings.add(f"{where}: {outside:,} of {array.size:,} values are outside [0, 1]")

    def _check_texts(self, member: _Member, pieces: list[bytes] | None, findings: Findings) -> None:
        """Check the article's part of the text arena against its checksum, and against `pieces` of the tar."""
        path = self._task.directory / "text.bin"
        if member.kind != "json" or self._table is None or not path.is_file():
            return
        record = self._table[member.rows[0]]
        lengths = [int(record[f"{what}_length"]) for what in ("url", "text", "summary")]
        begin, of = int(record["text_offset"]), f"{self._name(member.rows[0], _ENDINGS['json'])} of {self._task.name}"
        with open(path, "rb", buffering=0) as file:
            whole = begin + sum(lengths) <= os.fstat(file.fileno()).st_size
            arena = os.pread(file.fileno(), sum(lengths), begin) if whole else b""
        if not whole:
            findings.add(f"text.bin, at byte {begin}: ends before the text of {of}")
        elif crc32c(arena) != int(record["text_crc"]):
            findings.add(f"text.bin, at byte {begin}: the checksum of the text of {of} is wrong")
        elif pieces is not None and ([len(piece) for piece in pieces] != lengths or b"".join(pieces) != arena):
            findings.add(f"text.bin, at byte {begin}: is not the url, text and summary of {of}")
