"""The wordings of lessons: frames x topics x methods, with parts of the product held out.

A lesson says which method suits which kind of problem. What is held out is never seen in
pretraining, so that following a lesson can be told from having memorised it:

- whole frames (`HELD_OUT_FRAMES`);
- a fifth of the sentences of the other frames, chosen by hash (`is_held_out`);
- whole (family, style) combinations (`HELD_OUT_COMBINATIONS`): their style appears in lessons on
  another family and in summaries of attempts, but never in a lesson on this family.
"""

from __future__ import annotations

from random import Random

from tfgrpo.seeding import stable_hash

TOPICS = {
    "sum": ("sums", "adding numbers", "addition", "problems that add numbers"),
    "product": ("products", "multiplying numbers", "multiplication", "problems that multiply"),
    "sort": ("sorting", "ordering numbers", "lists to sort", "putting numbers in order"),
    "countdown": ("targets", "making a target", "target problems", "reaching a target"),
}

COLUMNS = (
    "work in columns from the right",
    "go digit by digit from the ones",
    "take one column after another",
)
PLACES = (
    "split by place value",
    "break numbers into ones and tens and hundreds",
    "handle each place value apart",
)
ONCE = ("answer at once", "give the answer directly", "write the answer without steps")

METHODS = {
    "sum": {
        "once": ONCE,
        "running": (
            "keep a running total",
            "add one number at a time",
            "build the total number by number",
        ),
        "places": PLACES,
        "columns": COLUMNS,
    },
    "product": {
        "once": ONCE,
        "doubling": ("double again and again", "build it from doubles", "use repeated doubling"),
        "columns": COLUMNS,
        "places": PLACES,
    },
    "sort": {
        "once": ONCE,
        "leading": (
            "compare first digits",
            "look at the leading digit",
            "order by the first digit",
        ),
        "halves": (
            "sort two halves and merge",
            "cut the list in halves",
            "join two sorted halves",
        ),
        "length": (
            "group by number of digits",
            "put shorter numbers first",
            "group numbers by length",
        ),
    },
    "countdown": {
        "once": ONCE,
        "trial": (
            "try whole expressions",
            "test full expressions one by one",
            "check complete expressions",
        ),
        "pairs": (
            "join two numbers then use the third",
            "combine a pair and go forward",
            "start with pairs of numbers",
        ),
        "backward": (
            "work back from the target",
            "keep one number and see what is needed",
            "go backward from the target",
        ),
    },
}

# Advice about other things, so that a model learns that not every lesson is about its problem.
IDLE_TOPICS = ("cooking", "gardening", "long walks", "packing a bag", "cleaning a room", "letters",
               "painting a wall", "riding a bike")  # fmt: skip
IDLE_METHODS = (
    "use warm water", "wear good shoes", "start with the windows", "bring a map",
    "keep the door open", "fold it twice", "wait until it is dry", "look at the sky first",
    "put heavy things first", "check the oil", "write the name on it", "cut it in small pieces",
    "take a break at noon", "ask a friend to help",
)  # fmt: skip

FRAMES = (
    "For {topic}, {method}.",
    "When doing {topic}, {method}.",
    "In {topic}: {method}.",
    "With {topic} it is best to {method}.",
    "To do {topic} well, {method}.",
    "Remember to {method} for {topic}.",
    "Always {method} in {topic}.",
    "{topic}: {method}.",
    "It helps to {method} when doing {topic}.",
    "Use this for {topic}: {method}.",
)
HELD_OUT_FRAMES = (
    "Best for {topic}: {method}.",
    "When in {topic}, always {method}.",
    "Remember: with {topic} it helps to {method}.",
)

HELD_OUT_COMBINATIONS = frozenset({("sum", "places"), ("product", "columns")})


def is_held_out(sentence: str) -> bool:
    return int(stable_hash("lesson", sentence), 16) % 5 == 0


def _sentence(frames: tuple[str, ...], topic: str, method: str, rng: Random) -> str:
    sentence = rng.choice(frames).format(topic=topic, method=method)
    return sentence[0].upper() + sentence[1:]


def _draw(
    topics: tuple[str, ...], methods: tuple[str, ...], rng: Random, held_out: bool | None
) -> str:
    while True:
        sentence = _sentence(FRAMES, rng.choice(topics), rng.choice(methods), rng)
        if held_out is None or is_held_out(sentence) == held_out:
            return sentence


def lesson(family: str, style: str, rng: Random, held_out: bool = False) -> str:
    """A lesson naming `style` for `family`, in a sentence seen (or never seen) in pretraining."""
    return _draw(TOPICS[family], METHODS[family][style], rng, held_out)


def lesson_in_new_frame(family: str, style: str, rng: Random) -> str:
    """The same in a frame of which pretraining saw no instance."""
    topic, method = rng.choice(TOPICS[family]), rng.choice(METHODS[family][style])
    return _sentence(HELD_OUT_FRAMES, topic, method, rng)


def idle_lesson(rng: Random, held_out: bool = False) -> str:
    """A lesson about something else entirely: filler for placebo libraries."""
    return _draw(IDLE_TOPICS, IDLE_METHODS, rng, held_out)


def method(family: str, style: str, rng: Random) -> str:
    return rng.choice(METHODS[family][style])


def _reading() -> dict[str, dict[str, str]]:
    return {
        family: {text: style for style, texts in methods.items() for text in texts}
        for family, methods in METHODS.items()
    }


_STYLE_OF = _reading()


def read_lesson(sentence: str) -> tuple[str, str] | None:
    """The (family, style) that a sentence speaks of, or None; the inverse of `lesson`."""
    lowered = sentence.lower()
    for family, styles in _STYLE_OF.items():
        topics = sorted(TOPICS[family], key=len, reverse=True)
        if any(topic in lowered for topic in topics):
            for text, style in styles.items():
                if text in lowered:
                    return family, style
    return None


def topic_and_method(sentence: str) -> tuple[str, str] | None:
    """The wordings of topic and method that a lesson is made of, or None if it is no lesson."""
    found = read_lesson(sentence)
    if found is None:
        return None
    family, style = found
    lowered = sentence.lower()
    topic = max((t for t in TOPICS[family] if t in lowered), key=len)
    return topic, next(m for m in METHODS[family][style] if m in lowered)


def read_method(text: str, family: str) -> str | None:
    """The style that a summary of an attempt on `family` names, or None."""
    lowered = text.lower()
    return next((s for phrase, s in _STYLE_OF[family].items() if phrase in lowered), None)
