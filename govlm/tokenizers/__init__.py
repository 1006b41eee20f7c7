"""Tokenizers: transformers' names and results over the native core."""

from govlm.tokenizers.auto import AutoTokenizer
from govlm.tokenizers.base import PreTrainedTokenizer
from govlm.tokenizers.bert import BertTokenizer, train_wordpiece
from govlm.tokenizers.bpe import GPT2Tokenizer, LlamaTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer
from govlm.tokenizers.encoding import AddedToken, BatchEncoding, Packed, PackedPairs
from govlm.tokenizers.stream import DecodeStream, TextStreamer
from govlm.tokenizers.train import train_bpe
from govlm.tokenizers.unigram import T5Tokenizer, UnigramTokenizer
from govlm.tokenizers.unigram_training import train_unigram

__all__ = [
    "AddedToken",
    "AutoTokenizer",
    "BatchEncoding",
    "BertTokenizer",
    "DecodeStream",
    "GPT2Tokenizer",
    "LlamaTokenizer",
    "Packed",
    "PackedPairs",
    "PreTrainedTokenizer",
    "PreTrainedTokenizerFast",
    "Qwen2Tokenizer",
    "T5Tokenizer",
    "TextStreamer",
    "UnigramTokenizer",
    "train_bpe",
    "train_unigram",
    "train_wordpiece",
]
