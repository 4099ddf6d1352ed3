"""Hold small directories in the published layouts of XVNLI, xGQA and MaRVL, with real pictures."""

import json
from pathlib import Path
from typing import Any

from tests.support.captions_tree import picture

#: Labels of XVNLI, as a number of an example chooses them.
NLI = ("contradiction", "neutral", "entailment")


class IglueTree:
    """Writes files of annotations and pictures below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    def picture(self, name: str, number: int = 0) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(self.root / name, "PNG" if name.endswith(".png") else "JPEG")

    def lines(self, file: str, records: list[dict[str, Any] | str]) -> None:
        texts = [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in records]
        self.text(file, "".join(text + "\n" for text in texts))

    def text(self, file: str, text: str) -> None:
        (self.root / file).parent.mkdir(parents=True, exist_ok=True)
        (self.root / file).write_text(text, encoding="utf-8")

    def xvnli(self, *, train: int = 12, test: int = 4, pictures: int = 6) -> Path:
        """Write XVNLI: English in all splits, Arabic and French in the test. A label is what the text says."""
        for number in range(pictures):
            self.picture(f"flickr30k-images/{1000 + number}.jpg", number)
        for code, words in (("en", "no maybe yes"), ("fr", "non peut-être oui"), ("ar", "لا ربما نعم")):
            for split, count in (("train", train), ("dev", test), ("test", test)):
                if code == "en" or split == "test":
                    records = [nli(split, number, words.split(), pictures) for number in range(count)]
                    self.lines(f"annotations/{code}/{split}.jsonl", list(records))
        return self.root

    def xgqa(self, *, train: int = 12, test: int = 4) -> Path:
        """Write GQA's training and validation, and xGQA's test in four languages, German among them."""
        for number in range(4):
            self.picture(f"images/n{number}.jpg", number)
        for file, count in (("gqa/train_balanced_questions.json", train), ("gqa/val_balanced_questions.json", test)):
            split = file[4:7]
            self.text(file, json.dumps({f"{split}{k}": gqa("Is it red?", k) for k in range(count)}))
        for code, question in (("en", "Is it red?"), ("de", "Ist es rot?"), ("id", "Apakah merah?"), ("bn", "লাল কি?")):
            of_test = {f"{number}": gqa(question, number) for number in range(test)}
            self.text(f"xGQA/few_shot/{code}/test.json", json.dumps(of_test))
        return self.root

    def marvl(self, *, train: int = 12, test: int = 4) -> Path:
        """Write NLVR2 in three splits, and MaRVL in Chinese and Swahili, whose pictures share their names."""
        for split, count in (("train", train), ("dev", test), ("test1", test)):
            for number in range(count):
                for side in range(2):
                    self.picture(f"nlvr2/{split}/{split}-{number}-0-img{side}.png", number + side)
            self.lines(f"nlvr2/data/{split}.json", [nlvr(split, number) for number in range(count)])
        for code, concept in (("zh", "52-火锅"), ("sw", "52-火锅")):
            for number in range(3):
                self.picture(f"marvl-images/{code}/images/{concept}/52-{number}.jpg", number + len(concept))
            self.lines(
                f"marvl-annotations/marvl-{code}.jsonl", [marvl(code, concept, number) for number in range(test)]
            )
        return self.root


def nli(split: str, number: int, words: list[str], pictures: int) -> dict[str, Any]:
    """Return a line of XVNLI."""
    image = str(1000 + number % pictures)
    return {
        "gold_label": NLI[number % 3],
        "sentence1": "A premise.",
        "sentence2": f"{words[number % 3]} {number // 3}",
        "captionID": f"{image}.jpg#0",
        "pairID": f"{image}.jpg#0{split}{number}",
        "Flikr30kID": image,
    }


def gqa(question: str, number: int) -> dict[str, Any]:
    """Return a question of GQA, as it is published, with some of what is not read."""
    answer = ("yes", "no", "red")[number % 3]
    return {"question": f"{question} {number}", "imageId": f"n{number % 4}", "answer": answer, "isBalanced": True}


def nlvr(split: str, number: int) -> dict[str, Any]:
    """Return a line of NLVR2."""
    word = ("False", "True")[number % 2]
    return {
        "validation": {"61": word},
        "sentence": f"There are {number} dogs.",
        "label": word,
        "identifier": f"{split}-{number}-0-1",
    }


def marvl(code: str, concept: str, number: int) -> dict[str, Any]:
    """Return a line of MaRVL."""
    return {
        "concept": concept,
        "language": code,
        "caption": f"至少有一张图 {number}" if code == "zh" else f"Picha moja {number}",
        "left_img": f"{concept}/52-{number % 3}.jpg" if number % 2 else f"52-{number % 3}.jpg",
        "right_img": f"{concept}/52-{(number + 1) % 3}.jpg",
        "chapter": "Food and Beverages",
        "id": f"{code}-{number}",
        "label": number % 2 == 0,
    }
