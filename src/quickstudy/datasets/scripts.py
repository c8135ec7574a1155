"""Which script a character belongs to, and which split a script belongs to."""

from __future__ import annotations

import unicodedata

# Alphabets whose letters have eight faces or more; the first word of a letter's Unicode name is its script.
_ALPHABETS = {name.upper(): name for name in ("Latin", "Greek", "Cyrillic", "Armenian", "Georgian", "Lao")}

HELD_OUT = {"Cyrillic": "val", "Armenian": "test", "Georgian": "test", "Lao": "test"}
"""The split of every script that is not trained on."""

# What is no letter of an alphabet goes by its Unicode block: first and last code point, name.
_BLOCKS = (
    (0x0000, 0x007F, "Basic Latin"),
    (0x0080, 0x00FF, "Latin-1 Supplement"),
    (0x02B0, 0x02FF, "Spacing Modifier Letters"),
    (0x0300, 0x036F, "Combining Diacritical Marks"),
    (0x1D00, 0x1D7F, "Phonetic Extensions"),
    (0x1DC0, 0x1DFF, "Combining Diacritical Marks Supplement"),
    (0x2000, 0x206F, "General Punctuation"),
    (0x2070, 0x209F, "Superscripts and Subscripts"),
    (0x20A0, 0x20CF, "Currency Symbols"),
    (0x20D0, 0x20FF, "Combining Diacritical Marks for Symbols"),
    (0x2100, 0x214F, "Letterlike Symbols"),
    (0x2150, 0x218F, "Number Forms"),
    (0x2190, 0x21FF, "Arrows"),
    (0x2200, 0x22FF, "Mathematical Operators"),
    (0x2300, 0x23FF, "Miscellaneous Technical"),
    (0x2400, 0x243F, "Control Pictures"),
    (0x2460, 0x24FF, "Enclosed Alphanumerics"),
    (0x2500, 0x257F, "Box Drawing"),
    (0x2580, 0x259F, "Block Elements"),
    (0x25A0, 0x25FF, "Geometric Shapes"),
    (0x2600, 0x26FF, "Miscellaneous Symbols"),
    (0x2700, 0x27BF, "Dingbats"),
    (0x27C0, 0x27EF, "Miscellaneous Mathematical Symbols-A"),
    (0x27F0, 0x27FF, "Supplemental Arrows-A"),
    (0x2800, 0x28FF, "Braille Patterns"),
    (0x2900, 0x297F, "Supplemental Arrows-B"),
    (0x2980, 0x29FF, "Miscellaneous Mathematical Symbols-B"),
    (0x2A00, 0x2AFF, "Supplemental Mathematical Operators"),
    (0x2B00, 0x2BFF, "Miscellaneous Symbols and Arrows"),
    (0x2E00, 0x2E7F, "Supplemental Punctuation"),
    (0xA700, 0xA71F, "Modifier Tone Letters"),
)


def script_of(character: str) -> str:
    """Return the script of a character, or where it is no letter of an alphabet its Unicode block.

    A character that stands for a letter, such as a superscript or a Roman numeral, belongs to that letter's script:
    copies of a letter never part from it.

    >>> script_of("α"), script_of("Ⅷ"), script_of("ᵸ"), script_of("→")
    ('Greek', 'Latin', 'Cyrillic', 'Arrows')
    """
    for part in (character, *unicodedata.normalize("NFKD", character)):
        word = unicodedata.name(part, "").split(" ")[0]
        # A LATIN CROSS is a dingbat, and no other symbol (So) that is named after an alphabet is one of its letters.
        if word in _ALPHABETS and unicodedata.category(part) != "So":
            return _ALPHABETS[word]
    code = ord(character)
    return next((name for first, last, name in _BLOCKS if first <= code <= last), "Other")


def split_of(script: str) -> str:
    """Return ``"train"``, ``"val"`` or ``"test"``."""
    return HELD_OUT.get(script, "train")
