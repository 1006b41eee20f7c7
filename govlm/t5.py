"""T5: two stacks of the same block, an encoder and a decoder that looks at it, over one table of word embeddings.

The table lies in the encoder; the decoder's copy is brought up to date before a forward, its gradient added after a backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from . import families
from ._native import core as native
from .configuration import MT5Config, T5Config
from .models import PreTrainedModel, _refuse_unknown
from .outputs import Call, ModelOutput, Want, grad_enabled, versions_of
from .packing import Batch, Rules, as_array
from .parameters import Parameter

__all__ = [
    "MT5EncoderModel",
    "MT5ForConditionalGeneration",
    "MT5Model",
    "T5EncoderModel",
    "T5ForConditionalGeneration",
    "T5Model",
    "T5ModelOutput",
]

_WORD = "embeddings.word.weight"


class T5EncoderModel(PreTrainedModel):
    """T5's encoder; outputs: last_hidden_state [B, S, H]."""

    config_class = T5Config
    stacks: ClassVar[tuple[str, ...]] = ("encoder",)

    def _make_cores(self) -> None:
        for stack in self.stacks:
            self._cores[stack] = native.Model(families.t5_core(self.config, stack, self.task))
            for name, core_name in families.t5_map(self.config, stack, self.task).items():
                self._names.setdefault(name, (stack, core_name))
        self._rules = Rules(None, None, False, False, "t5")

    def _core_of(self, part: str) -> Any:
        return self._cores[part or "encoder"]

    @property
    def _prefix(self) -> str:
        return ""

    def _load_prefix(self) -> str:
        return "transformer"

    @property
    def _has_padding_row(self) -> bool:
        return False

    def _tied(self) -> dict[str, str]:
        return families.T5_TIED

    def _ignored(self) -> tuple[str, ...]:
        return (r"EncDecAttention\.relative_attention_bias",) if "decoder" in self.stacks else (r"^decoder\.",)

    def _deviation(self, name: str, shape: tuple[int, ...]) -> float:
        config = self.config
        factor, width, inner = float(config.initializer_factor), config.d_model, config.num_heads * config.d_kv
        deviations = {
            "shared": 1.0, "q": (width * config.d_kv) ** -0.5, "k": width**-0.5, "v": width**-0.5, "o": inner**-0.5,
            "lm_head": 1.0, "relative_attention_bias": width**-0.5, "wo": config.d_ff**-0.5,
        }  # fmt: skip
        return factor * deviations.get(name.split(".")[-2], width**-0.5)

    @property
    def _family(self) -> families.Family:
        raise AttributeError("T5 has two stacks")


class T5ModelOutput(ModelOutput):
    """last_hidden_state (with a head: loss and logits), decoder_hidden_states, decoder_attentions, cross_attentions, encoder_last_hidden_state,
    encoder_hidden_states, encoder_attentions (those that were asked for)."""

    def __init__(
        self, model: Any, call: Call, fields: tuple[str, ...], first: Want, labelled: Any, encoder: ModelOutput, save: bool
    ) -> None:
        self._encoder = encoder
        super().__init__(model, call, fields, first, labelled, save)

    def _recipe(self) -> ModelOutput:
        twin = super()._recipe()
        twin.__dict__["_encoder"] = self._encoder._recipe()
        return twin

    def __getattr__(self, name: str) -> Any:
        if name.startswith("encoder_"):
            if name not in self._fields:
                return None
            return getattr(self._encoder, name.removeprefix("encoder_"))
        if name.startswith("decoder_"):
            name = name.removeprefix("decoder_")
            if f"decoder_{name}" not in self._fields:
                return None
            if name not in self._cache:
                self._cache[name] = self._read_layers() if name == "hidden_states" else self._read_attentions()
            return self._cache[name]
        if name == "cross_attentions":
            if name not in self._fields:
                return None
            if name not in self._cache:
                done = self._pass(self._attention_want())
                keys = self._encoder._call.batch
                self._cache[name] = tuple(self._spread(done.cross_attention, i, keys) for i in range(self._layers()))
            return self._cache[name]
        return super().__getattr__(name)

    def backward(  # type: ignore[override]
        self,
        *,
        loss: float | None = None,
        logits: Any = None,
        last_hidden_state: Any = None,
        hidden: Any = None,
        attention: Any = None,
        encoder_last_hidden_state: Any = None,
        encoder_hidden: Any = None,
        encoder_attention: Any = None,
    ) -> None:
        """As ModelOutput.backward; hidden and attention are the decoder's, encoder_… the encoder's. The gradient at what the
        decoder saw of the encoder goes on into the encoder.
        """
        self._check_fresh()
        layers = self._layer_gradients(hidden, last_hidden_state)
        maps = self._attention_gradients(attention)
        encoder = self._encoder
        below = encoder._layer_gradients(encoder_hidden, encoder_last_hidden_state)
        below_maps = encoder._attention_gradients(encoder_attention)
        head = self._head_gradients(loss, logits)
        if not head and not layers and not maps and not below and not below_maps:
            raise ValueError(
                "backward needs a gradient: loss, logits, last_hidden_state, hidden, attention or one of the encoder's"
            )
        jobs = self._plan(head, layers, maps) if head or layers or maps else []
        made = [(self._pass(want, save=True), arguments) for want, arguments in jobs]
        lower_taps: dict[str, Any] = {"attention": below_maps} if below_maps else {}
        lower = encoder._pass(encoder._fit_want(encoder._full(), lower_taps), save=True)
        self._spent = encoder._spent = True
        top = encoder._layers()
        for done, arguments in made:
            memory = done.backward(arguments.pop("scale", None), memory=True, **arguments)
            below[top] = below[top] + memory if top in below else memory
        lower.backward(None, hidden=below, **lower_taps)
        self._model._after_backward(self._call)


class T5Model(T5EncoderModel):
    """T5, encoder and decoder: model(input_ids, attention_mask, decoder_input_ids, decoder_attention_mask) -> T5ModelOutput."""

    stacks: ClassVar[tuple[str, ...]] = ("encoder", "decoder")

    def _bind(self, part: str, core_name: str, value: Any) -> None:
        super()._bind(part, core_name, value)
        if core_name == _WORD:
            super()._bind("decoder", core_name, value)

    def _set_requires_grad(self, parameter: Parameter, value: bool) -> None:
        super()._set_requires_grad(parameter, value)
        if parameter.core_name == _WORD:
            self._cores["decoder"].set_requires_grad(_WORD, value)

    def _loaded(self) -> None:
        self._share()

    def _share(self) -> None:
        encoder, decoder = self._cores["encoder"], self._cores["decoder"]
        if encoder.trainable or decoder.trainable:
            theirs, ours = encoder.parameter(_WORD), decoder.parameter(_WORD)
            if theirs is not ours and not np.array_equal(theirs, ours):
                if not decoder.trainable:
                    decoder.make_trainable()
                decoder.parameter(_WORD)[...] = theirs

    def _after_backward(self, call: Call) -> None:
        """Moves the decoder's gradient of the shared table into the encoder's."""
        ours = self._cores["decoder"].gradient(_WORD)
        if ours is None or not self._cores["encoder"].requires_grad(_WORD):
            return
        if not ours.any():
            return
        encoder = self._cores["encoder"]
        size = ours.size
        offset = encoder.offset(_WORD)
        # flat_gradient counts every row of the table as reached, so that rows only the decoder saw take part in the step
        encoder.flat_gradient()[offset : offset + size] += ours.reshape(-1)
        ours[...] = 0.0

    def forward(  # type: ignore[override]
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        decoder_attention_mask: Any = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        *,
        labels: Any = None,
        adapter_names: Sequence[str] | None = None,
        seed: int | None = None,
        step: int | None = None,
        samples: Any = None,
        **unknown: Any,
    ) -> Any:
        """input_ids, attention_mask: [B, S]; decoder_input_ids, decoder_attention_mask: [B, D]. labels: [B, D] integers, -100 ignored, of a
        model with a head; what the decoder is given (default) is the labels moved right. Errors as in the base."""
        _refuse_unknown(type(self).__name__, unknown)
        if labels is not None and decoder_input_ids is None and self._speaks:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        for name, value in (("input_ids", input_ids), ("decoder_input_ids", decoder_input_ids)):
            if value is None:
                raise ValueError(f"{name} is missing")
        batch = Batch.padded(self._rules, input_ids, attention_mask, None, None, "input_ids")
        target = Batch.padded(
            replace(self._rules, causal=True), decoder_input_ids, decoder_attention_mask, None, None, "decoder_input_ids"
        )
        if batch.shape[0] != target.shape[0]:
            raise ValueError(f"decoder_input_ids has {target.shape[0]} sequences, input_ids has {batch.shape[0]}")
        hidden = bool(self.config.output_hidden_states if output_hidden_states is None else output_hidden_states)
        attentions = bool(self.config.output_attentions if output_attentions is None else output_attentions)
        self._share()
        dropout = self._dropout(seed, step, samples)
        save = grad_enabled() and (self.training or labels is not None)
        self._last.output = None
        whole = Want("all", hidden, attentions)
        layer_fields = (*(["hidden_states"] if hidden else []), *(["attentions"] if attentions else []))
        core = self._cores["encoder"]
        routed = self._routed(adapter_names, batch.shape[0])
        below = {**dropout, **self._adapter_arguments(routed, "encoder")}
        call = Call(core, batch, below, versions_of(core, below), self._checkpointing)
        encoder = ModelOutput(self, call, ("last_hidden_state", *layer_fields), whole, None, save)
        arguments = {**dropout, **self._adapter_arguments(routed, "decoder")}
        if "seed" in arguments:
            arguments["seed"] = (arguments["seed"] + 0x9E3779B9) % 2**32  # the decoder's dropout is its own
        arguments["memory"] = encoder._pass(whole).hidden(-1)
        arguments["memory_splits"] = batch.row_splits
        labelled = None
        if labels is not None:
            found, labelled = self._labels(labels, target, False)
            arguments.update(found)
        want = self._want(hidden, attentions, labels is not None, target)
        if labelled is not None and want.rows == "labelled":
            want = self._holding(want, labelled)
        core = self._cores["decoder"]
        fields = (
            *(["loss"] if labels is not None else []),
            "logits" if self._speaks else "last_hidden_state",
            *(f"decoder_{name}" for name in layer_fields),
            *(["cross_attentions"] if attentions else []),
            "encoder_last_hidden_state",
            *(f"encoder_{name}" for name in layer_fields),
        )
        output = T5ModelOutput(
            self, Call(core, target, arguments, versions_of(core, arguments), self._checkpointing), fields, want, labelled, encoder,
            save,
        )  # fmt: skip
        self._last.output = output if save else output._recipe()
        return output if return_dict or (return_dict is None and self.config.return_dict) else output.to_tuple()

    def prepare_decoder_input_ids_from_labels(self, labels: Any) -> NDArray[np.int64]:
        """[B, D]: the labels moved right, decoder_start_token_id first, pad_token_id for -100."""
        config = self.config
        start, pad = config.__dict__.get("decoder_start_token_id"), config.__dict__.get("pad_token_id")
        if start is None or pad is None:
            raise ValueError("the config needs decoder_start_token_id and pad_token_id to make the decoder's input from labels")
        array = as_array(labels, "labels")
        if array.ndim != 2:
            raise ValueError(f"labels has shape {list(array.shape)}, the decoder needs [B, D]")
        moved = np.full(array.shape, start, np.int64)
        moved[:, 1:] = np.where(array == -100, pad, array)[:, :-1]
        return moved


class T5ForConditionalGeneration(T5Model):
    """T5 with its head over the vocabulary, tied to the embeddings; outputs: loss (the mean over labels), logits [B, D, V] and what
    T5Model gives of both stacks. With labels only the labelled places are computed."""

    task = "lm"

    def _targets(self, labels: NDArray[np.int64], batch: Batch) -> NDArray[np.int64]:
        return labels  # the decoder is given them moved right


class MT5EncoderModel(T5EncoderModel):
    """mT5's encoder."""

    config_class = MT5Config


class MT5Model(T5Model):
    """mT5, encoder and decoder."""

    config_class = MT5Config


class MT5ForConditionalGeneration(T5ForConditionalGeneration):
    """mT5 with its head over the vocabulary, which has a matrix of its own where the checkpoint has."""

    config_class = MT5Config
