"""The native core, as the Python layers see it. Arrays are C-contiguous; T = tokens in the packed batch, B = sequences,
R = selected rows, H = hidden size, L = layers. Errors: ValueError (shape, range), TypeError (dtype), IndexError (an id
beyond the vocabulary), RuntimeError (state), MemoryError, KeyboardInterrupt (Ctrl-C inside a long call), Cancelled."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

def num_threads() -> int: ...
def set_num_threads(count: int, /) -> None: ...
def info() -> dict[str, Any]: ...

class Model:
    """One stack of transformer blocks (encoder or decoder) with its embeddings and at most one head.

    `config` fields (all optional unless marked *; unknown names raise ValueError):

    sizes       vocab_size*, hidden_size*, num_layers*, num_heads*, num_kv_heads (= num_heads), head_dim (= hidden/heads),
                intermediate_size*, embedding_size (= hidden_size; smaller: a projection follows), max_positions (0),
                type_vocab_size (0), num_labels (0)
    norm        norm: "layer" | "rms";  norm_eps 1e-12;  pre_norm False;  embedding_norm True;  final_norm False
                head_norm_eps (= norm_eps): the norm of the MLM head
    positions   position: "learned" | "rotary" | "relative" | "none";  rope_theta 10000.0;  rope_factor 1.0 (divides what a position
                turns; where rope_original 0.0 is not 0: of pairs that turn less than rope_high times in so many positions, wholly below rope_low);
                relative_buckets 32, relative_max_distance 128, relative_bidirectional True
    attention   causal False;  attention_scale (= head_dim ** -0.5);  query_key_norm False;  cross_attention False
    biases      attention_bias True (query, key, value);  output_bias True;  mlp_bias True;  norm_bias True (layer norm)
    mlp         activation: "gelu" | "gelu_tanh" | "relu" | "silu" | "tanh";  gated False
    layout      fused_qkv False (one [H, 3H] matrix, GPT-2);  conv1d False (weights in x out);  shared_layers False (ALBERT)
                embedding_scale 1.0
    padding     padding_id -1, position_padding_id -1: rows of the word and position tables that get no gradient from look-ups
    dropout     hidden_dropout 0.0 (after attention output; also embedding_dropout and down_dropout, the mlp's, unless given);  attention_dropout 0.0 (probabilities);
                mlp_dropout 0.0 (after the activation, T5);  classifier_dropout 0.0;  pooler_dropout 0.0 (before pooler; RoBERTa)
                final_dropout 0.0 (after the final norm, T5)
    head        head: "none" | "sequence" | "token" | "mlm" | "lm" (causal: the decoder alone);  pooler False (dense + tanh on a sequence's first token);
                head_activation "gelu" (MLM transform);  tied_decoder True;  logit_scale 1.0 (of "lm": the last hidden state times it)

    Parameter names, in flat order (those that the config has):
        embeddings.word.weight [V,E]  embeddings.position.weight [P,E]  embeddings.token_type.weight [Y,E]
        embeddings.norm.{weight,bias} [E]  embeddings.projection.{weight,bias} [H,E]
        attention.relative_bias.weight [buckets, heads]
        layers.{i}.attention.{query,key,value,output}.{weight,bias}   or   layers.{i}.attention.query_key_value.{weight,bias}
        layers.{i}.attention.{query_norm,key_norm}.weight [head_dim]   layers.{i}.attention.norm.{weight,bias} [H]
        layers.{i}.cross.{query,key,value,output}.{weight,bias}        layers.{i}.cross.norm.{weight,bias}
        layers.{i}.mlp.{gate,up,down}.{weight,bias}                    layers.{i}.mlp.norm.{weight,bias} [H]
        final_norm.{weight,bias}   pooler.{weight,bias} [H,H]   classifier.{weight,bias} [num_labels,H]
        mlm.dense.{weight,bias} [E,H]  mlm.norm.{weight,bias} [E]  mlm.decoder.weight [V,E] (untied only)  mlm.bias [V]
        lm_head.weight [V,H] (untied only)
    In a post-norm block attention.norm follows the attention, in a pre-norm block it precedes it; so for cross and mlp.
    """

    def __init__(self, config: Mapping[str, int | float | str | bool]) -> None: ...
    @property
    def config(self) -> dict[str, Any]: ...
    def names(self) -> list[str]: ...
    def shape(self, name: str) -> tuple[int, ...]: ...
    def bind(self, name: str, array: F32) -> None:
        """Uses `array` (kept alive, not copied) as the parameter. Not allowed once trainable."""
    @property
    def trainable(self) -> bool: ...
    @property
    def version(self) -> int:
        """Grows whenever `bind` or an optimiser changes the weights."""
    def make_trainable(self) -> None:
        """Copies what is bound (the rest is zero) into one flat buffer, with lazily touched gradients. Idempotent."""
    def parameter(self, name: str) -> F32:
        """A view; after make_trainable a writable view into the flat buffer. Of a quantised parameter a float32 copy."""
    def quantised_sizes(self, name: str, group: int) -> tuple[int, int, int, int, int]:
        """(slices, panels, sums, scales, smooth): what `bind_quantised` wants, elements a slice. ValueError where it cannot be."""
    def bind_quantised(
        self,
        name: str,
        panels: NDArray[np.int8],
        sums: NDArray[np.int16],
        scales: F32,
        smooth: F32 | None,
        group: int,
        levels: int,
    ) -> None:
        """Uses packed arrays (1-D, kept alive, not copied; layout: govlm/train/quantise.py). make_trainable makes them float32."""
    def blocks_sizes(self, name: str, bits: int, minimum: bool) -> tuple[int, int, int, int]:
        """(slices, bytes, outputs, inputs) of a slice in blocks of 32. ValueError where it cannot be."""
    def bind_blocks(self, name: str, data: NDArray[np.uint8], bits: int, minimum: bool) -> None:
        """Uses packed blocks (1-D, kept alive, not copied; layout: govlm/blocks.py). make_trainable makes them float32."""
    def quantised(self, name: str) -> tuple[Any, ...] | None:
        """What `bind_quantised` or `bind_blocks` was given, without the name; None when the parameter is float32."""
    def capture(self, name: str, rows: F32 | None) -> int:
        """Copies the inputs of this linear layer into `rows` [N, inputs] in every forward until it is full; None ends it.
        Returns the rows copied since the call before. One forward at a time.
        """
    def gradient(self, name: str) -> F32 | None:
        """A view of the gradient, or None when no backward has reached the parameter since zero_grad."""
    def set_requires_grad(self, name: str, value: bool) -> None: ...
    def requires_grad(self, name: str) -> bool: ...
    def zero_grad(self) -> None: ...
    def flat_parameters(self) -> F32: ...
    def flat_gradient(self) -> F32:
        """The whole gradient (for an all-reduce): unreached parts are zeroed first, and count as reached afterwards."""
    def offset(self, name: str) -> int: ...
    def grad_norm(self, names: Sequence[str] | None = None) -> float:
        """The 2-norm over the gradients of `names` (all), the same bits for any thread count."""
    def scale_grad(self, factor: float, names: Sequence[str] | None = None) -> None: ...
    def first_nonfinite(self) -> str | None:
        """The first parameter or gradient with a NaN or infinity: "layers.0.mlp.up.weight" or "… (gradient)"."""
    def forward(
        self,
        input_ids: I32,  # [T], 0 <= id < vocab_size
        row_splits: I64,  # [B+1], from 0 to T, not decreasing; an empty sequence gives zeros
        position_ids: I32 | None = None,  # [T]; None = 0.. per sequence. Also orders causal attention.
        token_type_ids: I32 | None = None,  # [T]; None = 0
        *,
        key_counts: I64 | None = None,  # [B]: only the first key_counts[b] tokens of sequence b may be looked at (None = all)
        rows: I32 | None = None,  # [R], ascending: the last layer and the head are computed for these tokens only (None = all)
        memory: F32 | None = None,  # [Tm, H] encoder output, for cross attention
        memory_splits: I64 | None = None,  # [B+1]
        hidden_states: bool = False,  # keep every layer's output
        attentions: bool = False,  # keep attention probabilities
        labels: NDArray[Any]
        | None = None,  # int64 [B], [R] (token, mlm; -100 = ignored) or float32 [B, num_labels] (multi_label, regression)
        loss: str = "single_label",  # "single_label" | "multi_label" | "regression"
        class_weights: F32 | None = None,  # [num_labels], single_label and token
        logits: bool = True,  # False: mlm computes the loss without holding logits
        training: bool = False,  # dropout on
        save: bool = True,  # keep what backward needs
        seed: int = 0,
        step: int = 0,
        samples: NDArray[np.uint32] | None = None,  # [B] global sample index for dropout; None = 0..B-1
        cache: Cache
        | None = None,  # the tokens follow those that `sequences` hold there, and join them when the forward succeeds
        sequences: I64
        | None = None,  # [B], each once; with a cache: save=False, and no positions, key_counts, memory, attentions
        checkpoint: bool = False,  # save every layer's input only; backward runs each layer once more: the same bits
        adapters: Sequence[Model] | None = None,  # that adapter() of this model made, each once
        adapter_of: I32 | None = None,  # [B]: which of them each sequence goes through, -1 = none; None = the first for all
    ) -> Pass:
        """With adapters and save=True, what is quantised counts as the float32 it stands for, inputs unrounded: so that the
        gradient is exact."""
    def adapter(self, rank: int, scale: float, dropout: float, targets: Sequence[str], whole: Sequence[str], /) -> Model:
        """A low-rank adapter, y += scale * B (A dropout(x)) beside each target (the matrix of a linear layer); a Model of its own that
        holds "<layer>.lora_A.weight" [rank, in] and "<layer>.lora_B.weight" [out, rank], and `whole` parameters (of pooler or
        classifier) in the place of this model's. It has no forward. ValueError, IndexError for what cannot be."""

class Cache:
    """Keys and values of sequences of a causal model that grow, in pages of 32 tokens which forks share until one writes.
    A forward with a cache is a step: prompts and single tokens of any number of sequences side by side. One step at a time;
    any thread may call. A step that fails or is cancelled changes nothing; after the weights changed it raises RuntimeError."""

    def __init__(
        self,
        model: Model,
        *,
        pages: int = 0,  # the most it may hold: then MemoryError; 0 = no limit
        bits: int = 32,  # 8: keys and values rounded, a scale a token and head
    ) -> None: ...
    def open(self) -> int:
        """A sequence without tokens. IndexError of the others: there is no such sequence."""
    def fork(self, parent: int, tokens: int = -1, /) -> int:
        """A sequence that begins with the first `tokens` of `parent` (-1: all), and sees the same memory."""
    def cut(self, sequence: int, tokens: int, /) -> None:
        """Forgets all but the first `tokens`."""
    def close(self, sequence: int, /) -> None: ...
    def length(self, sequence: int, /) -> int: ...
    def remember(
        self,
        sequences: I64,
        memory: F32,
        memory_splits: I64,
        adapters: Sequence[Model] | None = None,
        adapter_of: I32 | None = None,
        /,
    ) -> None:
        """What the cross attention of sequences[b] looks at: rows memory_splits[b] .. [b + 1] of memory [Tm, H]; adapters as in
        forward, and the same in the steps that follow."""
    def usage(self) -> dict[str, int]:
        """sequences (open), used and free pages, most, page_bytes, page_tokens."""

class Pass:
    """One forward; owns its workspace until backward or collection. Views keep it alive."""

    @property
    def loss(self) -> float | None: ...
    @property
    def logits(self) -> F32 | None:
        """[B, num_labels] (sequence), [R, num_labels] (token), [R, V] (mlm)."""
    @property
    def pooled(self) -> F32 | None:
        """[B, H] after dense and tanh."""
    def hidden(self, layer: int) -> F32:
        """[T, H] output of `layer` (0 = embeddings, L = the last, [R, H] there when rows were given; -1 counts from the end).
        A layer before the last is there when hidden_states was asked for."""
    def attention(self, layer: int, sequence: int) -> F32:
        """[heads, query rows, key rows] of one sequence (layer 0..L-1), when attentions was asked for."""
    def cross_attention(self, layer: int, sequence: int) -> F32: ...
    def projection(self, layer: int, which: str) -> F32:
        """A copy of what self-attention of `layer` (0..L-1) compares and mixes, after norms and rotation: "query" [T, heads * d]
        ([R, …] in the last layer when rows were given), "key" or "value" [T, kv_heads * d]. Needs save=True, before backward."""
    def backward(
        self,
        scale: float | None = None,  # gradient at the loss; None = no gradient from the loss
        *,
        logits: F32 | None = None,
        pooled: F32 | None = None,
        hidden: Mapping[int, F32] | None = None,  # {layer: as hidden(layer)}
        attention: Mapping[tuple[int, int], F32] | None = None,  # {(layer, sequence): as attention(layer, sequence)}
        projection: Mapping[tuple[int, str], F32] | None = None,  # {(layer, "query" …): as projection(layer, …)}
        memory: bool = False,  # return the gradient at `memory`
    ) -> F32 | None:
        """Adds to the model's gradients and gives the workspace back. RuntimeError when called twice, when nothing was saved,
        or when the weights changed since the forward."""
    def first_nonfinite(self) -> str | None:
        """The first activation with a NaN or infinity: "hidden state of layer 3", "logits"."""

class Cancelled(BaseException):
    """A call was given up by `Cancel.cancel`. No Exception, as asyncio.CancelledError is none: who goes on after any error stops too."""

class Cancel:
    """`with Cancel() as c:` lets another thread's c.cancel() stop this thread's calls into the core, also in the middle of a pass: they
    raise Cancelled. Each is entered once at a time. RuntimeError on the main thread, where Ctrl-C does it."""

    def cancel(self) -> None: ...
    @staticmethod
    def here() -> bool:
        """Whether this thread's calls were given up: for what waits elsewhere than in the core, to stop as well."""
    @property
    def cancelled(self) -> bool: ...
    def __enter__(self) -> Cancel: ...
    def __exit__(self, *error: object) -> Literal[False]: ...

class Moments:
    """AdamW's state for a trainable model: two flat buffers laid out as the parameters, touched lazily."""

    def __init__(self, model: Model) -> None: ...
    def first(self, name: str) -> F32: ...
    def second(self, name: str) -> F32: ...
    def step_count(self, name: str) -> int: ...
    def set_step_count(self, name: str, value: int) -> None: ...
    def adamw(
        self,
        names: Sequence[str],
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
    ) -> None:
        """One AdamW step on those of `names` that have a gradient and require one (torch.optim.AdamW's update)."""

class WordPiece:
    """WordPiece with BERT's normalisation; immutable, so threads may share one. vocabulary[i] has id i ("" = no token)."""

    def __new__(
        cls,
        vocabulary: Sequence[str],
        unknown_id: int,
        *,
        lowercase: bool = True,
        strip_accents: bool = True,
        clean_text: bool = True,
        handle_chinese_chars: bool = True,
        max_word: int = 100,
        continuing_prefix: str = "##",
        added: Sequence[tuple[str, int, bool, bool, bool, bool]] = (),  # text, id, single_word, lstrip, rstrip, normalized
    ) -> WordPiece: ...
    def encode(
        self,
        texts: Sequence[str],
        *,
        prefix: Sequence[int] = (),
        suffix: Sequence[int] = (),
        max_length: int = -1,  # with prefix and suffix; -1 = no limit
        offsets: bool = False,
    ) -> Any:
        """(ids int32 [T], row_splits int64 [B+1]) and, with offsets, (starts, ends, words) int32 [T] each."""

class WordPieceTrainer:
    """Counts words, then merges pieces into a vocabulary."""

    def __new__(
        cls, *, lowercase: bool = True, strip_accents: bool = True, clean_text: bool = True, handle_chinese_chars: bool = True
    ) -> WordPieceTrainer: ...
    def feed(self, text: str, /) -> None: ...
    def build(self, vocab_size: int, min_frequency: int = 2, limit_alphabet: int = -1) -> list[str]: ...

class BPE:
    """Byte-pair encoding over bytes or characters; immutable, so threads may share one. tokens[i]: the bytes of id i (b"" = none)."""

    def __new__(
        cls,
        tokens: Sequence[bytes],
        *,
        merges: I32 | None = None,  # [M, 2] ids in order of rank; either these
        ranks: I32 | None = None,  # [V], or these: any two that make token i merge at ranks[i] (negative: never)
        split: str = "gpt2",  # none, gpt2, qwen2, llama3, digits
        prepend: str = "never",  # a space before a stretch of text: never, always, missing (unless there is one), first
        characters: bool = False,  # symbols are characters and spaces U+2581, not bytes
        compose: bool = False,  # NFC
        whole_words: bool = False,  # a piece that is a token is taken whole
        byte_fallback: bool = False,
        fuse_unknown: bool = False,
        unknown: int = -1,  # -1: what no token stands for is left out
        added: Sequence[tuple[str, int, bool, bool, bool, bool]] = (),  # text, id, single_word, lstrip, rstrip, normalized
    ) -> BPE: ...
    def encode(
        self,
        texts: Sequence[str],
        *,
        prefix: Sequence[int] = (),
        suffix: Sequence[int] = (),
        max_length: int = -1,  # with prefix and suffix; -1 = no limit
        offsets: bool = False,
    ) -> Any:
        """As WordPiece.encode."""

class BPETrainer:
    """Counts pieces, then merges bytes into a vocabulary."""

    def __new__(cls, *, split: str = "gpt2", compose: bool = False) -> BPETrainer: ...
    def feed(self, text: str, /) -> None: ...
    def build(self, alphabet: bytes, symbols: int, min_frequency: int, /) -> list[tuple[int, int, int]]:
        """The merges in order, (left, right, made); symbol s < 256 is the byte alphabet[s]. Once."""

class Unigram:
    """SentencePiece's normalisation and unigram model; immutable, so threads may share one. pieces[i] has id i."""

    def __new__(
        cls,
        pieces: Sequence[str],
        scores: F32,  # [V]
        types: NDArray[np.uint8],  # [V] 1 normal, 2 unknown (exactly one), 3 control, 4 user-defined, 5 unused, 6 byte
        *,
        charsmap: bytes = b"",  # precompiled rules of a .model file
        add_dummy_prefix: bool = True,
        remove_extra_whitespaces: bool = True,
        escape_whitespaces: bool = True,
        whitespace_as_suffix: bool = False,
        byte_fallback: bool = False,
        exact_sums: bool = False,  # scores are added in float64 (HF tokenizers), else in float32 (sentencepiece)
        added: Sequence[tuple[str, int, bool, bool, bool, bool]] = (),  # as WordPiece's; all are looked for in the raw text
    ) -> Unigram: ...
    def encode(
        self,
        texts: Sequence[str],
        *,
        prefix: Sequence[int] = (),
        suffix: Sequence[int] = (),
        max_length: int = -1,
        offsets: bool = False,
    ) -> Any:
        """As WordPiece.encode."""
    def normalize(self, text: str, /) -> str:
        """The text as it is cut into pieces."""

class UnigramTrainer:
    """Counts substrings, then prunes a large vocabulary by expectation maximisation (Kudo, arXiv:1804.10959)."""

    def __new__(
        cls,
        *,
        charsmap: bytes = b"",
        add_dummy_prefix: bool = True,
        remove_extra_whitespaces: bool = True,
    ) -> UnigramTrainer: ...
    def feed(self, text: str, /) -> None:
        """One sentence: pieces do not cross its ends."""
    def build(
        self,
        vocab_size: int,  # without special pieces
        *,
        character_coverage: float = 0.9995,
        seed_size: int = 1000000,
        max_piece_length: int = 16,
        shrinking_factor: float = 0.75,
        sub_iterations: int = 2,
    ) -> list[tuple[str, float]]:
        """`vocab_size` pieces with their scores, the best first; fewer where the text has no more. Once."""

# Sparse rows are CSR: indices int32 and values float32 [entries], row_splits int64 [rows + 1]; N = rows, F = features, L = labels.

Sparse = tuple[I32, F32, I64]

def ngram_counts(texts: Sequence[str], shortest: int, longest: int, bits: int) -> Sparse:
    """How often each bucket (hash of a character n-gram, 2**bits of them) occurs in each text; indices ascend in a row."""

def ngram_weigh(counts: Sparse, buckets: I32, idf: F32) -> Sparse:
    """(1 + ln count) * idf of the buckets that are in `buckets` [F] (ascending), rows scaled to length 1; indices are features."""

def sparse_svm(
    data: Sparse,
    targets: NDArray[np.int8],  # [N, L], 1 or -1
    features: int,
    *,
    costs: F32 | None = None,  # [N]
    c: float = 1.0,
    tolerance: float = 1e-3,
    most: int = 200,  # passes over the rows
    seed: int = 0,
) -> tuple[F32, F32]:
    """(weights [F, L], bias [L]) of one support vector machine a label (squared hinge, L2); the same bits for any threads."""

def sparse_logits(data: Sparse, weights: NDArray[np.int8], scales: F32, bias: F32, factor: float) -> F32:
    """[N, L] = factor * (bias + data @ (scales * weights)); weights [F, L], scales [F], bias [L]."""

def dense_scores(
    vectors: F32, panels: NDArray[np.int8], sums: NDArray[np.int16], scales: F32, count: int, group: int, levels: int
) -> F32:
    """[Q, count] inner products of vectors [Q, K] with `count` packed ones (layout: govlm/quantised.py)."""

def name_pairs(symbols: I32, bits: int) -> I32:
    """[len - 1] buckets below 2^bits of each two symbols in a row; -1 beside symbol 0."""

def name_features(
    query: I32, symbols: I32, splits: NDArray[np.int64], weight: F32, pair_weight: F32, strange: float, which: I32 | None = None
) -> F32:
    """[names, 6] of how well names fit a query: csrc/include/govlm_search.h says what. ValueError for a query over 256 symbols."""
