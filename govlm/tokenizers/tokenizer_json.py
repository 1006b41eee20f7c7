"""What a tokenizer.json says, as options of the native tokenizers. Parts that govlm does not have are refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from govlm.tokenizers.encoding import AddedToken
from govlm.tokenizers.files import read_json, read_token

__all__ = ["BPEFile", "Pipeline", "pipeline_json", "read_bpe_json"]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_HEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
QWEN2 = _HEAD + r"\p{N}" + _TAIL
LLAMA3 = _HEAD + r"\p{N}{1,3}" + _TAIL
PATTERNS = {"qwen2": QWEN2, "llama3": LLAMA3}
_SPELLINGS = {
    GPT2: "gpt2",
    QWEN2: "qwen2",
    LLAMA3: "llama3",
    # the same languages as other files write them
    "'(?i:[sdmt]|ll|ve|re)" + _HEAD[_HEAD.index("|[^") :] + r"\p{N}" + _TAIL: "qwen2",
    "'(?i:[sdmt]|ll|ve|re)" + _HEAD[_HEAD.index("|[^") :] + r"\p{N}{1,3}" + _TAIL: "llama3",
}
MARK = "\u2581"


class Pipeline(NamedTuple):
    """How text becomes pieces; the fields of core.BPE. trim_offsets: offsets leave white space at the edges of a token out."""

    split: str = "gpt2"
    prepend: str = "never"
    characters: bool = False
    compose: bool = False
    whole_words: bool = False
    byte_fallback: bool = False
    fuse_unknown: bool = False
    trim_offsets: bool = False


class BPEFile(NamedTuple):
    """A tokenizer.json with a BPE model. template: tokens before and after a text, and before and after a second one, and its type."""

    vocabulary: dict[str, int]
    merges: list[tuple[str, str]]
    pipeline: Pipeline
    unk_token: str | None
    added: dict[int, AddedToken]
    template: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...], int]


def read_bpe_json(path: Path) -> BPEFile:
    """ValueError names the file and the part that is missing, malformed or not known."""
    whole = read_json(path)
    try:
        return _bpe_file(whole)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path}: is no tokenizer.json ({type(error).__name__}: {error})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _bpe_file(whole: Any) -> BPEFile:
    if not isinstance(whole, dict) or not isinstance(whole.get("model"), dict):
        raise ValueError("has no model")
    model = whole["model"]
    kind = model.get("type") or ("BPE" if "merges" in model else "unknown")
    if kind != "BPE":
        raise ValueError(f"is a {kind} tokenizer, not BPE")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise ValueError(f"the model's {name} {model[name]!r} is not supported")
    pipeline = _pipeline(_steps(whole.get("normalizer"), "normalizers"), _steps(whole.get("pre_tokenizer"), "pretokenizers"))
    pipeline = pipeline._replace(
        whole_words=bool(model.get("ignore_merges")),
        byte_fallback=bool(model.get("byte_fallback")),
        fuse_unknown=bool(model.get("fuse_unk")),
    )
    _check_decoder(_steps(whole.get("decoder"), "decoders"), pipeline)
    vocabulary = model["vocab"]
    if not isinstance(vocabulary, dict) or not vocabulary:
        raise ValueError("has no vocabulary")
    for token, index in vocabulary.items():
        if not isinstance(index, int) or not 0 <= index < 1 << 20:
            raise ValueError(f"token {token!r:.40} has the id {index!r:.40}")
    merges = [_merge(row) for row in model["merges"]]
    added = {int(token["id"]): read_token(token) for token in whole.get("added_tokens") or ()}
    trim, template = _post_processor(_steps(whole.get("post_processor"), "processors"))
    unk = model.get("unk_token")
    if unk is not None and not isinstance(unk, str):
        raise ValueError(f"the unk_token is {unk!r:.40}")
    return BPEFile(dict(vocabulary), merges, pipeline._replace(trim_offsets=trim), unk, added, template)


def _merge(row: Any) -> tuple[str, str]:
    parts = row.split(" ") if isinstance(row, str) else row
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(p, str) for p in parts):
        raise ValueError(f"{row!r:.60} is no merge of two tokens")
    return parts[0], parts[1]


def _steps(part: Any, inner: str) -> list[dict[str, Any]]:
    """A part of the file as the list of its steps; nested sequences are laid out flat."""
    if part is None:
        return []
    if part["type"] == "Sequence":
        return [step for one in part[inner] for step in _steps(one, inner)]
    return [part]


def _pipeline(normalizers: Sequence[Mapping[str, Any]], pre_tokenizers: Sequence[Mapping[str, Any]]) -> Pipeline:
    pipeline = Pipeline(split="none")
    prepended = False
    for step in normalizers:
        if step["type"] == "NFC":
            pipeline = pipeline._replace(compose=True)
        elif step["type"] == "Prepend" and step["prepend"] == MARK:
            prepended = True
        elif step["type"] == "Replace" and step["pattern"] == {"String": " "} and step["content"] == MARK:
            pipeline = pipeline._replace(characters=True, prepend="always" if prepended else "never")
        else:
            raise ValueError(f"the normalizer {step['type']} is not supported here")
    if prepended and not pipeline.characters:
        raise ValueError("the normalizer Prepend is supported only before Replace of spaces")
    digits = byte_level = False
    for step in pre_tokenizers:
        kind = step["type"]
        if kind == "ByteLevel":
            byte_level = True
            if step.get("use_regex", True):
                if pipeline.split != "none":
                    raise ValueError("two pre-tokenizers that cut by expressions are not supported")
                pipeline = pipeline._replace(split="digits" if digits else "gpt2")
            if step.get("add_prefix_space"):
                pipeline = pipeline._replace(prepend="missing")
        elif kind == "Split":
            pattern = step["pattern"].get("Regex")
            if pattern not in _SPELLINGS or step.get("invert") or step["behavior"] not in ("Isolated", "Removed"):
                raise ValueError(f"the pre-tokenizer's expression {pattern or step['pattern']!r:.200} is not supported")
            if (step["behavior"] == "Removed") or pipeline.split != "none" or digits:
                raise ValueError("the pre-tokenizer Split is supported only once, isolating what it finds")
            pipeline = pipeline._replace(split=_SPELLINGS[pattern])
        elif kind == "Digits" and step.get("individual_digits") and not byte_level and pipeline.split == "none":
            digits = True
        elif kind == "Metaspace" and step.get("replacement", MARK) == MARK and len(pre_tokenizers) == 1:
            if step.get("split", True):
                raise ValueError("the pre-tokenizer Metaspace with split is not supported for BPE")
            scheme = step.get("prepend_scheme") or ("always" if step.get("add_prefix_space", True) else "never")
            prepend = {"always": "missing", "first": "first", "never": "never"}[scheme]
            pipeline = pipeline._replace(characters=True, prepend=prepend)
        else:
            raise ValueError(f"the pre-tokenizer {kind} is not supported here")
    if digits and pipeline.split != "digits":
        raise ValueError("the pre-tokenizer Digits is supported only before ByteLevel")
    if byte_level == pipeline.characters:
        raise ValueError("the pre-tokenizer is neither ByteLevel nor Metaspace")
    return pipeline


def _check_decoder(steps: Sequence[Mapping[str, Any]], pipeline: Pipeline) -> None:
    known = ("Replace", "ByteFallback", "Fuse", "Strip", "Metaspace") if pipeline.characters else ("ByteLevel",)
    for step in steps:
        if step["type"] not in known:
            raise ValueError(f"the decoder {step['type']} is not supported here")


def _post_processor(steps: Sequence[Mapping[str, Any]]) -> tuple[bool, Any]:
    trim, template = False, ((), (), (), (), 1)
    for step in steps:
        if step["type"] == "ByteLevel":
            trim = bool(step.get("trim_offsets", True))
        elif step["type"] == "TemplateProcessing":
            template = _template(step["single"], step["pair"])
        else:
            raise ValueError(f"the post-processor {step['type']} is not supported here")
    return trim, template


def _template(single: Sequence[Mapping[str, Any]], pair: Sequence[Mapping[str, Any]]) -> Any:
    """Tokens around the texts. What stands between two texts and has the type of the first belongs to it."""

    def parts(items: Sequence[Mapping[str, Any]]) -> list[tuple[str | None, str, int]]:
        out: list[tuple[str | None, str, int]] = []
        for item in items:
            (kind, value), *rest = item.items()
            if rest or kind not in ("SpecialToken", "Sequence"):
                raise ValueError(f"the template has {kind}")
            out.append((value["id"] if kind == "SpecialToken" else None, value["id"], value["type_id"]))
        return out

    one, two = parts(single), parts(pair)
    middle = [place for place, (token, _, _) in enumerate(one) if token is None]
    texts = [place for place, (token, _, _) in enumerate(two) if token is None]
    if len(middle) != 1 or [two[place][1] for place in texts] != ["A", "B"]:
        raise ValueError("the template must have one text, and A before B in a pair")
    before = tuple(t for t, _, _ in one[: middle[0]] if t is not None)
    after = tuple(t for t, _, _ in one[middle[0] + 1 :] if t is not None)
    between = tuple(t for t, _, _ in two[texts[0] + 1 : texts[1]] if t is not None)
    if tuple(t for t, _, _ in two[: texts[0]]) != before or between[: len(after)] != after or any(t for *_, t in one):
        raise ValueError("the template of a pair must begin as that of one text does")
    last = tuple(t for t, _, _ in two[texts[1] + 1 :] if t is not None)
    return before, after, between[len(after) :], last, two[texts[1]][2]


def pipeline_json(pipeline: Pipeline) -> dict[str, Any]:
    """normalizer, pre_tokenizer and decoder of a tokenizer.json for `pipeline`."""
    if pipeline.characters:
        strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if pipeline.prepend != "never" else []
        back = [{"type": "Replace", "pattern": {"String": MARK}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
        parts: dict[str, Any] = {"normalizer": None, "decoder": {"type": "Sequence", "decoders": [*back, *strip]}}
        replace = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
        if pipeline.prepend == "always":
            steps = [{"type": "Prepend", "prepend": MARK}, replace]
            return parts | {"normalizer": {"type": "Sequence", "normalizers": steps}, "pre_tokenizer": None}
        if pipeline.prepend == "never":
            return parts | {"normalizer": replace, "pre_tokenizer": None}
        scheme = "first" if pipeline.prepend == "first" else "always"
        meta = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": scheme, "split": False}
        return parts | {"pre_tokenizer": meta}
    prefix = pipeline.prepend != "never"
    level = {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": pipeline.split == "gpt2"}
    decoder = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    first: dict[str, Any] | None = None
    if pipeline.split == "digits":
        first, level = {"type": "Digits", "individual_digits": True}, level | {"use_regex": True}
    elif pipeline.split in PATTERNS:
        pattern = {"Regex": PATTERNS[pipeline.split]}
        first = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    pre = level if first is None else {"type": "Sequence", "pretokenizers": [first, level]}
    return {"normalizer": {"type": "NFC"} if pipeline.compose else None, "pre_tokenizer": pre, "decoder": decoder}
