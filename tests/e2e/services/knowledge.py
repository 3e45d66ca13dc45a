"""What the services know, how they look it up and how they answer: real retrieval, a model without weights."""

import hashlib
import math
import re

PASSAGES = {
    "pool": "The pool is open on Sundays from nine to five. Dogs are not admitted to the pool.",
    "library": "The library lends books for three weeks. A lost book costs twenty euros.",
    "parking": "Residents park for free with a permit. A permit is valid for two years.",
    "market": "The market is held every Saturday on the square. It ends at two in the afternoon.",
    "waste": "Glass is collected on the first Monday of the month. Batteries are returned to any shop.",
    "passport": "A passport takes four weeks and costs sixty euros. Children get one for thirty euros.",
}
QUESTIONS = (
    "When is the pool open?",
    "For how long does the library lend books?",
    "For how long is a parking permit valid?",
    "When does the market end?",
    "When is glass collected?",
    "What does a passport cost?",
)
INVENTED = "The museum of Oslo sells 4711 green elephants."
DIMENSIONS = 64


def answer_to(prompt: str) -> str:
    """The model: quotes the first sentence that it was given, and makes something up when asked about the market.

    Args:
        prompt: passages after `Context:`, the question after `Question:`.
    """
    context, _, question = prompt.partition("Context:")[2].partition("Question:")
    if "market" in question:
        return INVENTED
    return context.strip().partition(". ")[0].rstrip(".") + "."


def embedded(text: str) -> list[float]:
    """Words hashed into a vector of length one: the same text is the same vector in every process."""
    vector = [0.0] * DIMENSIONS
    for word in re.findall(r"[a-z]{4,}", text.lower()):
        vector[int(hashlib.sha256(word.encode()).hexdigest(), 16) % DIMENSIONS] += 1
    length = math.sqrt(sum(value * value for value in vector)) or 1.0
    return [value / length for value in vector]
