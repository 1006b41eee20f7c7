"""What guessing tokens ahead from prompt and text gives (prompt_lookup_num_tokens), on requests that repeat what they were told and
on such that do not.

    python -m benchmarks.lookup MODEL [--tokens 120] [--rounds 3]

MODEL: a folder or GGUF file of an instruction model (the asks are English). Each ask is written greedily without and with guesses in
turn; the texts must be equal, token by token. Rates: new tokens after the first, by the best round. "a step": tokens written a forward.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

import govlm
from govlm.generation import Scheduler

GUIDE = (
    "The residence permit can be applied for at the service hall of the district where the person lives. The following papers are "
    "needed: the identity card, a proof of residence, and a photo taken within the last six months. The permit is issued within "
    "fifteen working days. It is valid for one year and must be renewed thirty days before it ends. There is no fee for the first "
    "permit. A fee of twenty yuan is charged for a replacement. Questions are answered by telephone 12345 from Monday to Friday "
    "between 9:00 and 17:00."
)
ASKS = {
    "a text given whole, corrected": f"Correct the spelling of the following text and give it whole:\n\n{GUIDE}",
    "a summary": f"Summarise the following text in three sentences, in its own words:\n\n{GUIDE}",
    "a question about a text": f"{GUIDE}\n\nHow long is the permit valid, and when must it be renewed?",
    "sentences of a text": f"{GUIDE}\n\nRepeat the sentences above that say which papers are needed and what it costs.",
    "a story, out of nothing": "Tell me a story about a lighthouse keeper and a storm.",
}


def steps_of(model: Any, ids: Any, **asked: Any) -> tuple[Any, float, int]:
    """(ids written, seconds, forwards) after the prompt and its first token."""
    forwards = []
    real = Scheduler._forward
    Scheduler._forward = lambda self, fed: forwards.append(time.perf_counter()) or real(self, fed)  # type: ignore[assignment,func-returns-value]
    try:
        written = model.generate(ids, **asked)
        end = time.perf_counter()
    finally:
        Scheduler._forward = real  # type: ignore[method-assign]
    return written[0, ids.shape[1] :].tolist(), end - forwards[1], len(forwards) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description="Guessed tokens beside none.")
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    model, tokenizer = govlm.AutoModelForCausalLM.from_pretrained(given.model), govlm.AutoTokenizer.from_pretrained(given.model)
    print("| asked for | tokens | tokens/s | with guesses | | a step |\n|---|---|---|---|---|---|")
    for name, text in ASKS.items():
        ids = np.array([tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True)])
        best = {0: float("inf"), 10: float("inf")}
        for _ in range(given.rounds):
            found = {}
            for most in best:
                written, seconds, forwards = steps_of(model, ids, max_new_tokens=given.tokens, prompt_lookup_num_tokens=most)
                found[most], best[most] = written, min(best[most], seconds)
            if found[0] != found[10]:
                raise SystemExit(f"{name}: the texts differ")
        count = len(written) - 1
        rates = [count / best[most] for most in best]
        print(
            f"| {name} | {count} | {rates[0]:.0f} | {rates[1]:.0f} | {rates[1] / rates[0]:.2f}x | {count / forwards:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
