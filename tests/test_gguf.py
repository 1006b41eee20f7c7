"""GGUF: what is read, what is refused by name, and damage that never does more than raise."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf_writer import gguf_bytes, random_blocks, tiny_llama

import govlm
from govlm import blocks
from govlm.gguf.dequantise import ROUNDED, dequantise, rounded
from govlm.gguf.file import GGUFFile


def written(folder: Path, data: bytes) -> Path:
    file = folder / "model.gguf"
    file.write_bytes(data)
    return file


def test_metadata_and_tensors(tmp_path: Path) -> None:
    data = gguf_bytes(
        {"a": 7, "b": "宜", "c": [1, -2], "d": ["x", "", "证"], "e": True, "f": 0.5, "general.alignment": 64},
        {"t": ("F32", (2, 3), np.arange(6, dtype="<f4").tobytes()), "u": ("F16", (4,), np.ones(4, "<f2").tobytes())},
        alignment=64,
    )
    opened = GGUFFile(written(tmp_path, data))
    assert {k: opened.metadata[k] for k in "abdef"} == {"a": 7, "b": "宜", "d": ["x", "", "证"], "e": True, "f": 0.5}
    assert opened.metadata["c"].tolist() == [1, -2]
    assert opened.tensors["t"].shape == (2, 3)
    assert dequantise("F32", opened.raw("t")).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert dequantise("F16", opened.raw("u")).tolist() == [[1, 1, 1, 1]]
    assert list(opened.metadata)[-1] == "general.alignment"


def test_blocks_by_hand() -> None:
    half = np.array([0.5, -1.0], "<f2").view(np.uint8)
    codes = np.arange(16, dtype=np.uint8) | np.arange(16, dtype=np.uint8)[::-1] << 4
    values = np.concatenate([np.arange(16.0), np.arange(16.0)[::-1]])
    assert np.array_equal(dequantise("Q4_0", np.concatenate([half[:2], codes])[None]), 0.5 * (values - 8)[None])
    assert np.array_equal(dequantise("Q4_1", np.concatenate([half, codes])[None]), (0.5 * values - 1)[None])
    signed = np.arange(-16, 16, dtype=np.int8)
    assert np.array_equal(dequantise("Q8_0", np.concatenate([half[:2], signed.view(np.uint8)])[None]), 0.5 * signed[None])
    with pytest.raises(ValueError, match="IQ1_S"):
        dequantise("IQ1_S", np.zeros((1, 50), np.uint8))


@pytest.mark.parametrize("own_head", [False, True])
def test_a_model_in_blocks_and_in_float32(own_head: bool, tmp_path: Path) -> None:
    file = written(tmp_path, tiny_llama(own_head=own_head))
    model = govlm.AutoModelForCausalLM.from_pretrained(file)
    whole = govlm.AutoModelForCausalLM.from_pretrained(file, dtype="float32")
    assert model.quantised and not whole.quantised
    assert model.config.tie_word_embeddings is not own_head
    assert (model.config.head_dim, model.config.eos_token_id, model.config.max_position_embeddings) == (16, 19, 64)
    assert model.config.rope_parameters["rope_theta"] == 500
    ids = np.array([[3, 1, 4, 1, 5]])
    reference = whole(ids).logits
    noise = model(ids).logits - reference  # activations are rounded to 8 bits
    assert 0 < np.square(noise).mean() < 0.06**2 * np.square(reference).mean()
    for (name, a), (_, b) in zip(model.named_parameters(), whole.named_parameters(), strict=True):
        assert np.array_equal(a.data, b.data), name  # the same values, held differently
    model.save_pretrained(tmp_path / "saved")
    assert np.array_equal(govlm.AutoModelForCausalLM.from_pretrained(tmp_path / "saved")(ids).logits, model(ids).logits)
    model.train()
    model.eval()
    assert np.allclose(model(ids).logits, reference, atol=1e-5)


def test_blocks_of_256_in_four_bits_keep_their_codes() -> None:
    rows = random_blocks("Q4_K", 5, 512, np.random.default_rng(1), 1e-4)
    values, exact = rounded("Q4_K", rows), dequantise("Q4_K", rows)
    assert values.minimums is not None
    scale, least = (np.abs(part.astype(np.float32))[:, :, None] for part in (values.scales, values.minimums))
    found = blocks.dequantise(blocks.pack(values, 4), 5, 512)
    error = np.abs(found - exact).reshape(5, 16, 32)
    assert (error <= 2**-11 * (values.codes.reshape(5, 16, 32) * scale + least) + 1e-7).all()
    rows[3, :2] = [0, 0x7C]
    with pytest.raises(ValueError, match="Q4_K tensor has a scale that is not finite"):
        rounded("Q4_K", rows)


def test_six_bits_become_eight_at_a_fraction_of_their_own_error() -> None:
    rows = random_blocks("Q6_K", 9, 1024, np.random.default_rng(2), 1e-4)
    exact = dequantise("Q6_K", rows)
    values = rounded("Q6_K", rows)
    error = blocks.dequantise(blocks.pack(values, ROUNDED["Q6_K"]), 9, 1024) - exact
    b = rows.reshape(-1, 210)
    steps = b[:, 208:].copy().view("<f2").astype(np.float64) * b[:, 192:208].view(np.int8)
    own = np.square(steps).mean(axis=1) / 12  # a value anywhere between two codes
    assert np.square(error, dtype=np.float64).mean() < own.mean() / 8
    for strange in ([0, 0x7E], [0, 0x7C]):  # NaN, infinity
        rows[0, 208:210] = strange
        with pytest.raises(ValueError, match="too large"):
            rounded("Q6_K", rows)


def test_a_model_in_blocks_of_256(tmp_path: Path) -> None:
    file = written(tmp_path, tiny_llama(large=True))
    model = govlm.AutoModelForCausalLM.from_pretrained(file)
    whole = govlm.AutoModelForCausalLM.from_pretrained(file, dtype="float32")
    held = [(p.name, p.core.quantised(p.core_name)) for p in model.parameters()]
    kinds = {name.split(".")[-2]: how[1:] for name, how in held if how is not None}
    assert kinds["embed_tokens"] == kinds["down_proj"] == (8, False)  # they were Q6_K
    assert kinds["up_proj"] == (4, True) and kinds["gate_proj"] == (4, False)  # Q4_K, Q4_0
    ids = np.array([[3, 1, 4, 1, 5]])
    reference = whole(ids).logits
    noise = model(ids).logits - reference
    assert 0 < np.square(noise).mean() < 0.06**2 * np.square(reference).mean()
    for (name, a), (_, b) in zip(model.named_parameters(), whole.named_parameters(), strict=True):
        assert np.square(a.data - b.data).sum() <= 1e-4 * np.square(b.data).sum(), name
    model.save_pretrained(tmp_path / "saved")
    assert np.array_equal(govlm.AutoModelForCausalLM.from_pretrained(tmp_path / "saved")(ids).logits, model(ids).logits)


def test_rows_of_queries_stand_in_the_order_of_halves(tmp_path: Path) -> None:
    file = written(tmp_path, tiny_llama())
    opened = GGUFFile(file)
    model = govlm.LlamaForCausalLM.from_pretrained(file, dtype="float32")
    there = dequantise("Q4_1", opened.raw("blk.0.attn_q.weight"))
    ours = dict(model.named_parameters())["model.layers.0.self_attn.q_proj.weight"].data
    for head in range(2):
        assert np.array_equal(ours[16 * head : 16 * head + 8], there[16 * head : 16 * head + 16 : 2])
        assert np.array_equal(ours[16 * head + 8 : 16 * head + 16], there[16 * head + 1 : 16 * head + 16 : 2])


def test_the_tokenizer_comes_with_the_model(tmp_path: Path) -> None:
    file = written(tmp_path, tiny_llama())
    tokenizer = govlm.AutoTokenizer.from_pretrained(file)
    assert tokenizer("abcd a<end>", add_special_tokens=False)["input_ids"] == [18, 3, 16, 0, 19]
    assert tokenizer.decode([18, 3, 16, 0]) == "abcd a" and tokenizer.eos_token_id == 19
    file = written(tmp_path, tiny_llama().replace(b"ab c", b"ab \xff"))
    with pytest.raises(ValueError, match=r"model\.gguf.*'tokenizer\.ggml\.merges'.*UTF-8"):
        govlm.AutoTokenizer.from_pretrained(file)


def test_other_classes_and_missing_files(tmp_path: Path) -> None:
    file = written(tmp_path, tiny_llama())
    assert type(govlm.AutoModel.from_pretrained(file)).__name__ == "LlamaModel"
    with pytest.raises(ValueError, match=r"llama.*qwen2"):
        govlm.Qwen2ForCausalLM.from_pretrained(file)
    with pytest.raises(FileNotFoundError, match=r"none\.gguf"):
        govlm.AutoModelForCausalLM.from_pretrained(tmp_path / "none.gguf")
    with pytest.raises(ValueError, match="float16"):
        govlm.AutoModelForCausalLM.from_pretrained(file, dtype="float16")


def header(*parts: bytes, tensors: int = 0, keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + b"".join(parts)


def key(name: str, kind: int, rest: bytes = b"") -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + rest


ONE = np.zeros(8, "<f4").tobytes()
FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "truncated"),
    "not GGUF": (b"PK\3\4" * 10, "not a GGUF file"),
    "version 1": (header(version=1), "version 1"),
    "big-endian": (header(version=3 << 24), "big-endian"),
    "no header": (b"GGUF\3\0\0\0", "truncated"),
    "absurd count of keys": (header(keys=2**63), "truncated"),
    "absurd count of tensors": (header(tensors=2**60), "truncated"),
    "long key": (header(struct.pack("<Q", 2**40), keys=1), "would be 1099511627776 bytes long"),
    "key not UTF-8": (header(struct.pack("<Q", 1) + b"\xff", keys=1), "UTF-8"),
    "unknown type of value": (header(key("k", 77), keys=1), "'k' is of type 77"),
    "nested array": (header(key("k", 9, struct.pack("<IQ", 9, 1)), keys=1), "array of type 9"),
    "absurd array": (header(key("k", 9, struct.pack("<IQ", 4, 2**61)), keys=1), "truncated"),
    "absurd array of texts": (header(key("k", 9, struct.pack("<IQ", 8, 2**61)), keys=1), "truncated"),
    "absurd text in an array": (header(key("k", 9, struct.pack("<IQQQ", 8, 2, 2**63, 0)), keys=1), "truncated"),
    "absurd text": (header(key("k", 8, struct.pack("<Q", 2**61)), keys=1), "truncated"),
    "no truth value": (header(key("k", 7, b"\x02"), keys=1), "truth value"),
    "key twice": (header(key("k", 0, b"\1"), key("k", 0, b"\1"), keys=2), "'k' twice"),
    "alignment 0": (gguf_bytes({"general.alignment": 0}, {}), "alignment is 0"),
    "alignment of text": (gguf_bytes({"general.alignment": "x"}, {}), "alignment is 'x'"),
    "short tensor": (gguf_bytes({}, {"t": ("F32", (8,), ONE[:-1])}), "truncated: tensor 't'"),
    "no whole blocks": (gguf_bytes({}, {"t": ("Q8_0", (8,), ONE)}), "blocks of 32"),
    "no values": (gguf_bytes({}, {"t": ("F32", (0,), b"")}), "'t' has shape"),
    "five dimensions": (gguf_bytes({}, {"t": ("F32", (1, 1, 1, 1, 8), ONE)}), "5 dimensions"),
    "overflowing shape": (gguf_bytes({}, {"t": ("F32", (2**63, 2**63), ONE)}), "truncated"),
    "tensor twice": (gguf_bytes({}, {"t": ("F32", (8,), ONE), "u": ("F32", (8,), ONE)}).replace(b"u\1", b"t\1"), "'t' twice"),
    "unknown type": (gguf_bytes({}, {"t": ("F32", (8,), ONE)}).replace(struct.pack("<QIQ", 8, 0, 0), struct.pack("<QIQ", 8, 5, 0)),
                     "'t' is of type 5"),
    "not aligned": (gguf_bytes({}, {"t": ("F32", (8,), ONE)}).replace(struct.pack("<QIQ", 8, 0, 0), struct.pack("<QIQ", 8, 0, 4)),
                    "no multiple of 32"),
    "overlap": (gguf_bytes({}, {"t": ("F32", (16,), ONE * 2), "u": ("F32", (8,), ONE)}).replace(
                    struct.pack("<QIQ", 8, 0, 64), struct.pack("<QIQ", 8, 0, 32)), "overlap"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_refused_files(name: str, tmp_path: Path) -> None:
    data, message = FILES[name]
    with pytest.raises(ValueError, match=message) as raised:
        GGUFFile(written(tmp_path, data))
    assert "\n" not in str(raised.value) and "model.gguf" in str(raised.value)


def changed(old: str, new: Any, kind: str = "<I") -> bytes:
    """The tiny model with a number of its metadata replaced."""
    data, name = tiny_llama(), old.encode()
    at = data.index(name) + len(name) + 4
    return data[:at] + struct.pack(kind, new) + data[at + 4 :]


def without(*names: str) -> bytes:
    data = tiny_llama()
    for name in names:
        data = data.replace(name.encode(), name[:-1].encode() + b"~")
    return data


MODELS: dict[str, tuple[bytes, str]] = {
    "another architecture": (tiny_llama().replace(b"\5\0\0\0\0\0\0\0llama\x11", b"\5\0\0\0\0\0\0\0mamba\x11"), "'mamba'"),
    "no width": (without("llama.embedding_length"), "has no llama.embedding_length"),
    "no heads": (changed("llama.attention.head_count", 0), "head_count is 0"),
    "many layers": (changed("llama.block_count", 2), "block_count is 2, but"),
    "absurd many layers": (changed("llama.block_count", 2**31 - 1), "block_count is 2147483647, but"),
    "negative layers": (changed("llama.block_count", -1, "<i"), "block_count is 4294967295"),
    "no layer": (tiny_llama().replace(b"blk.0.", b"blk.1."), r"layers\.0\."),
    "other width": (changed("llama.feed_forward_length", 96), r"shape \[64, 32\]"),
    "part of a head turns": (changed("llama.rope.dimension_count", 8), "dimension_count"),
    "no embeddings": (without("token_embd.weight"), "token_embd.weight"),
    "no matrix": (without("blk.0.ffn_up.weight"), "mlp.up_proj"),
    "other heads": (changed("llama.attention.head_count_kv", 2), "shape"),
}


@pytest.mark.parametrize("name", MODELS)
def test_refused_models(name: str, tmp_path: Path) -> None:
    data, message = MODELS[name]
    with pytest.raises(ValueError, match=message) as raised:
        govlm.AutoModelForCausalLM.from_pretrained(written(tmp_path, data))
    assert "\n" not in str(raised.value) and "model.gguf" in str(raised.value)


def test_more_that_is_not_supported(tmp_path: Path) -> None:
    metadata = {"general.architecture": "llama"}
    tensors = {name: ("F32", (2, 4), ONE) for name in ("token_embd.weight", *"abcdefgh")}
    for extra, message in (
        ({"split.count": 3}, "one of 3 parts"),
        ({"llama.expert_count": 4}, "expert_count"),
        ({"llama.rope.scaling.type": "yarn"}, "yarn"),
        ({"llama.attention.head_count": [1, 2]}, "head_count"),
    ):
        usual = {
            "llama.block_count": 1, "llama.context_length": 8, "llama.embedding_length": 4, "llama.feed_forward_length": 4,
            "llama.attention.head_count": 1, "llama.attention.layer_norm_rms_epsilon": 1e-5,
        }  # fmt: skip
        with pytest.raises(ValueError, match=message):
            govlm.AutoModelForCausalLM.from_pretrained(written(tmp_path, gguf_bytes(metadata | usual | extra, tensors)))
    data = gguf_bytes(metadata | usual, tensors | {"blk.0.attn_q.weight": ("IQ1_S", (1, 256), bytes(50))})
    with pytest.raises(ValueError, match=r"blk\.0\.attn_q\.weight.*IQ1_S"):
        govlm.AutoModelForCausalLM.from_pretrained(written(tmp_path, data))


def test_damage(tmp_path: Path) -> None:
    """Bytes changed, cut off and put in, in the head mostly: the model loads or a ValueError names the file."""
    generator = np.random.default_rng(8)
    good = tiny_llama()
    head = good.index(b"output_norm.weight") + 60
    refused = 0
    for _ in range(250):
        data = bytearray(good)
        for _ in range(generator.integers(1, 4)):
            at = int(generator.integers(0, max(min(head, len(data)), 1)))
            kind = generator.integers(0, 4)
            if not data:
                break
            if kind == 0:
                data[at] = int(generator.integers(0, 256))
            elif kind == 1:
                data[at : at + 8] = struct.pack("<Q", int(generator.integers(0, 2**63)))
            elif kind == 2:
                del data[at : at + int(generator.integers(1, 9))]
            else:
                del data[int(generator.integers(0, len(data))) :]
        file = written(tmp_path, bytes(data))
        try:
            govlm.AutoModelForCausalLM.from_pretrained(file)(np.array([[1, 2]]))
        except (ValueError, IndexError) as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 150


def test_damage_in_blocks_of_256(tmp_path: Path) -> None:
    """Any bytes are codes; scales that are not finite are refused with the tensor's name."""
    generator = np.random.default_rng(9)
    good = tiny_llama(large=True)
    body = len(good) // 16
    refused = 0
    for _ in range(20):
        data = np.frombuffer(good, np.uint8).copy()
        places = generator.integers(body, len(data), 200)
        data[places] = generator.choice(np.array([0, 0x7C, 0xFC, 0xFF], np.uint8), 200)
        file = written(tmp_path, data.tobytes())
        try:
            govlm.AutoModelForCausalLM.from_pretrained(file)
        except ValueError as error:
            refused += 1
            assert "tensor 'blk" in str(error) or "tensor 'token_embd" in str(error)
            assert "\n" not in str(error)
    assert 0 < refused < 20
