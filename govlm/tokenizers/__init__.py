"""Tokenizers: transformers' names and results over the native core."""

from govlm.tokenizers.auto import AutoTokenizer
from govlm.tokenizers.base import PreTrainedTokenizer
from govlm.tokenizers.bert import BertTokenizer, train_wordpiece
from govlm.tokenizers.encoding import AddedToken, BatchEncoding, Packed, PackedPairs
from govlm.tokenizers.unigram import T5Tokenizer, UnigramTokenizer

__all__ = [
    "AddedToken",
    "AutoTokenizer",
    "BatchEncoding",
    "BertTokenizer",
    "Packed",
    "PackedPairs",
    "PreTrainedTokenizer",
    "T5Tokenizer",
    "UnigramTokenizer",
    "train_wordpiece",
]
