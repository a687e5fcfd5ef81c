"""A small byte-pair vocabulary of CLIP's form: any text has tokens, and frequent words are one."""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from transformers import CLIPTokenizer

MAX_LENGTH = 77
END_OF_WORD = "</w>"


def make_tokenizer(texts: Iterable[str], *, merges: int, pad_token: str) -> Any:
    """A CLIPTokenizer whose merges come from ``texts``.

    Ids are ordered as CLIP's are: 256 bytes ('!' is 0), the same at a word's end, merges, start, end.

    Args:
        texts: what the merges are counted in.
        merges: how many at most.
        pad_token: ``<|endoftext|>`` for SDXL's first tokenizer, ``!`` for its second.
    """
    alphabet = _byte_letters()
    learnt = _learn_merges(texts, merges)
    tokens = [
        *alphabet,
        *(letter + END_OF_WORD for letter in alphabet),
        *("".join(pair) for pair in learnt),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocabulary, learnt, pad_token=pad_token, model_max_length=MAX_LENGTH)


def _byte_letters() -> list[str]:
    """A printable letter for each byte, as GPT-2 and CLIP assign them (``bytes_to_unicode``)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(256 - len(printable))]


def _learn_merges(texts: Iterable[str], count: int) -> list[tuple[str, str]]:
    """Sennrich et al. 2016, algorithm 1; ties go to the alphabetically first pair."""
    words = Counter(word for text in texts for word in text.lower().split())
    parts = {word: [*word[:-1], word[-1] + END_OF_WORD] for word in words}
    learnt: list[tuple[str, str]] = []
    while len(learnt) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, letters in parts.items():
            for pair in pairwise(letters):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        learnt.append(best)
        parts = {word: _merge(letters, best) for word, letters in parts.items()}
    return learnt


def _merge(letters: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for letter in letters:
        if merged and (merged[-1], letter) == pair:
            merged[-1] += letter
        else:
            merged.append(letter)
    return merged
