"""What a lesson may say: one clean line that answers no question and instructs no model.

Lessons are distilled from replies and shown in every later prompt, so their text is untrusted.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

from tfgrpo.types import Task

Similarity = Callable[[str, str], float]

TRIVIAL_ANSWERS = frozenset({"yes", "no", "true", "false", "none"})

_NUMBER = r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?(?!\w)|[0-9]+(?:\.[0-9]+)?(?!\w)"
_TOKEN = re.compile(rf"{_NUMBER}|[^\W_]+|[^\w\s]")
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_UNSTATED = frozenset(
    "()[]{}$\"'`,;"
)  # delimiters that may differ between two ways to write one answer
_NEGATIONS = frozenset(
    {
        "no",
        "not",
        "never",
        "none",
        "nor",
        "neither",
        "without",
        "avoid",
        "cannot",
        "unless",
        "except",
    }
)
_INJECTION = re.compile(
    r"<\||<</?sys>>|\[/?inst\]|</?s>|</?(?:think|system|assistant|user)>"
    r"|\b(?:ignore|disregard|forget|override)\s+(?:(?:all|any|the|your|every|of)\s+)*"
    r"(?:previous|prior|above|earlier|preceding|system)\s+"
    r"(?:instructions?|prompts?|messages?|rules|directions|context)"
    r"|\b(?:system|developer)\s+(?:prompt|message)\b|\byou\s+are\s+now\s+an?\b"
    r"|^\W*(?:system|assistant|user|developer)\s*:",
    re.IGNORECASE,
)


def clean(text: str) -> str:
    """One line: white space collapsed; control, format, private and lone-surrogate characters gone.

    Idempotent. A line break in a lesson would let it forge the lines that follow it in a prompt.
    """
    gone = {c for c in set(text) if not c.isspace() and unicodedata.category(c)[0] == "C"}
    kept = re.sub(f"[{re.escape(''.join(gone))}]+", "", text) if gone else text
    return " ".join(kept.split())


def normalise(text: str) -> str:
    """Text without its case, punctuation and spacing: equal for exact duplicates."""
    return " ".join(_WORD.findall(text.casefold())) or "".join(text.split())


def word_count(text: str) -> int:
    """Words between spaces; a longer run counts one word per 16 characters.

    Without the second rule a text that is written without spaces would pass any limit.
    """
    return sum(math.ceil(len(word) / 16) for word in text.split())


def approximate_tokens(text: str) -> int:
    """4/3 tokens per word, rounded up: a rule of thumb for English where no tokenizer is given."""
    return math.ceil(word_count(text) * 4 / 3)


def similarity(a: str, b: str) -> float:
    """How far two lessons say the same, in [0, 1]: the larger of two overlaps.

    Jaccard |A & B| / |A | B| of word sets, and the cosine of character-trigram counts. Lessons
    which differ in a negation or a number are different (0), however alike their letters are:
    otherwise "never divide first" would count as support for "always divide first".
    """
    a, b = normalise(a), normalise(b)
    if a == b:
        return 1.0
    words_a, words_b = set(a.split()), set(b.split())
    if _polarity(words_a) != _polarity(words_b):
        return 0.0
    union = words_a | words_b
    jaccard = len(words_a & words_b) / len(union) if union else 0.0
    return max(jaccard, _cosine(_trigrams(a), _trigrams(b)))


def _polarity(words: set[str]) -> set[str]:
    return {
        word
        for word in words
        if word in _NEGATIONS or word.endswith(("n't", "n\u2019t")) or any(map(str.isdigit, word))
    }


def _trigrams(text: str) -> Counter[str]:
    padded = f" {text} "
    return Counter(padded[i : i + 3] for i in range(len(padded) - 2))


def _cosine(a: Counter[str], b: Counter[str]) -> float:
    norm = math.sqrt(sum(n * n for n in a.values()) * sum(n * n for n in b.values()))
    return min(1.0, sum(n * b[gram] for gram, n in a.items()) / norm) if norm else 0.0


def leaks(
    text: str, tasks: Sequence[Task], min_ngram: int = 8, min_answer_chars: int = 2
) -> str | None:
    """The reason why a lesson gives away one of the `tasks` it was drawn from, or None.

    It leaks if it states a gold answer as a whole token or number (`1,042.0` states 1042, `142`
    does not state 42), or repeats `min_ngram` consecutive words of a question. Answers shorter than
    `min_answer_chars`, and words such as yes and no, are too common to tell anything.
    """
    stated = _answer_tokens(text)
    words = _WORD.findall(text.casefold())
    for task in tasks:
        answer = _answer_tokens(task.answer or "")
        spelled = "".join(answer)
        trivial = len(spelled) < min_answer_chars or spelled in TRIVIAL_ANSWERS
        if not trivial and _contains(stated, answer):
            return f"states the gold answer of task {task.task_id}"
        if _shared_run(words, _WORD.findall(task.prompt.casefold()), min_ngram):
            return f"repeats {min_ngram} words of the question of task {task.task_id}"
    return None


def _answer_tokens(text: str) -> list[str]:
    tokens = _TOKEN.findall(text.casefold().replace("\\boxed", ""))
    return [_plain_number(token) for token in tokens if token not in _UNSTATED]


@lru_cache(maxsize=4096)
def _plain_number(token: str) -> str:
    if not re.fullmatch(_NUMBER, token):
        return token
    whole, _, fraction = token.replace(",", "").partition(".")
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def _contains(tokens: list[str], run: list[str]) -> bool:
    return bool(run) and any(
        token == run[0] and tokens[i : i + len(run)] == run for i, token in enumerate(tokens)
    )


def _shared_run(a: list[str], b: list[str], n: int) -> bool:
    runs = {tuple(b[i : i + n]) for i in range(len(b) - n + 1)}
    return any(tuple(a[i : i + n]) in runs for i in range(len(a) - n + 1))


def has_instruction_injection(text: str) -> bool:
    """Whether the text addresses the model as an operator would: override phrases, chat markup."""
    return _INJECTION.search(text) is not None
