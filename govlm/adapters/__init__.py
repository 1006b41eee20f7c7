"""Low-rank adapters (LoRA, Hu et al., arXiv:2106.09685) on a frozen model, with PEFT's names and files.

model.add_adapter(LoraConfig(r=8, target_modules=["q_proj", "v_proj"]), "fees")
AdamW(model.parameters(), lr=2e-4)                    # steps the adapter alone
model.save_pretrained(folder)                         # adapter_config.json, adapter_model.safetensors
model.load_adapter(folder, "fees")
model(ids, adapter_names=["fees", "__base__"])        # one a sequence
"""

from .config import LoraConfig
from .mixin import BASE, AdapterMixin

__all__ = ["BASE", "AdapterMixin", "LoraConfig"]
