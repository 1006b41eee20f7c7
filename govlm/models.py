"""Models with transformers' names and arguments, on the native core.

    model = BertForSequenceClassification.from_pretrained(folder, num_labels=12)
    outputs = model(input_ids, attention_mask=mask, labels=labels)   # or model(tokenizer.encode_packed(texts), labels=labels)
    outputs.loss.backward()

Weights are views into the mapped file until the first backward (or optimiser step) moves them into one flat buffer. Dropout
(in training mode) draws its numbers from `dropout_seed`, `dropout_step` (the number of forwards in training mode so far) and
the place of a sequence in the batch; the seed comes from NumPy's global generator (`govlm.set_seed`) at the first such forward.
A model may predict from many threads at once; forward and backward of one model may run in one thread at a time.
"""

from __future__ import annotations

import copy
import itertools
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from . import families
from ._native import core as native
from .adapters.mixin import AdapterMixin, base_of
from .blocks import Blocks
from .bundled import is_gguf, model_folder
from .checkpoint import WEIGHTS, Checkpoint, _chunks, write_atomically
from .configuration import (
    AlbertConfig,
    AutoConfig,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
)
from .generation.mixin import GenerationMixin
from .outputs import Call, Loss, ModelOutput, Want, grad_enabled, no_grad, versions_of
from .packing import Batch, Rules, as_array
from .parameters import Parameter, Scope
from .quantised import Packed, open_quantised, packed_of, quantisation_of
from .quantised import save as save_quantised
from .sentences import encode_batch, mean_pool

__all__ = [
    "AlbertForMaskedLM", "AlbertForSequenceClassification", "AlbertForTokenClassification", "AlbertModel", "AutoModel",
    "AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM", "AutoModelForSequenceClassification", "AutoModelForTokenClassification", "BertForMaskedLM",
    "BertForSequenceClassification", "BertForTokenClassification", "BertModel", "GPT2LMHeadModel", "GPT2Model", "LlamaForCausalLM", "LlamaModel", "Loss",
    "ModelOutput", "Parameter", "PreTrainedModel", "Qwen2ForCausalLM", "Qwen2Model", "Qwen3ForCausalLM", "Qwen3Model", "RobertaForMaskedLM",
    "RobertaForSequenceClassification", "RobertaForTokenClassification", "RobertaModel", "mean_pool", "no_grad",
]  # fmt: skip

F32 = NDArray[np.float32]
_LOSSES = {
    "single_label_classification": "single_label",
    "multi_label_classification": "multi_label",
    "regression": "regression",
}
_HELD_LOGITS = 1 << 27  # bytes of the labelled tokens' logits that a masked LM's forward holds at most
_NAMED = 8  # how many tensors a message lists


class PreTrainedModel(GenerationMixin, AdapterMixin):
    """Base of all models. `Model(config)` (or `from_config`) is randomly initialised as in transformers: normal numbers with
    deviation initializer_range, biases 0, norms 1, from NumPy's global generator. It starts in eval mode: call train().
    """

    config_class: ClassVar[type[PretrainedConfig]]
    task: ClassVar[str] = "none"
    default_pooler: ClassVar[bool] = False

    def __init__(self, config: PretrainedConfig, add_pooling_layer: bool | None = None) -> None:
        self._build(config, add_pooling_layer)
        self._initialise(list(self._names))

    # ---- building ----------------------------------------------------------------------------------------------------------

    def _build(self, config: PretrainedConfig, add_pooling_layer: bool | None) -> None:
        if not isinstance(config, self.config_class):
            raise TypeError(f"{type(self).__name__} needs a {self.config_class.__name__}, not a {type(config).__name__}")
        config.validate()
        self.config = config
        self.training = False
        self._lock = threading.Lock()
        self._last = threading.local()
        self._read_tokenizer: tuple[Any, Any] | None = None
        self._dropout_seed: int | None = None
        self.dropout_step = 0
        if add_pooling_layer is None:  # embeddings of sentences come from the last hidden states: no pooler was trained
            add_pooling_layer = self.default_pooler and not (self.task == "none" and config.__dict__.get("sentence"))
        self._pooler = bool(add_pooling_layer)
        self._parameters: dict[str, Parameter] = {}
        self._adapters, self._active, self._enabled, self._merged = {}, None, True, {}
        self._checkpointing = False
        self._fresh: list[str] = []  # what the checkpoint lacked
        self._cores: dict[str, Any] = {}
        self._names: dict[str, tuple[str, str]] = {}
        self._make_cores()
        for name, (part, core_name) in self._names.items():
            self._parameters[name] = Parameter(self, part, core_name, name)

    @property
    def _family(self) -> families.Family:
        return families.FAMILIES[self.config.model_type]

    @property
    def _prefix(self) -> str:
        """The base model's prefix in this model's names: none in the base model itself."""
        return "" if self.task == "none" else self._family.prefix

    def _make_cores(self) -> None:
        family = self._family
        core = family.core_config(self.config, self.task, self._pooler)
        pad = self.config.__dict__.get("pad_token_id")
        if family.padding_row and isinstance(pad, int) and 0 <= pad < self.config.vocab_size:
            core["padding_id"] = pad  # its embedding gets no gradient, as in transformers
            if self.config.model_type == "roberta":
                core["position_padding_id"] = pad
        self._cores[""] = native.Model(core)
        for name, core_name in family.weight_map(self.config, self.task, self._pooler).items():
            head = families.is_head(name) and not name.startswith("pooler")
            self._names[f"{self._prefix}.{name}" if self._prefix and not head else name] = ("", core_name)
        self._rules = Rules(
            self._core_of("").config.get("max_positions") or None,
            self.config.pad_token_id if self.config.model_type == "roberta" else None,
            family.causal,
            family.token_types,
            self.config.model_type,
        )

    def _core_of(self, part: str) -> Any:
        return self._cores[part]

    @property
    def core(self) -> Any:
        """The native model (of T5: the encoder)."""
        return self._core_of("")

    @property
    def _first_only(self) -> bool:
        """Whether logits are one row a sequence."""
        return self.task == "sequence"

    @property
    def _speaks(self) -> bool:
        """Whether logits are over the vocabulary, and only those of labelled places are made with labels."""
        return self.task in ("mlm", "lm")

    @property
    def _pools(self) -> bool:
        return self.task == "sequence" or self._pooler

    def _deviation(self, name: str, shape: tuple[int, ...]) -> float:
        config = self.config
        deviation = float(config.initializer_range or 0.02)
        if config.model_type == "gpt2" and name.endswith("c_proj.weight"):
            return deviation / float(np.sqrt(2 * config.n_layer))
        return deviation

    def _initialise(self, names: Sequence[str]) -> None:
        generator = np.random.default_rng(np.random.randint(0, 2**32, dtype=np.uint64))
        for name in names:
            part, core_name = self._names[name]
            core = self._core_of(part)
            shape = tuple(core.shape(core_name))
            if len(shape) == 1:
                value = np.full(shape, 1.0 if core_name.endswith("norm.weight") else 0.0, np.float32)
            else:
                value = generator.standard_normal(shape, dtype=np.float32)
                value *= np.float32(self._deviation(name, shape))
                self._zero_padding(core_name, value)
            self._bind(part, core_name, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> PreTrainedModel:
        """A model of its own with copies of the weights (a teacher, a moving average); gradients are not copied."""
        twin = type(self).__new__(type(self))
        twin._build(copy.deepcopy(self.config, memo), self._pooler)
        for name, parameter in self._parameters.items():
            packed = packed_of(parameter.core, parameter.core_name)
            twin._bind(*twin._names[name], np.array(parameter.data) if packed is None else packed)
            if not parameter.requires_grad:
                twin._parameters[name].requires_grad = False
        self._copy_adapters(twin)
        twin._checkpointing = self._checkpointing
        twin._loaded()
        return twin.train(self.training)

    def _zero_padding(self, core_name: str, value: F32) -> None:
        pad = self.config.__dict__.get("pad_token_id")
        rows = ["embeddings.word.weight"] + (["embeddings.position.weight"] if self.config.model_type == "roberta" else [])
        if self._has_padding_row and core_name in rows and isinstance(pad, int) and 0 <= pad < len(value):
            value[pad] = 0.0

    @property
    def _has_padding_row(self) -> bool:
        return self._family.padding_row

    def _bind(self, part: str, core_name: str, value: F32 | Packed | Blocks) -> None:
        core = self._core_of(part)
        if isinstance(value, Packed):
            core.bind_quantised(core_name, *value)
        elif isinstance(value, Blocks):
            core.bind_blocks(core_name, *value)
        elif core.trainable:
            core.parameter(core_name)[...] = value
        else:
            core.bind(core_name, value)

    @classmethod
    def from_config(cls, config: PretrainedConfig, **kwargs: Any) -> PreTrainedModel:
        """A randomly initialised model."""
        return cls(config, **kwargs)

    # ---- loading and saving ------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        *,
        config: PretrainedConfig | None = None,
        ignore_mismatched_sizes: bool = False,
        add_pooling_layer: bool | None = None,
        **overrides: Any,
    ) -> Any:
        """The model in a local folder (config.json and model.safetensors, also sharded) or a GGUF file, in eval mode; of an adapter's
        folder, the model that it was made for, with it.

        dtype: "float32" makes a GGUF file's matrices float32; by default those of Q4_0, Q4_1 and Q8_0 stay as they are.

        overrides: config fields (num_labels=…, hidden_dropout_prob=…). A head that the checkpoint lacks is initialised at
        random with a warning that names it; tensors that the model does not have are named in a warning; a missing body, a
        tensor of another shape (unless ignore_mismatched_sizes: then it is initialised), a damaged file, a pickle or another
        architecture raises FileNotFoundError or ValueError with the file and the tensor named, and nothing is loaded.
        """
        base = base_of(path)
        if base is not None:
            model = cls.from_pretrained(
                base, config=config, ignore_mismatched_sizes=ignore_mismatched_sizes, add_pooling_layer=add_pooling_layer,
                **overrides,
            )  # fmt: skip
            model.load_adapter(path)
            return model
        whole = False
        for name in ("dtype", "torch_dtype"):
            kind = str(overrides.pop(name, None) or "auto").removeprefix("torch.")
            if kind not in ("float32", "auto"):
                raise ValueError(f"{name} = {kind} is not supported: weights are float32 here")
            whole |= kind == "float32"
        if config is None:
            config = cls.config_class.from_pretrained(path, **overrides)
        elif overrides:
            raise ValueError(f"give {next(iter(overrides))} in the config, not beside it")
        checkpoint = _opened(model_folder(path), config, whole)
        model = cls.__new__(cls)
        model._build(config, add_pooling_layer)
        if model._has_own_head(checkpoint):
            config = copy.deepcopy(config)
            config.tie_word_embeddings = False
            model._build(config, add_pooling_layer)
        model._load(checkpoint, ignore_mismatched_sizes)
        return model

    def _has_own_head(self, checkpoint: Any) -> bool:
        """Whether the checkpoint holds a head over the vocabulary that is not its embeddings, though the config ties them (mT5 and
        T5 1.1 do so). Then it is no longer tied, as in transformers."""
        if self.task != "lm" or not self.config.tie_word_embeddings:
            return False
        names = {families.normalise(name, self._load_prefix()): name for name in checkpoint.names()}
        head, word = names.get("lm_head.weight"), names.get(self._tied()["lm_head.weight"])
        if head is None or word is None or checkpoint.shape(head) != checkpoint.shape(word):
            return False
        theirs, ours = checkpoint.tensor(head), checkpoint.tensor(word)
        if isinstance(theirs, np.ndarray) and isinstance(ours, np.ndarray):
            return not np.array_equal(theirs, ours)
        return type(theirs) is not type(ours) or not np.array_equal(theirs[0], ours[0])

    def _tied(self) -> dict[str, str]:
        return self._family.tied

    def _ignored(self) -> tuple[str, ...]:
        return self._family.ignored

    def _base_name(self, name: str) -> str:
        """A parameter's name without the prefix, as in the weight map."""
        return families.normalise(name, self._prefix)

    def _load(self, checkpoint: Any, ignore_mismatched_sizes: bool) -> None:
        import re

        prefix = self._load_prefix()
        theirs = {families.normalise(name, prefix): name for name in checkpoint.names()}
        used: set[str] = set()
        found: dict[str, str] = {}
        missing: list[str] = []
        tied = self._tied()
        for name in self._names:
            base = self._base_name(name)
            candidates = [base, *(alias for alias, target in tied.items() if target == base)]
            source = next((theirs[c] for c in candidates if c in theirs), None)
            if source is None:
                missing.append(name)
            else:
                found[name] = source
                used.update(theirs[c] for c in candidates if c in theirs)
        body = [name for name in missing if not families.is_head(self._base_name(name))]
        if body:
            others = f" (nor {len(body) - 1} others)" if len(body) > 1 else ""
            raise ValueError(
                f"{checkpoint.files[0]} has no tensor {body[0]!r}{others}: it does not hold a {type(self).__name__}"
            )
        arrays: dict[str, Any] = {}
        for name, source in found.items():
            part, core_name = self._names[name]
            wanted, there = tuple(self._core_of(part).shape(core_name)), checkpoint.shape(source)
            if wanted != there:
                if not ignore_mismatched_sizes:
                    head = families.is_head(self._base_name(name))
                    advice = " (ignore_mismatched_sizes=True starts this head afresh)" if head else ""
                    raise ValueError(
                        f"{checkpoint.file(source)}: tensor {source!r} has shape {list(there)}, "
                        f"the model needs {list(wanted)}{advice}"
                    )
                missing.append(name)
                continue
            arrays[name] = checkpoint.tensor(source)
        # "cls." is a masked-LM head: nobody who asks for another model misses it
        ignored = [re.compile(pattern) for pattern in (*self._ignored(), r"^cls\.")]
        skip = {*used, *(theirs[alias] for alias in tied if alias in theirs)}
        extra = [n for n in checkpoint.names() if n not in skip and not any(p.search(n) for p in ignored)]
        for name, array in arrays.items():
            try:
                self._bind(*self._names[name], array)
            except ValueError as error:  # a packed array of a wrong size
                raise ValueError(f"{checkpoint.file(found[name])}: {error}") from None
        self._fresh = missing
        if missing:
            self._initialise(missing)
            warnings.warn(
                f"{checkpoint.folder} has no {_listed(missing)}: initialised at random, train the model before use",
                stacklevel=3,
            )
        if extra:
            warnings.warn(
                f"{checkpoint.folder} holds tensors that {type(self).__name__} does not use: {_listed(extra)}", stacklevel=3
            )
        self._loaded()

    def _load_prefix(self) -> str:
        return self._family.prefix

    def _loaded(self) -> None:
        """Called when parameters were replaced."""

    def save_pretrained(self, save_directory: str | os.PathLike[str], *, dtype: str = "float32") -> None:
        """Writes config.json and model.safetensors (names and layout as transformers'), atomically: a failure, such as a full
        disk, raises OSError and leaves the old files whole. A quantised model is written as it is (model.int8, .int4 or .packed.safetensors).
        With adapters it is the active one that is written, in PEFT's files (merge_and_unload() first for a whole model).

        dtype: float32, or float16 for half the size (values beyond 65504 are refused: ValueError names the tensor).
        """
        folder = Path(save_directory)
        if dtype not in ("float32", "float16"):
            raise ValueError(f"dtype must be float32 or float16, not {dtype!r}")
        if self._adapters:
            if dtype != "float32":
                raise ValueError("an adapter is saved in float32")
            self._save_adapter(folder)
            return
        if self.quantised:
            if dtype != "float32":
                raise ValueError("a quantised model is saved as it is: train it or load the float32 one for float16")
            save_quantised(self, folder, [type(self).__name__])
            return
        self.config.__dict__.pop("quantization_config", None)
        folder.mkdir(parents=True, exist_ok=True)
        self.config.architectures = [type(self).__name__]
        self.config.dtype = dtype
        tensors: dict[str, NDArray[Any]] = {name: parameter.data for name, parameter in self._parameters.items()}
        if dtype == "float16":
            for name, values in tensors.items():
                if np.abs(values).max(initial=0.0) > np.finfo(np.float16).max:
                    raise ValueError(f"{name} has values that float16 cannot hold")
                tensors[name] = values.astype(np.float16)
        for name in [n for n in tensors if n.endswith(".decoder.bias")]:  # untied: transformers' files hold it twice
            tensors[name.removesuffix("decoder.bias") + "bias"] = tensors[name]
        write_atomically(
            {
                folder / WEIGHTS: _chunks(tensors, {"format": "pt"}),
                folder / "config.json": self.config.to_json_string().encode("utf-8"),
            }
        )

    @property
    def quantised(self) -> bool:
        """Whether any parameter is held in 8 or 4 bits (a folder of `govlm quantize`); training makes all of them float32."""
        return any(self._core_of(part).quantised(name) is not None for part, name in self._names.values())

    def state_dict(self) -> dict[str, F32]:
        """Name -> values (views: copy them to keep them), without adapters (get_adapter_state_dict)."""
        return {name: parameter.data for name, parameter in self._parameters.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Copies values in. ValueError for missing or unexpected names (strict) or a wrong shape; nothing is copied then."""
        missing = [n for n in self._parameters if n not in state_dict]
        extra = [n for n in state_dict if n not in self._parameters]
        if strict and (missing or extra):
            what = f"has no {_listed(missing)}" if missing else f"holds {_listed(extra)}, which the model does not have"
            raise ValueError(f"the state {what}")
        values = {}
        for name, parameter in self._parameters.items():
            if name in state_dict:
                value = as_array(state_dict[name], name)
                if value.shape != parameter.shape:
                    raise ValueError(f"{name} has shape {list(value.shape)} in the state, {list(parameter.shape)} in the model")
                values[name] = np.asarray(value, np.float32)
        for name, value in values.items():
            if self._core_of(self._names[name][0]).trainable:
                self._parameters[name].data[...] = value
            else:
                self._bind(*self._names[name], value.copy())
        self._loaded()

    # ---- parameters --------------------------------------------------------------------------------------------------------

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter), by transformers' names and in its order; then those of adapters."""
        return itertools.chain(self._parameters.items(), self._adapter_parameters())

    def parameters(self) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters())

    def num_parameters(self, only_trainable: bool = False) -> int:
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not only_trainable)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets all gradients (`grad` is None afterwards)."""
        for core in (*self._cores.values(), *self._adapter_cores()):
            core.zero_grad()

    def _set_requires_grad(self, parameter: Parameter, value: bool) -> None:
        parameter.core.set_requires_grad(parameter.core_name, value)

    def requires_grad_(self, requires_grad: bool = True) -> PreTrainedModel:
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def train(self, mode: bool = True) -> PreTrainedModel:
        """Switches dropout on (or off). A quantised model becomes float32 when it is switched on, unless it is frozen (beside an
        adapter): few bits do not train."""
        self.training = bool(mode)
        if mode and any(parameter.requires_grad for parameter in self._parameters.values()) and self.quantised:
            for part in {part for part, _ in self._names.values()}:
                self._core_of(part).make_trainable()
            self._loaded()
        return self

    def eval(self) -> PreTrainedModel:
        return self.train(False)

    def gradient_checkpointing_enable(self) -> None:
        """From now on a forward that backward may follow keeps each layer's input only, and backward runs the layers once more: the
        same gradient, bit for bit, in less memory and about a third more time."""
        self._checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        self._checkpointing = False

    @property
    def is_gradient_checkpointing(self) -> bool:
        return self._checkpointing

    def __getattr__(self, name: str) -> Any:
        """The parameters under a name, as in transformers: model.bert.encoder.layer[0].parameters()."""
        if name.startswith("_") or "_parameters" not in self.__dict__:
            raise AttributeError(name)
        return Scope(self._parameters, type(self).__name__, "").child(name)

    def first_nonfinite(self) -> str | None:
        """The first parameter or gradient with a NaN or infinity, by its transformers name, or None."""
        for part, core in self._cores.items():
            found = core.first_nonfinite()
            if found is not None:
                core_name, _, rest = found.partition(" ")
                name = next((n for n, place in self._names.items() if place == (part, core_name)), core_name)
                return f"{name} {rest}".rstrip()
        for adapter in self._adapters.values():
            for core in adapter.cores.values():
                if (found := core.first_nonfinite()) is not None:
                    return f"{found} of adapter {adapter.name!r}"
        return None

    def get_input_embeddings(self) -> Parameter:
        """The word embeddings."""
        return next(self._parameters[n] for n, (_, core_name) in self._names.items() if core_name == "embeddings.word.weight")

    def resize_token_embeddings(self, new_num_tokens: int) -> Parameter:
        """Cuts or lengthens the vocabulary. New rows start near the mean of the old ones. Make optimisers after this."""
        if new_num_tokens < 1:
            raise ValueError(f"new_num_tokens must be positive, not {new_num_tokens}")
        if self._adapters:
            raise ValueError("the vocabulary cannot change beside an adapter: resize first, or delete the adapters")
        old = {name: parameter.data for name, parameter in self._parameters.items()}
        frozen = [name for name, parameter in self._parameters.items() if not parameter.requires_grad]
        trainable = {part: core.trainable for part, core in self._cores.items()}
        before = self.config.vocab_size
        self.config.vocab_size = new_num_tokens
        self._names = {}
        self._make_cores()
        generator = np.random.default_rng(np.random.randint(0, 2**32, dtype=np.uint64))
        for name, value in old.items():
            part, core_name = self._names[name]
            wanted = tuple(self._core_of(part).shape(core_name))
            if wanted != value.shape:
                grown = np.zeros(wanted, np.float32)
                rows = min(before, new_num_tokens)
                grown[:rows] = value[:rows]
                if new_num_tokens > before and value.ndim == 2:
                    noise = generator.standard_normal((new_num_tokens - before, wanted[1]), dtype=np.float32)
                    grown[rows:] = value.mean(axis=0) + noise * (value.std(axis=0) * np.float32(1e-9**0.5))
                value = grown
            self._bind(part, core_name, value)
        for part, was in trainable.items():
            if was:
                self._cores[part].make_trainable()
        for name in frozen:
            self._parameters[name].requires_grad = False
        self._loaded()
        return self.get_input_embeddings()

    # ---- running -----------------------------------------------------------------------------------------------------------

    @property
    def dropout_seed(self) -> int:
        """The seed of dropout, drawn from NumPy's global generator when first needed; may be set (a resumed run does)."""
        with self._lock:
            if self._dropout_seed is None:
                self._dropout_seed = int(np.random.randint(0, 2**32, dtype=np.uint64))
            return self._dropout_seed

    @dropout_seed.setter
    def dropout_seed(self, value: int) -> None:
        if not 0 <= value < 2**32:
            raise ValueError(f"dropout_seed must be in 0..4294967295, not {value}")
        self._dropout_seed = int(value)

    def _dropout(self, seed: int | None, step: int | None, samples: Any) -> dict[str, Any]:
        if not self.training:
            return {"training": False}
        arguments: dict[str, Any] = {"training": True, "seed": self.dropout_seed if seed is None else int(seed)}
        if step is None:
            with self._lock:
                step = self.dropout_step
                self.dropout_step += 1
        arguments["step"] = int(step)
        if samples is not None:
            arguments["samples"] = np.ascontiguousarray(as_array(samples, "samples"), np.uint32)
        return arguments

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        labels: Any = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        *,
        logits_to_keep: Any = 0,
        adapter_names: Sequence[str] | None = None,
        packed: Any = None,
        class_weights: Any = None,
        seed: int | None = None,
        step: int | None = None,
        samples: Any = None,
        **unknown: Any,
    ) -> Any:
        """One forward. input_ids, attention_mask, token_type_ids, position_ids: integers [B, S] (attention_mask 0/1, None = all
        ones), from lists, NumPy or anything that speaks __array__, DLPack or the buffer protocol. In their place `packed` (or
        the first argument): an object with ids [T] and row_splits [B+1], such as tokenizer.encode_packed(texts).

        labels: [B] integers (single label), [B, num_labels] floats (multi-label), [B] or [B, num_labels] floats (regression),
        [B, S] integers, -100 ignored (token, masked LM; [T] for packed input; causal LM: those of input_ids, each is what the place
        before it should say). class_weights: [num_labels], single label and
        token. logits_to_keep, of causal LMs: the last so many columns (0 = all), or the columns, whose logits are made:
        [B, kept, V]; not beside labels. adapter_names: [B], each sequence's adapter ("__base__": none; default the active one for all).
        seed, step, samples: where in the stream of dropout's numbers this forward stands (a resumed or data-parallel run
        says so): default dropout_seed, dropout_step and 0..B-1; samples is [B], one number a sequence.
        Returns a ModelOutput (return_dict=False: a tuple). Errors: ValueError (shapes, ranges, an unsupported argument),
        TypeError (dtypes), IndexError (an id beyond the vocabulary); each names the argument.
        """
        _refuse_unknown(type(self).__name__, unknown)
        if packed is None and hasattr(input_ids, "row_splits"):
            packed, input_ids = input_ids, None
        batch = self._batch(input_ids, attention_mask, token_type_ids, position_ids, packed)
        arguments: dict[str, Any] = self._dropout(seed, step, samples)
        arguments.update(self._adapter_arguments(self._routed(adapter_names, batch.shape[0])))
        labelled = None
        if labels is not None:
            found, labelled = self._labels(labels, batch, packed is not None)
            arguments.update(found)
        if class_weights is not None:
            arguments["class_weights"] = self._class_weights(class_weights, arguments)
        hidden = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        attentions = self.config.output_attentions if output_attentions is None else output_attentions
        want = self._want(bool(hidden), bool(attentions), labels is not None, batch)
        if labelled is not None and want.rows == "labelled":
            want = self._holding(want, labelled)
        kept = self._kept(logits_to_keep, batch, labels)
        if kept is not None:
            want = Want("kept")
        fields = self._fields(bool(hidden), bool(attentions), labels is not None)
        save = grad_enabled() and (self.training or labels is not None)
        self._last.output = None  # gives its workspace back before this forward takes one
        core = self._core_of("")
        call = Call(core, batch, arguments, versions_of(core, arguments), self._checkpointing)
        output = ModelOutput(self, call, fields, want, labelled, save, kept)
        self._last.output = output if save else output._recipe()
        return output if return_dict or (return_dict is None and self.config.return_dict) else output.to_tuple()

    def _batch(self, input_ids: Any, attention_mask: Any, token_type_ids: Any, position_ids: Any, packed: Any) -> Batch:
        if packed is not None:
            given = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids}
            given["token_type_ids"] = token_type_ids
            for name, value in given.items():
                if value is not None:
                    raise ValueError(f"give either packed input or {name}, not both")
            return Batch.packed(self._rules, packed)
        if input_ids is None:
            raise ValueError("input_ids (or packed input) is missing")
        return Batch.padded(self._rules, input_ids, attention_mask, token_type_ids, position_ids, "input_ids")

    def _fields(self, hidden: bool, attentions: bool, labels: bool) -> tuple[str, ...]:
        names = ["loss"] if labels else []
        if self.task == "none":
            names += ["last_hidden_state"] + (["pooler_output"] if self._pooler else [])
        else:
            names.append("logits")
        return (*names, *(["hidden_states"] if hidden else []), *(["attentions"] if attentions else []))

    def _want(self, hidden: bool, attentions: bool, labels: bool, batch: Batch) -> Want:
        if self.task == "sequence" and (batch.with_first is not None or not (hidden or attentions)):
            return Want("first", labels=labels)
        if self._speaks and labels and not (hidden or attentions):
            return Want("labelled", logits=False, labels=True)
        return Want("all", hidden, attentions, logits=not self._speaks or not labels, labels=labels)

    def _kept(self, wanted: Any, batch: Batch, labels: Any) -> NDArray[np.intp] | None:
        """The columns of the padded input whose logits are asked for; None = all."""
        columns = as_array(wanted, "logits_to_keep")
        if columns.ndim == 0 and not columns:
            return None
        if self.task != "lm":
            raise ValueError(f"logits_to_keep is not supported by {type(self).__name__}")
        if labels is not None:
            raise ValueError("give either labels or logits_to_keep, not both")
        if columns.dtype.kind not in "iu" or columns.ndim > 1 or (columns.ndim == 0 and columns < 0):
            raise ValueError("logits_to_keep is a number of columns from the end, or an array of columns")
        length = batch.shape[1]
        if columns.ndim == 0:
            return np.arange(max(length - int(columns), 0), length)
        if ((columns < -length) | (columns >= length)).any():
            raise ValueError(f"logits_to_keep names a column beyond the input's {length}")
        return np.where(columns < 0, columns + length, columns).astype(np.intp)

    def _holding(self, want: Want, labelled: Any) -> Want:
        """Backward needs the logits: computing them anew is a sixteenth of a step of 4x312. They are kept where they are not too large,
        but not of a frozen head, where the forward makes the gradient at once."""
        core = self._cores.get("decoder") or self._core_of("")
        head = next(name for name in ("lm_head.weight", "mlm.decoder.weight", "embeddings.word.weight") if name in core.names())
        if not core.requires_grad(head) and not ("mlm.bias" in core.names() and core.requires_grad("mlm.bias")):
            return replace(want, logits=False)
        return replace(want, logits=4 * len(labelled) * self.config.vocab_size <= _HELD_LOGITS)

    def _labels(self, labels: Any, batch: Batch, packed: bool) -> tuple[dict[str, Any], Any]:
        """The core's labels (and loss), and the labelled rows of a masked LM."""
        if self.task == "none":
            raise ValueError(f"labels is not supported by {type(self).__name__}")
        array = as_array(labels, "labels")
        if self.task == "sequence":
            return self._sequence_labels(array, batch.shape[0]), None
        if array.dtype.kind not in "iu" and array.size:
            raise TypeError(f"labels must hold integers, not {array.dtype}")
        if packed and array.ndim == 1:
            flat = array
            if len(flat) != len(batch.ids):
                raise ValueError(f"labels has {len(flat)} entries, the packed input {len(batch.ids)} tokens")
        else:
            if array.shape != batch.shape and array.size:
                raise ValueError(f"labels has shape {list(array.shape)}, the input {list(batch.shape)}")
            flat = batch.gather(array.reshape(batch.shape))
            if batch.places is not None:
                hidden_places = np.ones(array.size, bool)
                hidden_places[batch.places] = False
                stray = np.flatnonzero(hidden_places & (array.reshape(-1) != -100))
                if len(stray):
                    b, s = divmod(int(stray[0]), batch.shape[1])
                    raise ValueError(
                        f"labels[{b}, {s}] is {array[b, s]} where attention_mask is 0: label masked places -100 (ignored)"
                    )
        flat = np.ascontiguousarray(flat, np.int64)
        if self.task == "token":
            return {"labels": flat, "loss": "single_label"}, None
        flat = self._targets(flat, batch)
        return {"labels": flat, "loss": "single_label"}, np.flatnonzero(flat != -100).astype(np.int32)

    def _targets(self, labels: NDArray[np.int64], batch: Batch) -> NDArray[np.int64]:
        """What each token's logits should say, [T]: of a causal model the label after it."""
        return batch.following(labels) if self.task == "lm" else labels

    def _sequence_labels(self, array: NDArray[Any], count: int) -> dict[str, Any]:
        config, classes = self.config, self.config.num_labels
        if config.problem_type is None:  # decided by the first labels and kept, as transformers does
            if classes == 1:
                config.problem_type = "regression"
            else:
                single = array.dtype.kind in "iu"
                config.problem_type = "single_label_classification" if single else "multi_label_classification"
        kind = config.problem_type
        if kind == "single_label_classification":
            if array.dtype.kind not in "iu" and array.size:
                raise TypeError(f"labels must hold integers for {kind}, not {array.dtype}")
            if array.size != count or array.ndim > 2:
                raise ValueError(f"labels has shape {list(array.shape)}, the batch needs [{count}]")
            return {"labels": np.ascontiguousarray(array.reshape(-1), np.int64), "loss": "single_label"}
        if array.dtype.kind not in "biuf":
            raise TypeError(f"labels must hold numbers for {kind}, not {array.dtype}")
        if array.shape != (count, classes) and not (classes == 1 and array.shape == (count,)):
            raise ValueError(f"labels has shape {list(array.shape)}, {kind} needs [{count}, {classes}]")
        return {"labels": np.ascontiguousarray(array.reshape(count, classes), np.float32), "loss": _LOSSES[kind]}

    def _class_weights(self, value: Any, arguments: Mapping[str, Any]) -> F32:
        if self.task not in ("sequence", "token") or arguments.get("loss", "single_label") != "single_label":
            raise ValueError("class_weights goes with single-label and token classification only")
        weights = as_array(value, "class_weights")
        if weights.shape != (self.config.num_labels,):
            raise ValueError(f"class_weights has shape {list(weights.shape)}, the model has {self.config.num_labels} labels")
        return np.ascontiguousarray(weights, np.float32)

    def backward(self, gradient: Any) -> None:
        """The short form of `outputs.backward(logits=gradient)` for this thread's last forward (a model without a head:
        `last_hidden_state=gradient`). Errors as there; RuntimeError when nothing was run.
        """
        output = getattr(self._last, "output", None)
        if output is None:
            raise RuntimeError("no forward to go back through: run the model first (in this thread)")
        output.backward(**{"last_hidden_state" if self.task == "none" else "logits": gradient})

    def _after_backward(self, call: Call) -> None:
        """A place for families whose parts share a parameter."""

    # ---- embeddings of sentences -------------------------------------------------------------------------------------------

    def encode(
        self,
        texts: Any,
        tokenizer: Any = None,
        pooling: str | None = None,
        normalize: bool | None = None,
        max_tokens: int = 8192,
        max_length: int | None = None,
    ) -> F32:
        """Embeddings [N, H] of texts (or of packed input), batched by length, in eval mode and without gradients.

        pooling: "mean" (over the tokens) or "cls" (the first token's last hidden state). normalize: to length 1. Both default
        to config.sentence, where training noted how it embeds ({"pooling": …, "normalize": …}), else to "mean" and False.
        tokenizer: default AutoTokenizer of the model's folder. max_tokens: tokens a batch.
        """
        if self.task != "none":
            raise ValueError(f"encode is for models without a head, not for {type(self).__name__}")
        sentence = self.config.__dict__.get("sentence") or {}
        pooling = sentence.get("pooling", "mean") if pooling is None else pooling
        normalize = bool(sentence.get("normalize", False)) if normalize is None else normalize
        if pooling not in ("mean", "cls"):
            raise ValueError(f'pooling must be "mean" or "cls", not {pooling!r}')
        packed = texts
        if not hasattr(texts, "row_splits"):
            tokenizer = self._tokenizer() if tokenizer is None else tokenizer
            limit = max_length or (self._rules.max_positions or 0) - (
                0 if self._rules.padding_id is None else self._rules.padding_id + 1
            )
            options = {"truncation": True, "max_length": limit} if limit > 0 else {}
            packed = tokenizer.encode_packed([texts] if isinstance(texts, str) else list(texts), **options)
        return encode_batch(self, Batch.packed(self._rules, packed), pooling, normalize, max_tokens)

    def _tokenizer(self) -> Any:
        """That of the model's folder, read once: it takes longer than the embedding of a sentence."""
        from .tokenizers import AutoTokenizer

        folder = self.config.name_or_path
        if self._read_tokenizer is None or self._read_tokenizer[0] != folder:
            self._read_tokenizer = folder, AutoTokenizer.from_pretrained(folder)
        return self._read_tokenizer[1]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.config.model_type}, {self.num_parameters():,} parameters)"


def _opened(path: Path, config: PretrainedConfig, whole: bool) -> Any:
    """The weights at `path`, as the config says that they are held."""
    if is_gguf(path):
        from .gguf.checkpoint import GGUFCheckpoint

        return GGUFCheckpoint(path, whole)
    settings = quantisation_of(config)
    return Checkpoint(path) if settings is None else open_quantised(path, settings)


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(names[:_NAMED])
    return text if len(names) <= _NAMED else f"{text} and {len(names) - _NAMED} more"


def _refuse_unknown(model: str, arguments: Mapping[str, Any]) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(f"{name} is not supported by {model}")


def _define(name: str, config: type[PretrainedConfig], task: str, pooler: bool, text: str) -> Any:
    members = {"config_class": config, "task": task, "default_pooler": pooler, "__doc__": text, "__module__": __name__}
    return type(name, (PreTrainedModel,), members)


_SEQUENCE = (
    "A sentence classifier (single label, multi-label or regression, by config.problem_type) on {}; outputs: loss, logits."
)
_TOKEN = "A token classifier on {}; outputs: loss, logits [B, S, num_labels]."
_MLM = "A masked language model on {}. With labels only the labelled places are computed; logits [B, S, V] when they are read."
_LM = "A causal language model on {}. With labels only the labelled places are computed; logits [B, S, V] when they are read."
_BASE = "{} without a head; outputs: last_hidden_state [B, S, H]{}."
_POOLED = " and pooler_output [B, H]"

BertModel = _define("BertModel", BertConfig, "none", True, _BASE.format("BERT", _POOLED))
BertForSequenceClassification = _define("BertForSequenceClassification", BertConfig, "sequence", True, _SEQUENCE.format("BERT"))
BertForTokenClassification = _define("BertForTokenClassification", BertConfig, "token", False, _TOKEN.format("BERT"))
BertForMaskedLM = _define("BertForMaskedLM", BertConfig, "mlm", False, _MLM.format("BERT"))
RobertaModel = _define("RobertaModel", RobertaConfig, "none", True, _BASE.format("RoBERTa", _POOLED))
RobertaForSequenceClassification = _define(
    "RobertaForSequenceClassification", RobertaConfig, "sequence", True, _SEQUENCE.format("RoBERTa")
)
RobertaForTokenClassification = _define(
    "RobertaForTokenClassification", RobertaConfig, "token", False, _TOKEN.format("RoBERTa")
)
RobertaForMaskedLM = _define("RobertaForMaskedLM", RobertaConfig, "mlm", False, _MLM.format("RoBERTa"))
AlbertModel = _define("AlbertModel", AlbertConfig, "none", True, _BASE.format("ALBERT", _POOLED))
AlbertForSequenceClassification = _define(
    "AlbertForSequenceClassification", AlbertConfig, "sequence", True, _SEQUENCE.format("ALBERT")
)
AlbertForTokenClassification = _define("AlbertForTokenClassification", AlbertConfig, "token", False, _TOKEN.format("ALBERT"))
AlbertForMaskedLM = _define("AlbertForMaskedLM", AlbertConfig, "mlm", False, _MLM.format("ALBERT"))
GPT2Model = _define("GPT2Model", GPT2Config, "none", False, _BASE.format("GPT-2", ""))
LlamaModel = _define("LlamaModel", LlamaConfig, "none", False, _BASE.format("Llama", ""))
Qwen2Model = _define("Qwen2Model", Qwen2Config, "none", False, _BASE.format("Qwen2", ""))
Qwen3Model = _define("Qwen3Model", Qwen3Config, "none", False, _BASE.format("Qwen3", ""))
GPT2LMHeadModel = _define("GPT2LMHeadModel", GPT2Config, "lm", False, _LM.format("GPT-2"))
LlamaForCausalLM = _define("LlamaForCausalLM", LlamaConfig, "lm", False, _LM.format("Llama"))
Qwen2ForCausalLM = _define("Qwen2ForCausalLM", Qwen2Config, "lm", False, _LM.format("Qwen2"))
Qwen3ForCausalLM = _define("Qwen3ForCausalLM", Qwen3Config, "lm", False, _LM.format("Qwen3"))


class _Auto:
    """Picks the model class by the config's model_type."""

    _classes: ClassVar[dict[str, str]] = {}

    @classmethod
    def _class_for(cls, config: PretrainedConfig) -> Any:
        name = cls._classes.get(config.model_type)
        if name is None:
            raise ValueError(
                f"{cls.__name__} has no class for {config.model_type!r}; it knows {', '.join(sorted(cls._classes))}"
            )
        return globals().get(name) or __getattr__(name)

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """As PreTrainedModel.from_pretrained, of the class that config.json asks for."""
        config = kwargs.get("config") or AutoConfig.from_pretrained(base_of(path) or path)
        return cls._class_for(config).from_pretrained(path, **kwargs)

    @classmethod
    def from_config(cls, config: PretrainedConfig, **kwargs: Any) -> Any:
        """A randomly initialised model."""
        return cls._class_for(config)(config, **kwargs)


class AutoModel(_Auto):
    """The model without a head."""

    _classes: ClassVar[dict[str, str]] = {
        "bert": "BertModel", "roberta": "RobertaModel", "albert": "AlbertModel", "gpt2": "GPT2Model", "llama": "LlamaModel",
        "qwen2": "Qwen2Model", "qwen3": "Qwen3Model", "t5": "T5Model", "mt5": "MT5Model",
    }  # fmt: skip


class AutoModelForSequenceClassification(_Auto):
    """The sentence classifier."""

    _classes: ClassVar[dict[str, str]] = {
        kind: f"{stem}ForSequenceClassification"
        for kind, stem in (("bert", "Bert"), ("roberta", "Roberta"), ("albert", "Albert"))
    }


class AutoModelForTokenClassification(_Auto):
    """The token classifier."""

    _classes: ClassVar[dict[str, str]] = {
        kind: f"{stem}ForTokenClassification" for kind, stem in (("bert", "Bert"), ("roberta", "Roberta"), ("albert", "Albert"))
    }


class AutoModelForMaskedLM(_Auto):
    """The masked language model."""

    _classes: ClassVar[dict[str, str]] = {
        kind: f"{stem}ForMaskedLM" for kind, stem in (("bert", "Bert"), ("roberta", "Roberta"), ("albert", "Albert"))
    }


class AutoModelForCausalLM(_Auto):
    """The language model that says what follows."""

    _classes: ClassVar[dict[str, str]] = {
        "gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM",
    }  # fmt: skip


class AutoModelForSeq2SeqLM(_Auto):
    """The language model that answers a text with a text."""

    _classes: ClassVar[dict[str, str]] = {"t5": "T5ForConditionalGeneration", "mt5": "MT5ForConditionalGeneration"}


def __getattr__(name: str) -> Any:
    """T5's classes stand in a module of their own."""
    if name.removeprefix("M") in ("T5Model", "T5EncoderModel", "T5ForConditionalGeneration"):
        from . import t5

        return getattr(t5, name)
    raise AttributeError(f"govlm.models has no {name!r}")
