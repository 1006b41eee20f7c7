"""generate() for the models that speak; what it needs is imported when it is first called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .configuration import GenerationConfig

__all__ = ["GenerationMixin"]


class GenerationMixin:
    """Adds `generate` and `generation_config` to a model with a head over the vocabulary."""

    _generation_config: GenerationConfig | None = None

    @property
    def generation_config(self) -> GenerationConfig:
        """What generate() starts from: generation_config.json of the model's folder over the special ids of its config."""
        if self._generation_config is None:
            from .generate import config_of

            self._generation_config = config_of(self)
        return self._generation_config

    @generation_config.setter
    def generation_config(self, value: GenerationConfig) -> None:
        self._generation_config = value

    def generate(
        self,
        input_ids: Any = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: Any = None,
        stopping_criteria: Any = None,
        streamer: Any = None,
        *,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        tokenizer: Any = None,
        constraint: Any = None,
        adapter_names: Any = None,
        **fields: Any,
    ) -> Any:
        """Texts that continue (or, of a sequence-to-sequence model, answer) input_ids [B, S]; transformers' arguments and results.

        Returns ids int64 [B * num_return_sequences, T], a causal model's with its prompts, padded on the right with pad_token_id;
        with return_dict_in_generate=True a GenerateOutput. attention_mask: [B, S], 0 where a prompt has no token, on either side.
        fields: GenerationConfig's (max_new_tokens=…, do_sample=…, num_beams=…, stop_strings=… with tokenizer=…).
        logits_processor: callables (ids [n, T], logits [n, V]) -> logits; stopping_criteria: callables (ids [1, T], logits [1, V])
        -> whether the text ends; streamer: put(ids), end(), for one text; constraint: what govlm.generation.constrained makes.
        adapter_names: [B], each prompt's adapter ("__base__": none; default the active one for all).
        A text is the same alone or in a batch. Errors: ValueError (an argument, named), PromptTooLong, NonFiniteLogits, IndexError
        (an id beyond the vocabulary); Ctrl-C (KeyboardInterrupt) stops within a step. All memory is given back in every case.
        """
        from .generate import generate

        return generate(
            self, input_ids, generation_config, fields, attention_mask=attention_mask, decoder_input_ids=decoder_input_ids,
            processors=logits_processor, criteria=stopping_criteria, streamer=streamer, tokenizer=tokenizer, constraint=constraint,
            adapter_names=adapter_names,
        )  # fmt: skip
