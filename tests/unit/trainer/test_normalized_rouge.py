"""The profile `normalized`: what a tokenizer writes back of a text is that text, in every language, with our own
tokenizer and with one of mT5's form; score(x, decode(encode(x))) = 100."""

import io
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from shards.corpora.emoji import EmojiSource
from shards.corpora.help.mallard import read_page
from shards.corpora.help.pages import folder_language, list_pages
from shards.files.caches import default_cache
from shards.format.manifest import SPLITS
from shards.languages import LANGUAGE_CODES
from shards.problems import Problems
from shards.text.sentencepiece_tokenizer import train_sentencepiece
from shards.text.tokenizer import Tokenizer, open_tokenizer
from tests.support.sentences import SENTENCES
from trainer.evaluation.scoring.score import score_rouge
from trainer.evaluation.scoring.tokenizers import normalize

#: Language and text: what NFKC, or the rest of nmt_nfkc, writes in another way.
HARD = [
    ("thai", "น้ำท่วมทำให้คนต้องย้ายไปที่อำเภอใกล้เคียง"),
    ("thai", "นํ้า ก็ำ"),  # U+0E4D and a tone, as some keyboards write Sara Am
    ("thai", "ພາສາລາວ ນ້ຳ ຄຳ"),  # Lao's
    ("persian", "رئیس‌جمهور می‌گوید تحریم‌ها"),
    ("urdu", "ﷲ اکبر ﻻ ۱۵"),  # ligatures of the presentation forms
    ("arabic", "\u202bمُحَمَّد\u202c \u061cصلاح ــ"),
    ("telugu", "ఫేస్‌బుక్‌లో పోస్ట్"),
    ("bengali", "র‌্যাব র‍্যাব ড়"),
    ("sinhala", "ශ්‍රී ලංකාව"),
    ("hindi", "क़लम ज़मीन ख़र्च"),
    ("chinese_simplified", "ＢＢＣ记者：２０２１年，约３．５％（①）\u3000㎏"),
    ("chinese_traditional", "\uf900\ufa0a 香港"),
    ("japanese", "ﾊﾟｿｺﾝで㍿ニュース～〜"),
    ("korean", "방탄소년단 ㈜ ﾡ"),
    ("korean", unicodedata.normalize("NFD", "문재인 대통령")),
    ("vietnamese", unicodedata.normalize("NFD", "Việt Nam tuyển nữ")),
    ("burmese", "\u200bမြန်မာ\u200bနိုင်ငံ"),
    ("thai", "ភាសាខ្មែរ\u200bកម្ពុជា"),  # Khmer, with its invisible blanks
    ("english", "ﬁrst ½ … ™ ① ²\u00ad \u0000\u000b\u000c\u0085\u2028 ﹟"),
    ("english", "👩🏽‍💻 ❤️ ﾠ▁ \ufffd \ufeffend ´a `´"),
    ("turkish", "İstanbul ŞIŞLI ı"),
    ("yoruba", "ọ̀kan ẹ̀kọ́"),
    ("tigrinya", "ሰላም፡ለኩም።"),
]

#: How many bytes of each language a tokenizer learns from: the others are for what it has never seen.
_BYTES = 20_000


def lines(texts: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Lines that SentencePiece does not leave out, as many of each language."""
    size: Counter[str] = Counter()
    for language, text in texts:
        for line in text.split("\n"):
            if line.strip() and size[language] < _BYTES:
                size[language] += len(line.encode())
                yield line[:1000]


def save_mt5(directory: Path, texts: Iterable[str], *, byte_fallback: bool) -> Path:
    """A directory of google/mt5-base's form: its normalization and order of special pieces."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=16_000,
        hard_vocab_limit=False,
        model_type="unigram",
        character_coverage=0.999 if byte_fallback else 1.0,
        byte_fallback=byte_fallback,
        normalization_rule_name="nmt_nfkc",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        user_defined_symbols=[f"▁<extra_id_{number}>" for number in reversed(range(100))],
        num_threads=1,
        minloglevel=2,
    )
    directory.mkdir()
    (directory / "spiece.model").write_bytes(model.getvalue())
    config = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "additional_special_tokens": None}
    config |= {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    (directory / "config.json").write_text(json.dumps({"model_type": "mt5"}))
    return directory


def tokenizers(directory: Path, texts: list[tuple[str, str]]) -> dict[str, Tokenizer]:
    """Ours, and mT5's form: characters that are no pieces spelled in bytes, and with every character among them."""
    ours = train_sentencepiece(
        directory / "ours", lines(texts), languages=list(LANGUAGE_CODES), vocab_size=1500, character_coverage=0.98
    )
    seen = [*lines(texts), *_characters(texts)]
    in_bytes = save_mt5(directory / "bytes", lines(texts), byte_fallback=True)
    whole = save_mt5(directory / "whole", seen, byte_fallback=False)
    return {"ours": ours, "mt5 in bytes": open_tokenizer(in_bytes), "mt5": open_tokenizer(whole)}


def _characters(texts: Iterable[tuple[str, str]]) -> list[str]:
    found = sorted({character for _, text in texts for character in text if not character.isspace()})
    return ["".join(found[begin : begin + 500]) for begin in range(0, len(found), 500)]


def written_back(tokenizer: Tokenizer, text: str) -> str:
    return tokenizer.decode(tokenizer.encode(text, 1_000_000))


def unlike(tokenizer: Tokenizer, texts: list[tuple[str, str]], *, every: int = 1) -> list[tuple[str, str, str]]:
    """The texts that do not come back with 100. What has no word has no score to lose.

    every: of those that are the same when they are normalized, and so the same to every measure, one in so many is
    scored.
    """
    triples = [(language, text, written_back(tokenizer, text)) for language, text in texts]
    differ = [normalize(text) != normalize(written) for _, text, written in triples]
    triples = [one for place, one in enumerate(triples) if differ[place] or place % every == 0]
    scores = score_rouge(triples, profile="normalized")
    # A single word has no pair: its ROUGE-2 is 0 whatever it is compared with.
    return [one for one, of in zip(triples, scores, strict=True) if of is not None and (of[0], *of[2:]) != (1, 1, 1)]


def test_hard_texts_come_back_whole(tmp_path: Path) -> None:
    texts = [*HARD, *SENTENCES.items()]
    for name, tokenizer in tokenizers(tmp_path, texts).items():
        assert unlike(tokenizer, texts) == [], name
    lost = score_rouge([(language, text, written_back(tokenizer, text)) for language, text in HARD], profile="xlsum")
    assert sum(scores is not None and scores[0] < 0.99 for scores in lost) > 8, "which xl-sum's code points do not"


def test_words_of_a_dictionary_stay_whole() -> None:
    """NFKC takes Sara Am apart, and no dictionary of Thai has its parts."""
    assert normalize("น้ำ ทำ") == normalize("นํ้า ทํา") == "น้ำ ทำ"
    assert normalize("ນ້ຳ") == "ນ້ຳ"


@given(st.text(max_size=30))
def test_what_is_normalized_stays_so(text: str) -> None:
    normalized = normalize(text)
    assert normalize(normalized) == normalized
    assert normalized == " ".join(normalized.split())


@pytest.mark.parametrize("first", range(0, 0x30000, 0x8000))
def test_every_character_is_what_sentencepiece_makes_of_it(first: int) -> None:
    theirs = sentencepiece.SentencePieceNormalizer(rule_name="nmt_nfkc", escape_whitespaces=False)
    for code in range(max(first, 1), first + 0x8000):
        character = chr(code)
        if unicodedata.category(character) in ("Cs", "Cn", "Co"):
            continue
        for text in (f"a{character}b", f"{character} a", f"a{character}{character}"):
            assert normalize(theirs.normalize(text)) == normalize(text), hex(code)


@pytest.mark.long
def test_every_text_of_the_emoji_corpus_comes_back_whole(tmp_path: Path) -> None:
    source = EmojiSource(default_cache(), vendors=())
    stories = [story for split in SPLITS for story in source.load(split, 0, source.stories(split), Problems())]
    texts = [(of.language, text) for story in stories for of in story.articles for text in (of.text, of.summary)]
    assert len({language for language, _ in texts}) == 44
    _come_back(tmp_path, texts)


@pytest.mark.long
def test_every_text_of_the_help_corpus_comes_back_whole(tmp_path: Path) -> None:
    if not Path("/usr/share/help/C/gnome-help").is_dir():
        pytest.skip("gnome-user-docs is not installed")
    listing = list_pages(None)
    texts = []
    for name, _ in listing.files:
        if (language := folder_language(name.split("/")[0])) is not None:
            page = read_page(listing.root / name)
            # A paragraph at a time: the longest common subsequence of whole pages takes rouge_score minutes.
            texts += [(language, text) for text in (*page.paragraphs, page.summary)]
    assert len({language for language, _ in texts}) > 15
    _come_back(tmp_path, texts)


def _come_back(directory: Path, texts: list[tuple[str, str]]) -> None:
    different = list(dict.fromkeys((language, text) for language, text in texts if text.strip()))
    for name, tokenizer in tokenizers(directory, different).items():
        assert unlike(tokenizer, different, every=20) == [], name
