"""List the language tokens of an mBART-50 tokenizer: the 52 it has, and those of our other languages.

mBART-50 marks a text's language by a token such as `en_XX`. Languages that it was not trained on get a token of the
same kind behind its vocabulary, in the order below, which must not change: a trained checkpoint holds their rows.
A new row starts as the mean of the rows of related codes: of the same family where mBART-50 has one, else of the
same script and region.
"""

#: language -> (its token, mBART-50's codes whose mean it starts from; none where the token is mBART-50's own).
MBART50_CODES: dict[str, tuple[str, tuple[str, ...]]] = {
    "amharic": ("am_ET", ("ar_AR", "he_IL")),
    "arabic": ("ar_AR", ()),
    "azerbaijani": ("az_AZ", ()),
    "bengali": ("bn_IN", ()),
    "burmese": ("my_MM", ()),
    "chinese_simplified": ("zh_CN", ()),
    "chinese_traditional": ("zh_TW", ("zh_CN",)),
    "english": ("en_XX", ()),
    "french": ("fr_XX", ()),
    "gujarati": ("gu_IN", ()),
    "hausa": ("ha_NG", ("ar_AR", "sw_KE")),
    "hindi": ("hi_IN", ()),
    "igbo": ("ig_NG", ("sw_KE", "xh_ZA")),
    "indonesian": ("id_ID", ()),
    "japanese": ("ja_XX", ()),
    "kirundi": ("rn_BI", ("sw_KE", "xh_ZA")),
    "korean": ("ko_KR", ()),
    "kyrgyz": ("ky_KG", ("kk_KZ", "tr_TR", "az_AZ")),
    "marathi": ("mr_IN", ()),
    "nepali": ("ne_NP", ()),
    "oromo": ("om_ET", ("ar_AR", "sw_KE")),
    "pashto": ("ps_AF", ()),
    "persian": ("fa_IR", ()),
    "pidgin": ("pcm_NG", ("en_XX",)),
    "portuguese": ("pt_XX", ()),
    "punjabi": ("pa_IN", ("hi_IN", "gu_IN", "ur_PK")),
    "russian": ("ru_RU", ()),
    "scottish_gaelic": ("gd_GB", ("en_XX",)),
    "serbian_cyrillic": ("sr_Cyrl", ("mk_MK", "hr_HR")),
    "serbian_latin": ("sr_Latn", ("hr_HR", "sl_SI")),
    "sinhala": ("si_LK", ()),
    "somali": ("so_SO", ("ar_AR", "sw_KE")),
    "spanish": ("es_XX", ()),
    "swahili": ("sw_KE", ()),
    "tamil": ("ta_IN", ()),
    "telugu": ("te_IN", ()),
    "thai": ("th_TH", ()),
    "tigrinya": ("ti_ER", ("ar_AR", "he_IL")),
    "turkish": ("tr_TR", ()),
    "ukrainian": ("uk_UA", ()),
    "urdu": ("ur_PK", ()),
    "uzbek": ("uz_UZ", ("kk_KZ", "tr_TR", "az_AZ")),
    "vietnamese": ("vi_VN", ()),
    "welsh": ("cy_GB", ("en_XX",)),
    "yoruba": ("yo_NG", ("sw_KE", "xh_ZA")),
}
