"""The encodings of foreign texts: byte order marks, and the labels in documents and headers."""

import codecs
import re
from encodings.aliases import aliases
from functools import lru_cache

MARKS = {
    codecs.BOM_UTF8: "utf_8_sig",
    codecs.BOM_UTF32_LE: "utf_32",  # before UTF-16: its mark begins with UTF-16's
    codecs.BOM_UTF32_BE: "utf_32",
    codecs.BOM_UTF16_LE: "utf_16",
    codecs.BOM_UTF16_BE: "utf_16",
    b"<\0\0\0": "utf_32_le",
    b"\0\0\0<": "utf_32_be",
    b"<\0": "utf_16_le",
    b"\0<": "utf_16_be",
}
DECLARED_ENCODING = re.compile(rb"\s*<\?xml\s[^<>]*?\bencoding\s*=\s*[\"']([\w.:-]{1,40})[\"']")
MAX_DECLARATION = 200
# Python's codecs for the encodings of real documents. Of the others, `punycode` is quadratic, `unicode_escape` warns,
# and no declaration that can be read is in EBCDIC.
TEXT_CODEC = re.compile(
    r"utf_8|cp(?!037|273|424|500|875|1026|1140)\d+|iso8859_\d+|koi8_\w|mac_\w+|gb18030|big5\w*"
    r"|euc_\w+|iso2022_\w+|johab|hz|ptcp154"
)
# Documents that claim the first are usually in the second, which has all characters of the first.
WIDER_CODECS = {
    "ascii": "cp1252",
    "latin_1": "cp1252",
    "iso8859_1": "cp1252",
    "iso8859_9": "cp1254",
    "iso8859_11": "cp874",
    "tis_620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "x_sjis": "cp932",
    "euc_kr": "cp949",
}


@lru_cache(maxsize=100)
def find_codec(label: str) -> str:
    """Return Python's codec for an encoding's label, or ""."""
    name = re.sub(r"[^a-z0-9]+", "_", label.lower())
    name = aliases.get(name, name)
    name = WIDER_CODECS.get(name, name)
    return name if TEXT_CODEC.fullmatch(name) else ""
