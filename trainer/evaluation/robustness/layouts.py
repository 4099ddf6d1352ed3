"""Keyboards as rows of keys, by the name that X11 has for them (xkb-data 2.35.1, layouts with their default options).

A plane is four rows from the top, divided by ` / `: the digits' row, begun left of 1 (empty where it holds Latin digits
alone); the row behind Tab; the row behind Caps Lock; the row behind Shift, begun with the key that only some keyboards
have. `·` is a key without a letter, digit or mark. The second plane is with Shift; scripts with capitals have none,
their capitals are the first plane's. `kr` is the two-set Hangul keyboard, which X11 leaves to an input method.
"""

LAYOUTS: dict[str, tuple[str, ...]] = {
    "us": (" / q w e r t y u i o p / a s d f g h j k l / · z x c v b n m",),
    "fr": ("· · é · · · · è · ç à / a z e r t y u i o p / q s d f g h j k l m ù / · w x c v b n",),
    "es": (" / q w e r t y u i o p · · ç / a s d f g h j k l ñ / · z x c v b n m",),
    "br": (" / q w e r t y u i o p / a s d f g h j k l ç / · z x c v b n m",),
    "tr": (" / q w e r t y u ı o p ğ ü / a s d f g h j k l ş i / · z x c v b n m ö ç",),
    "az": (" / q ü e r t y u i o p ö ğ / a s d f g h j k l ı ə / · z x c v b n m ç ş",),
    "vn": ("· ă â ê ô ̀ ̉ ̃ ́ ̣ đ / q w e r t y u i o p ư ơ / a s d f g h j k l / · z x c v b n m",),
    "ng-yoruba": (" / ẹ w e r t y u i o p / a s d f g h j k l / · z ọ c ṣ b n m",),
    "ng-igbo": (" / ị w e r t y u i o p ọ / a s d f g h j k l ụ / · z ṅ c v b n m",),
    "rs-latin": (" / q w e r t z u i o p š đ ž / a s d f g h j k l č ć / · y x c v b n m",),
    "ru": ("ё 1 2 3 4 5 6 7 8 9 0 / й ц у к е н г ш щ з х ъ / ф ы в а п р о л д ж э / · я ч с м и т ь б ю",),
    "ua": (" / й ц у к е н г ш щ з х ї ґ / ф і в а п р о л д ж є / · я ч с м и т ь б ю",),
    "rs": (" / љ њ е р т з у и о п ш ђ ж / а с д ф г х ј к л ч ћ / · ж џ ц в б н м",),
    "kg": ("ё 1 2 3 4 5 6 7 8 9 0 ө ң / й ц у к е н г ш щ з х ъ ү / ф ы в а п р о л д ж э / · я ч с м и т ь б ю",),
    "uz": ("ё 1 2 3 4 5 6 7 8 9 0 ғ ҳ / й ц у к е н г ш ў з х ъ / ф қ в а п р о л д ж э / · я ч с м и т ь б ю",),
    "ara": (
        "ذ 1 2 3 4 5 6 7 8 9 0 / ض ص ث ق ف غ ع ه خ ح ج د / ش س ي ب ل ا ت ن م ك ط / · ئ ء ؤ ر · ى ة و ز ظ",
        "ّ / َ ً ُ ٌ · إ / ِ ٍ · · · أ / · · ْ · · · آ",
    ),
    "ir": (
        "· ۱ ۲ ۳ ۴ ۵ ۶ ۷ ۸ ۹ ۰ / ض ص ث ق ف غ ع ه خ ح ج چ / ش س ی ب ل ا ت ن م ک گ / · ظ ط ز ر ذ د پ و",
        " / ْ ٌ ٍ ً ُ ِ َ ّ / ؤ ئ ي إ أ آ ة / · ك ٓ ژ ٰ · ٔ ء",
    ),
    "pk": (
        "ً 1 2 3 4 5 6 7 8 9 0 / ق و ع ر ت ے ء ی ہ پ / ا س د ف گ ح ج ک ل / · ز ش چ ط ب ن م",
        " / ْ ؤ ٰ ڑ ٹ َ ئ ِ ۃ ُ / آ ص ڈ ّ غ ھ ض خ ٔ / · ذ ژ ث ظ · ں ٘",
    ),
    "af-ps": (
        "· ۱ ۲ ۳ ۴ ۵ ۶ ۷ ۸ ۹ ۰ / ض ص ث ق ف غ ع ه خ ح ج چ / ش س ی ب ل ا ت ن م ک ګ / · ۍ ې ز ر ذ د ړ و ږ",
        " / ْ ٌ ٍ ً ُ ِ َ ّ ځ څ / ښ ئ ي پ أ آ ټ ڼ ة / · ظ ط ژ ء · ډ ؤ",
    ),
    "in-deva": (
        "ॊ १ २ ३ ४ ५ ६ ७ ८ ९ ० · ृ / ौ ै ा ी ू ब ह ग द ज ड ़ ॉ / ो े ् ि ु प र क त च ट / · ॆ ं म न व ल स · · य",
        "ऒ ऍ ॅ · · · · · · · · ः ऋ / औ ऐ आ ई ऊ भ ङ घ ध झ ढ ञ ऑ / ओ ए अ इ उ फ ऱ ख थ छ ठ / · ऎ ँ ण ऩ ऴ ळ श ष",
    ),
    "in-marathi": (
        "ॢ १ २ ३ ४ ५ ६ ७ ८ ९ ० · ृ / ौ ै ा ी ू ब ह ग द ज ड ़ ॉ / ो े ् ि ु प र क त च ट / · · ं म न व ल स · · य",
        "ऌ · ॅ ऽ · · · · ॐ · · ः ऋ / औ ऐ आ ई ऊ भ ङ घ ध झ ढ ञ ऑ / ओ ए अ इ उ फ ऱ ख थ छ ठ / · ॲ ँ ण · ꣻ ळ श ष",
    ),
    "np": (
        "ऽ १ २ ३ ४ ५ ६ ७ ८ ९ ० / ट ौ े र त य ु ि ो प इ ए ॐ / ा स द उ ग ह ज क ल / · ष ड च व ब न म · · ्",
        "़ · · · · · · · · · · ॒ / ठ औ ै ृ थ ञ ू ी ओ फ ई ऐ ः / आ श ध ऊ घ अ झ ख / · ऋ ढ छ ँ भ ण ं ङ",
    ),
    "bd": (
        "· ১ ২ ৩ ৪ ৫ ৬ ৭ ৮ ৯ ০ / ঙ য ড প ট চ জ হ গ / ৃ ু ি ব ্ া ক ত দ / · ঁ ো ে র ন স ম",
        " / ং · ঢ ফ ঠ ছ ঝ ঞ ঘ / ৗ ূ ী ভ · অ খ থ ধ / · ঃ ৌ ৈ ল ণ ষ শ",
    ),
    "in-guj": (
        "· ૧ ૨ ૩ ૪ ૫ ૬ ૭ ૮ ૯ ૦ · ઋ / ૌ ૈ ા ી ૂ બ હ ગ દ જ ડ ઼ ૉ / ો ે ્ િ ુ પ ર ક ત ચ ટ / · · ં મ ન વ લ સ · · ય",
        "· ઍ ૅ · · · · · · · · ઃ ૃ / ઔ ઐ આ ઈ ઊ ભ ઙ ઘ ધ ઝ ઢ ઞ ઑ / ઓ એ અ ઇ ઉ ફ ર ખ થ છ ઠ / · · ઁ ણ ન વ ળ શ ષ",
    ),
    "in-guru": (
        "· ੧ ੨ ੩ ੪ ੫ ੬ ੭ ੮ ੯ ੦ ਃ / ੌ ੈ ਾ ੀ ੂ ਬ ਹ ਗ ਦ ਜ ਡ ਼ / ੋ ੇ ੍ ਿ ੁ ਪ ਰ ਕ ਤ ਚ ਟ / · · ਂ ਮ ਨ ਵ ਲ ਸ · · ਯ",
        "· · · ੱ ੴ / ਔ ਐ ਆ ਈ ਊ ਭ ਙ ਘ ਧ ਝ ਢ ਞ / ਓ ਏ ਅ ਇ ਉ ਫ ੜ ਖ ਥ ਛ ਠ / · ਁ ੰ ਣ ਨ ਵ",
    ),
    "in-tamilnet": (
        " / ஞ ற ந ச வ ல ர ை ொ ி ு / ய ள ன க ப ா த ம ட ் ங / · ண ஒ உ எ ெ ஔ அ இ",
        " / ஶ ஷ ஸ ஹ ஜ · · ஐ ோ ீ ூ / · · · · · ழ · · · ஃ / · · ஓ ஊ ஏ ே ௌ ஆ ஈ",
    ),
    "in-tel": (
        "ొ ౧ ౨ ౩ ౪ ౫ ౬ ౭ ౮ ౯ ౦ ః ృ / ౌ ై ా ీ ూ బ హ గ ద జ డ ఞ / ో ే ్ ి ు ప ర క త చ ట / · ె ం మ న వ ల స · · య",
        "ఒ · · · · · · · · · · · ఋ / ఔ ఐ ఆ ఈ ఊ భ ఙ ఘ ధ ఝ ఢ / ఓ ఏ అ ఇ ఉ ఫ ఱ ఖ థ ఛ ఠ / · ఎ ఁ ణ · · ళ శ ష",
    ),
    "lk": (
        " / ඍ ඇ එ ර ත ය උ ඉ ඔ ප / අ ස ද ෆ ග හ ජ ක ල / · ඤ ඳ ච ව බ න ම",
        " / ඎ ඈ ඒ ් ථ ් ඌ ඊ ඕ ඵ / ආ ශ ධ · ඝ ඃ ඣ ඛ ළ / · ඥ ඬ ඡ · භ ණ ඹ",
    ),
    "th": (
        "· ๅ · · ภ ถ ุ ึ ค ต จ ข ช / ๆ ไ ำ พ ะ ั ี ร น ย บ ล ฃ / ฟ ห ก ด เ ้ ่ า ส ว ง / · ผ ป แ อ ิ ื ท ม ใ ฝ",
        "· · ๑ ๒ ๓ ๔ ู · ๕ ๖ ๗ ๘ ๙ / ๐ · ฎ ฑ ธ ํ ๊ ณ ฯ ญ ฐ · ฅ / ฤ ฆ ฏ โ ฌ ็ ๋ ษ ศ ซ / · · · ฉ ฮ ฺ ์ · ฒ ฬ ฦ",
    ),
    "mm": (
        "· ၁ ၂ ၃ ၄ ၅ ၆ ၇ ၈ ၉ ၀ / ဆ တ န မ အ ပ က င သ စ ဟ ဩ / ေ ျ ိ ် ါ ့ ြ ု ူ း / · ဖ ထ ခ လ ဘ ည ာ",
        "ဎ ဍ ၒ ဋ · · · ရ / ဈ ဝ ဣ · ဤ · ဥ · ဿ ဏ ဧ ဪ / ဗ ှ ီ ္ ွ ံ ဲ ဒ ဓ ဂ / · ဇ ဌ ဃ ဠ ယ ဉ ဦ",
    ),
    "kr": (
        " / ㅂ ㅈ ㄷ ㄱ ㅅ ㅛ ㅕ ㅑ ㅐ ㅔ / ㅁ ㄴ ㅇ ㄹ ㅎ ㅗ ㅓ ㅏ ㅣ / · ㅋ ㅌ ㅊ ㅍ ㅠ ㅜ ㅡ",
        " / ㅃ ㅉ ㄸ ㄲ ㅆ · · · ㅒ ㅖ / · / ·",
    ),
}

#: What is typed on: a language's own keyboards, and the Latin one for the Latin words in every text. Chinese and
#: Japanese are typed by sound and chosen from a list, Amharic and Tigrinya a syllable in two strokes: no key of theirs
#: is next to another character's. A language that is written on another's keyboard has that.
KEYBOARDS: dict[str, tuple[str, ...]] = {
    "arabic": ("ara", "us"),
    "azerbaijani": ("az",),
    "bengali": ("bd", "us"),
    "burmese": ("mm", "us"),
    "english": ("us",),
    "french": ("fr",),
    "gujarati": ("in-guj", "us"),
    "hausa": ("us",),
    "hindi": ("in-deva", "us"),
    "igbo": ("ng-igbo", "us"),
    "indonesian": ("us",),
    "kirundi": ("us",),
    "korean": ("kr", "us"),
    "kyrgyz": ("kg", "us"),
    "marathi": ("in-marathi", "us"),
    "nepali": ("np", "us"),
    "oromo": ("us",),
    "pashto": ("af-ps", "us"),
    "persian": ("ir", "us"),
    "pidgin": ("us",),
    "portuguese": ("br",),
    "punjabi": ("in-guru", "us"),
    "russian": ("ru", "us"),
    "scottish_gaelic": ("us",),
    "serbian_cyrillic": ("rs", "rs-latin"),
    "serbian_latin": ("rs-latin",),
    "sinhala": ("lk", "us"),
    "somali": ("us",),
    "spanish": ("es",),
    "swahili": ("us",),
    "tamil": ("in-tamilnet", "us"),
    "telugu": ("in-tel", "us"),
    "thai": ("th", "us"),
    "turkish": ("tr",),
    "ukrainian": ("ua", "us"),
    "urdu": ("pk", "us"),
    "uzbek": ("uz", "us"),
    "vietnamese": ("vn",),
    "welsh": ("us",),
    "yoruba": ("ng-yoruba", "us"),
}
