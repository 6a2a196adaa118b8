"""Checks of class names: uninformative names and pairs of similar names."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

# Generic words. They are uninformative alone, or before a number or a single letter.
_EMPTY_WORDS = (
    "art|article|batch|bin|cat|category|class|cls|cluster|code|datei|defect type|dir|file|folder|group|"
    "grp|id|image|images|img|item|kategorie|kind|klasse|label|lbl|misc|model|new folder|no|nr|number|"
    "obj|object|ordner|other|others|part|photo|photos|pic(?:tures?)?|product|sample|set|sku|"
    "species|style|sub|subclass|tag|test|thing|things|train|typ|type|unknown|unlabeled|unlabelled|"
    "unnamed|unsorted|untitled|val|variant|x"
)
# Generic words that are also the name of a thing.
_INFORMATIVE_ALONE = re.compile(r"art|bin|cat|file|folder|model|part|photo|pic(?:ture)|set|tag|train")
# `++`: digits that can be divided in many ways would take exponential time.
_NUMBERED = re.compile(rf"(?:{_EMPTY_WORDS})(?: ?\d++[a-z]?| [a-z])*")
_WORDNET = re.compile(r"[nvars]?\d{6,}(?:-[nvars])?")
_HEXADECIMAL = re.compile(r"(?=.*\d)(?=.*[a-f])[0-9a-f]{8,}")
_CODE = re.compile(r"(?=(?:.*\d){2})(?!.*[^\W\d_]{3})[\w ]{5,}")
LONG = 7
"""Minimum length of a name in which a single different letter is probably a typing error (letters)."""
MAX_LETTERS = 64
"""Maximum length of such a name (letters). The memory of the comparison grows with its square."""
_LETTER = re.compile(r"[^\W\d_]", re.ASCII)
_TWINS = str.maketrans(
    {
        **dict(zip("АВЕЅІЈКМНОРСТУҮХԌԜ", "ABESIJKMHOPCTYYXGW", strict=True)),  # Cyrillic
        **dict(zip("асеһіјорԛѕѵԝхуүԁӏ", "acehijopqsvwxyydl", strict=True)),
        **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧνορ", "ABEZHIKMNOPTYXvop", strict=True)),  # Greek
    }
)
"""Letters that look like a Latin one (Unicode Technical Standard 39). Greek α, γ, ι, σ, υ and Cyrillic г are
left out, because readers tell them apart."""


def is_uninformative(name: str) -> bool:
    """Return True for a number, a Latin letter, a code or a generic word with a number.

    Examples: "7", "B", "n02124075", "A12-B7", "class_1", "SKU 4711". A single character of another script may
    be a word.
    """
    words = " ".join(re.split(r"[\W_]+", unicodedata.normalize("NFKC", name).casefold())).strip()
    if not words:  # symbols and emoji may be informative to the text tower
        return False
    joined = words.replace(" ", "")
    if joined.isnumeric() or _LETTER.fullmatch(joined):
        return True
    if _NUMBERED.fullmatch(words):
        return not _INFORMATIVE_ALONE.fullmatch(words)
    return any(code.fullmatch(joined) for code in (_WORDNET, _HEXADECIMAL, _CODE))


def similar_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of names that look alike, or differ in punctuation, a plural s or a letter of a long word.

    Examples: "gear" and "geаr" with a Cyrillic а, "t-shirt" and "tshirt", "dog" and "dogs", "sandal" and
    "sandel". Different numbers are taken as intended: "size 38" and "size 39" are not a pair.
    """
    pairs: dict[tuple[str, str], None] = {}
    by_key: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_key[_key(name)].append(name)
    for same in by_key.values():
        pairs.update(dict.fromkeys(pairwise(same)))
    by_variant: dict[str, str] = {}
    for key, (name, *_) in by_key.items():
        if not LONG <= len(key) <= MAX_LETTERS or re.search(r"\d", key):
            continue
        for variant in _deletions(key):
            other = by_variant.setdefault(variant, name)
            if other != name and _key(other)[0] == key[0] and _one_edit(_key(other), key):
                pairs[(other, name)] = None
    return list(pairs)


def twins(name: str) -> str:
    """Return the Cyrillic and Greek letters of the name that look like Latin ones, each once."""
    letters = unicodedata.normalize("NFD", name)
    return "".join(dict.fromkeys(letter for letter in letters if ord(letter) in _TWINS))


def _key(name: str) -> str:
    """Return the name's letters and digits in lower case, without accents, twins of letters and plural s."""
    decomposed = unicodedata.normalize("NFKD", name).translate(_TWINS).casefold()
    key = "".join(c for c in decomposed if c.isalnum()) or name
    return key[:-1] if len(key) > 3 and key.endswith("s") and not key.endswith("ss") else key


def _deletions(key: str) -> Iterable[str]:
    yield key
    for i in range(len(key)):
        yield key[:i] + key[i + 1 :]


def _one_edit(a: str, b: str) -> bool:
    """Return True if the strings are at most one insertion, deletion or substitution apart."""
    if len(a) > len(b):
        a, b = b, a
    if len(b) - len(a) > 1:
        return False
    i = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    return a[i:] == b[i + 1 :] if len(a) < len(b) else a[i + 1 :] == b[i + 1 :]
