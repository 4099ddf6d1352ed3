"""List characters that look alike in print, as OCR mistakes them: the members of a group for each other.

Letters that differ in a dot or a stroke, marks of one place, digits and letters of their shape. Complete for no script:
only undoubted cases are listed.
"""

import unicodedata

_LATIN = "0OQD 1lIi 2Zz 5Ss 6b 8B 9gq ce nhr hb uv vy ft ij CG EF PRB UV MN VY KX oae"
_CYRILLIC = (
    "0ОС 3ЗЭ 6б 3зэ ийн шщ цщ ес ос еёє ьъы лп нп мт гт ії гґ нң уүў оө хҳ гғ кқ ИЙН ШЩ ЕЁЄ ЬЪЫ ВБ НП ЛП ЦЩ ІЇ ГҐ "
    "ћђ ЋЂ љњ ЉЊ цџ ЦЏ"
)
#: Letters that differ in their dots.
_ARABIC = (
    "بتثپٹټن نںڼ جحخچځڅ دذڈډ رزژڑړږ سشښ صض طظ عغ فق كکگګ ةهہۃ ىيیېۍئے أإآا وؤ ٠۰ "
    "\u064e\u0650 \u064b\u064d"  # fatha and kasra, and their doubles
)
_INDIC = (
    "घध भम बव पष यथ डङ टढ १९ \u0947\u0948 \u094b\u094c \u0902\u0901 \u0941\u0942\u0943 "  # Devanagari
    "বর যষ খথ ঘয উঊ এঐ ওঔ \u09c1\u09c2 \u09c7\u09c8 "  # Bengali
    "ઘધ ભમ પષ યથ ડઙ કફ ર૨ \u0ac7\u0ac8 \u0acb\u0acc \u0ac1\u0ac2 "  # Gujarati
    "ਸਮ ਪਧਯ \u0a47\u0a48 \u0a4b\u0a4c \u0a41\u0a42 \u0a02\u0a70 "  # Gurmukhi
    "னண எஏ ஒஓ உஊ \u0bc6\u0bc7 \u0bca\u0bcb \u0bbf\u0bc0 \u0bc1\u0bc2 "  # Tamil
    "దధథ డఢ పఫ చఛ బభ రఠ \u0c3f\u0c40 \u0c46\u0c47 \u0c4a\u0c4b \u0c41\u0c42 "  # Telugu
    "වච තන පෂ බඛ එඒ ඔඕ \u0dd2\u0dd3 \u0dd4\u0dd6 \u0dd9\u0dda \u0ddc\u0ddd"  # Sinhala
)
_EAST = (
    "กถภ ขชซ คตด บป ผฝพฟ นม ฎฏ อฮ ทฑ ลส เแ ใไ \u0e34\u0e35\u0e36\u0e37 \u0e38\u0e39 \u0e48\u0e49\u0e4a\u0e4b "  # Thai
    "ဝ၀ ရ၇ ဉဥ ညဉ ပဗ \u102d\u102e \u102f\u1030 \u102b\u102c "  # Burmese
    "シツ ソン ノメ クケ わねれ るろ きさ ぬめ あお かが きぎ くぐ けげ はばぱ ひびぴ ふぶぷ へべぺ ほぼぽ "
    "カ力 ロ口 ニ二 エ工 タ夕 ハ八 ハバパ ヒビピ フブプ ホボポ ト卜 ー一 "
    "己已巳乙 未末 土士上 日曰目 人入八 大太犬 天夫 千干于 牛午 王玉主 目自 田由甲申 刀力 今令 白百 本木 乌鸟 贝见 "
    "折拆析 治冶 侯候 晴睛 情清请 情清請 慕幕墓暮 辨辩 辨辯 微徵 拨拔 卷券 戊戌戍 住往佳 代伐 问间 問間 门们 門們 "
    "很狠恨 钱线 休体 找我 历厉 兔免 鳥烏島 哀衷 市巿 小少 水永氷 石右 因困 官宫 官宮 侍待持特 使便 史吏 買貿 經輕 "
    "经轻 記紀 记纪"
)
#: A syllable of Ethiopic is its consonant's sign with a stroke for the vowel: seven forms, eight code points apart.
_ETHIOPIC = " ".join(
    "".join(chr(code) for code in range(first, first + 7) if unicodedata.category(chr(code)) == "Lo")
    for first in range(0x1200, 0x1358, 8)
)
#: Parts of a Hangul syllable.
_JAMO = "ㄱㅋ ㄷㄹ ㅈㅊ ㅂㅍ ㅇㅎ ㅁㅇ ㅏㅑㅣ ㅓㅕㅣ ㅗㅛ ㅜㅠ ㅐㅔ"


def _groups(text: str) -> dict[str, tuple[str, ...]]:
    """Return each character -> the others of its groups, in the order of the table."""
    found: dict[str, dict[str, None]] = {}
    for group in text.split():
        for character in group:
            found.setdefault(character, {}).update(dict.fromkeys(other for other in group if other != character))
    return {character: tuple(others) for character, others in found.items()}


#: Two letters that look like one, and the reverse.
RUNS: dict[str, str] = {"rn": "m", "cl": "d", "vv": "w", "nn": "m", "li": "h", "ri": "n"}
SPLITS: dict[str, str] = {"m": "rn", "d": "cl", "w": "vv", "h": "li"}
LOOK_ALIKE = _groups(f"{_LATIN} {_CYRILLIC} {_ARABIC} {_INDIC} {_EAST} {_ETHIOPIC}")
JAMO_LOOK_ALIKE = _groups(_JAMO)
