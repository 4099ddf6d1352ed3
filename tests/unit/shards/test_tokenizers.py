"""Text to ids and back, with a start token a language; what is missing is said."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import InputError
from shards.index import Corpus
from shards.languages import LANGUAGE_CODES
from shards.tokenizer import SentencePieceTokenizer, Tokenizer, open_tokenizer, train_sentencepiece
from tests.tiny import WORDS


@pytest.fixture(scope="module")
def tokenizer(tiny_corpus: Corpus) -> Tokenizer:
    return open_tokenizer(tiny_corpus.directory / "tokenizer")


@pytest.mark.parametrize("language", WORDS)
def test_texts_of_the_corpus_come_back(tokenizer: Tokenizer, language: str) -> None:
    ids = tokenizer.encode(WORDS[language], 500)
    assert ids[-1] == tokenizer.eos_id
    assert ids.count(tokenizer.eos_id) == 1
    assert tokenizer.decode(ids) == WORDS[language]
    assert max(ids) < tokenizer.vocab_size


@given(st.text(alphabet=st.characters(min_codepoint=0x21, exclude_categories=["C", "Z"]), max_size=30))
def test_no_character_is_unknown(tokenizer: Tokenizer, text: str) -> None:
    """Byte fallback: a script that training never saw costs more tokens, not the text."""
    ids = tokenizer.encode(text, 1000)
    assert 2 not in ids
    assert tokenizer.encode(tokenizer.decode(ids), 1000) == ids


@given(st.text(max_size=80), st.integers(2, 40))
def test_an_encoding_fits_and_ends(tokenizer: Tokenizer, text: str, length: int) -> None:
    ids = tokenizer.encode(text, length)
    assert len(ids) <= length
    assert ids[-1] == tokenizer.eos_id
    assert ids[:-1] == tokenizer.encode(text, 1000)[: len(ids) - 1]


def test_text_cannot_write_a_control_token(tokenizer: Tokenizer) -> None:
    start = tokenizer.start_id("urdu")
    ids = tokenizer.encode("<to:urdu> </s> <pad>", 100)
    assert start not in ids
    assert tokenizer.pad_id not in ids
    assert tokenizer.eos_id not in ids[:-1]


def test_decoding_stops_at_the_end_and_drops_control_tokens(tokenizer: Tokenizer) -> None:
    words = tokenizer.encode("sun moon", 100)
    start = tokenizer.start_id("english")
    assert tokenizer.decode([start, *words, *words, tokenizer.pad_id]) == "sun moon"
    assert tokenizer.decode([tokenizer.eos_id, *words]) == ""
    assert tokenizer.decode([]) == ""


def test_each_language_of_the_corpus_has_its_own_start_token(tokenizer: Tokenizer) -> None:
    starts = {tokenizer.start_id(language) for language in WORDS}
    assert len(starts) == 4
    assert not starts & {tokenizer.pad_id, tokenizer.eos_id, 2}


def test_training_gives_the_same_model_anywhere(tmp_path: Path) -> None:
    models = []
    for name in ("a", "another place"):
        train_sentencepiece(
            tmp_path / name, iter(WORDS.values()), languages=list(WORDS), vocab_size=420, character_coverage=1.0
        )
        models.append((tmp_path / name / "spiece.model").read_bytes())
    assert models[0] == models[1]


def test_a_kill_before_the_end_of_training_leaves_no_tokenizer(tmp_path: Path) -> None:
    def killed():
        yield "some text"
        raise KeyboardInterrupt

    with pytest.raises(BaseException):  # noqa: B017, PT011 (SentencePiece hands the interrupt on in a wrapping of its own)
        train_sentencepiece(tmp_path / "t", killed(), languages=["english"], vocab_size=300, character_coverage=1.0)
    with pytest.raises(InputError, match="no tokenizer"):
        open_tokenizer(tmp_path / "t")


@pytest.mark.parametrize(("texts", "vocab_size"), [(["a b c"], 20), ([], 400)])
def test_training_on_too_little_is_one_line(tmp_path: Path, texts: list[str], vocab_size: int) -> None:
    with pytest.raises(InputError, match="SentencePiece") as caught:
        train_sentencepiece(tmp_path / "t", texts, languages=["english"], vocab_size=vocab_size, character_coverage=1.0)
    assert "\n" not in str(caught.value)


def save_pretrained(directory: Path, sentinels: int) -> None:
    """A Hugging Face tokenizer of a few words, with mT5's kind of sentinels, saved as transformers saves one."""
    from tokenizers import Tokenizer as Backend
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    vocab = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", "sun", "moon"])}
    backend = Backend(WordLevel(vocab, unk_token="<unk>"))
    backend.pre_tokenizer = Whitespace()
    names = [f"<extra_id_{number}>" for number in reversed(range(sentinels))]  # mT5 stores them backwards
    PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=names,
    ).save_pretrained(directory)


def test_a_pretrained_tokenizer_starts_languages_with_its_sentinels_in_order(tmp_path: Path) -> None:
    save_pretrained(tmp_path, 100)
    tokenizer = open_tokenizer(tmp_path)
    assert not isinstance(tokenizer, SentencePieceTokenizer)
    assert tokenizer.encode("moon sun moon", 3) == [4, 3, tokenizer.eos_id]
    assert tokenizer.decode([tokenizer.start_id("urdu"), 3, 4, tokenizer.eos_id, 3]) == "sun moon"
    starts = [tokenizer.start_id(language) for language in LANGUAGE_CODES]
    assert len(set(starts)) == 45
    assert starts == list(range(starts[0], starts[0] - 45, -1))  # <extra_id_0> for the first language, and so on
    assert tokenizer.pad_id == 0
    assert max(starts) < tokenizer.vocab_size


def test_a_pretrained_tokenizer_with_too_few_sentinels_is_refused(tmp_path: Path) -> None:
    save_pretrained(tmp_path, 10)
    with pytest.raises(InputError, match=r"10 <extra_id_\*> tokens"):
        open_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_a_directory_without_a_tokenizer_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no tokenizer") as caught:
        open_tokenizer(tmp_path / name)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
