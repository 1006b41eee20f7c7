"""The border between padded arrays (Hugging Face's meaning) and the core's packed batches.

Attention-masked tokens never reach the core. Positions come from the original column, so left padding and holes keep theirs;
outputs are scattered back to [B, S, …] with zeros at masked places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Batch", "Rules", "as_array"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


def as_array(value: Any, name: str) -> NDArray[Any]:
    """`value` as a NumPy array: a list, an array, or anything with __array__, DLPack or a buffer (a torch tensor too)."""
    if isinstance(value, np.ndarray):
        return value
    try:
        array = np.asarray(value)
        if array.dtype == object and hasattr(value, "__dlpack__"):
            array = np.from_dlpack(value)
    except (ValueError, TypeError, RuntimeError) as error:
        if hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
        raise ValueError(f"{name} is no array: {error}") from None
    if array.dtype == object:
        raise ValueError(f"{name} has rows of different lengths: pad them (tokenizer(..., padding=True))")
    return array


def integers(value: Any, name: str, shape: tuple[int, int] | None) -> NDArray[Any]:
    """A 2-dimensional integer array, of `shape` if given ([1, S] is repeated). TypeError and ValueError name it."""
    array = as_array(value, name)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name} must hold integers, not {array.dtype}")
    if array.ndim != 2:
        if array.size == 0 and array.ndim == 1 and shape is None:
            return np.zeros((0, 0), np.int64)
        raise ValueError(f"{name} must have 2 dimensions [batch, length], not shape {list(array.shape)}")
    if shape is not None and array.shape != shape:
        if array.shape == (1, shape[1]):
            return np.broadcast_to(array, shape)
        raise ValueError(f"{name} has shape {list(array.shape)}, input_ids has {list(shape)}")
    return array


def mask_of(value: Any, name: str, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """The mask as booleans, or None when nothing is masked."""
    if value is None:
        return None
    array = as_array(value, name)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold integers or booleans, not {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name} has shape {list(array.shape)}, the ids have {list(shape)}")
    if (array == 1).all():
        return None
    mask = array != 0
    if array.dtype.kind != "b" and not np.array_equal(array, mask):
        raise ValueError(f"{name} must hold 0 and 1 only")
    return mask


@dataclass(frozen=True)
class Rules:
    """What a family does with positions and token types. padding_id: RoBERTa counts the other tokens from padding_id + 1."""

    max_positions: int | None
    padding_id: int | None = None
    causal: bool = False
    token_types: bool = True
    model_type: str = ""


@dataclass(frozen=True)
class Batch:
    """Packed tokens. shape: the padded [B, S]; places: flat place of every token in it (None = all places, in order).

    key_counts, rows: set in the variant of `with_first`, where a masked first column stands last in its sequence as a query.
    """

    shape: tuple[int, int]
    ids: I32
    row_splits: I64
    positions: I32 | None
    types: I32 | None
    places: I64 | None
    first_masked: bool = False
    with_first: Batch | None = None
    key_counts: I64 | None = None
    first_rows: I32 | None = None

    @classmethod
    def padded(
        cls, rules: Rules, input_ids: Any, attention_mask: Any, token_type_ids: Any, position_ids: Any, name: str
    ) -> Batch:
        ids = integers(input_ids, name, None)
        shape = (ids.shape[0], ids.shape[1])
        mask = mask_of(attention_mask, "attention_mask" if name == "input_ids" else "decoder_attention_mask", shape)
        types = None if token_type_ids is None else integers(token_type_ids, "token_type_ids", shape)
        if position_ids is not None:
            positions = integers(position_ids, "position_ids", shape)
        elif rules.padding_id is not None:
            real = ids != rules.padding_id
            positions = np.cumsum(real, axis=1) * real + rules.padding_id
        elif mask is not None:
            positions = np.broadcast_to(np.arange(shape[1]), shape)
        else:
            positions = None
        batch = cls._pack(rules, shape, ids, mask, types, positions, name)
        if rules.causal and batch.positions is not None and position_ids is not None:
            rises = np.asarray(np.diff(batch.positions) > 0)  # the core orders causal attention by position
            rises[batch.row_splits[1:-1][(batch.row_splits[1:-1] > 0) & (batch.row_splits[1:-1] < len(batch.ids))] - 1] = True
            if not rises.all():
                raise ValueError("position_ids must ascend in every sequence of a causal model")
        if mask is None or shape[1] == 0 or mask[:, 0].all():
            return batch
        # The first column is masked somewhere: the pooler looks at it all the same, as a token that sees the real ones.
        first = np.flatnonzero(~mask[:, 0] & mask.any(axis=1))
        order = np.concatenate([batch.places, first * shape[1]])  # type: ignore[list-item]
        order = order[np.argsort(order // max(shape[1], 1), kind="stable")]
        counts = np.diff(batch.row_splits)
        lengths = counts.copy()
        lengths[first] += 1
        splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        rows = splits[:-1].copy()
        rows[first] = splits[first + 1] - 1
        extra = cls(
            shape, _i32(ids.reshape(-1)[order]), splits, _take(positions, order), _take(types, order), order,
            True, None, counts, _i32(rows[lengths > 0]),
        )  # fmt: skip
        return cls(shape, batch.ids, batch.row_splits, batch.positions, batch.types, batch.places, True, extra)

    @classmethod
    def _pack(cls, rules: Rules, shape: Any, ids: Any, mask: Any, types: Any, positions: Any, name: str) -> Batch:
        count, length = shape
        if mask is None:
            places = None
            splits = np.arange(count + 1, dtype=np.int64) * length
        else:
            places = np.flatnonzero(mask)
            splits = np.concatenate([[0], np.cumsum(mask.sum(axis=1))]).astype(np.int64)
        order = slice(None) if places is None else places
        flat = ids.reshape(-1)[order]
        if flat.dtype != np.int32 and (flat >> 31).any():  # negative ids of 32 bits are the core's to refuse
            raise IndexError(f"{name} holds {flat[(flat < 0) | (flat > 2**31 - 1)][0]}, which is no token id")
        batch = cls(shape, _i32(flat), splits, _take(positions, order), _take(types, order), places)
        batch._check_positions(rules, name)
        return batch

    @classmethod
    def packed(cls, rules: Rules, packed: Any) -> Batch:
        """From an object with `ids` [T], `row_splits` [B+1] (and maybe token_type_ids [T]); outputs are padded on the right."""
        ids, splits = as_array(packed.ids, "packed.ids"), as_array(packed.row_splits, "packed.row_splits")
        for name, array in (("packed.ids", ids), ("packed.row_splits", splits)):
            if array.dtype.kind not in "iu":
                raise TypeError(f"{name} must hold integers, not {array.dtype}")
            if array.ndim != 1:
                raise ValueError(f"{name} must have 1 dimension, not shape {list(array.shape)}")
        splits = np.ascontiguousarray(splits, np.int64)
        if len(splits) < 1 or splits[0] != 0 or splits[-1] != len(ids) or (np.diff(splits) < 0).any():
            raise ValueError(f"packed.row_splits must rise from 0 to the number of ids, {len(ids)}")
        types = getattr(packed, "token_type_ids", None)
        if types is not None:
            types = as_array(types, "packed.token_type_ids")
            if types.shape != ids.shape:
                raise ValueError(f"packed.token_type_ids has shape {list(types.shape)}, packed.ids has {list(ids.shape)}")
            types = _i32(types)
        lengths = np.diff(splits)
        shape = (len(lengths), int(lengths.max(initial=0)))
        columns = np.arange(len(ids)) - np.repeat(splits[:-1], lengths)
        places = np.repeat(np.arange(shape[0]) * shape[1], lengths) + columns
        positions = None
        if rules.padding_id is not None:
            real = ids != rules.padding_id
            running = np.concatenate([[0], np.cumsum(real)])
            positions = _i32((running[1:] - np.repeat(running[splits[:-1]], lengths)) * real + rules.padding_id)
        full = len(ids) == shape[0] * shape[1]
        batch = cls(shape, _i32(ids), splits, positions, types, None if full else places)
        batch._check_positions(rules, "packed.ids")
        return batch

    def _check_positions(self, rules: Rules, name: str) -> None:
        if self.types is not None and not rules.token_types:
            raise ValueError(f"token_type_ids is not supported by {rules.model_type} models")
        limit = rules.max_positions
        if limit is None or not len(self.ids):
            return
        if self.positions is None and self.places is None:
            last = self.shape[1] - 1
        elif self.positions is None:
            last = int(np.diff(self.row_splits).max()) - 1
        else:
            last = int(self.positions.max())
            if self.positions.min() < 0:
                raise ValueError(f"position_ids holds {int(self.positions.min())}, positions start at 0")
        if last >= limit:
            offset = 0 if rules.padding_id is None else rules.padding_id + 1
            raise ValueError(
                f"{name} reaches {last - offset + 1} tokens, the model has {limit - offset} positions: "
                f"truncate (tokenizer(..., truncation=True, max_length={limit - offset}))"
            )

    def scatter(self, packed: NDArray[np.float32]) -> NDArray[np.float32]:
        """[T, …] -> [B, S, …], zeros at masked places. A view where nothing is masked."""
        rest = packed.shape[1:]
        if self.places is None:
            return packed.reshape(*self.shape, *rest)
        out = np.zeros((self.shape[0] * self.shape[1], *rest), np.float32)
        out[self.places] = packed
        return out.reshape(*self.shape, *rest)

    def gather(self, padded: NDArray[Any]) -> NDArray[Any]:
        """[B, S, …] -> [T, …]"""
        flat = padded.reshape(-1, *padded.shape[2:])
        return np.ascontiguousarray(flat if self.places is None else flat[self.places])

    def following(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """[T]: the label of the column after each token's, -100 where that is masked or there is none. What the first token of a
        sequence should be is asked of nobody, unlike in transformers, where a masked column on its left says it."""
        shifted = np.full_like(labels, -100)
        if len(labels) > 1:
            shifted[:-1] = labels[1:]
            if self.places is not None:
                shifted[:-1][np.diff(self.places) != 1] = -100
        ends = self.row_splits[1:]
        shifted[ends[np.diff(self.row_splits) > 0] - 1] = -100
        return shifted

    def rows_of(self, columns: NDArray[np.intp]) -> tuple[I32, NDArray[np.intp], NDArray[np.intp]]:
        """The packed rows, ascending, of the places [B, columns] that hold a token; which places do (flat), and for each of those
        which of the rows."""
        rows = np.full(self.shape[0] * self.shape[1], -1, np.int64)
        rows[slice(None) if self.places is None else self.places] = np.arange(len(self.ids))
        wanted = rows.reshape(self.shape)[:, columns].reshape(-1)
        there = np.flatnonzero(wanted >= 0)
        found, which = np.unique(wanted[there], return_inverse=True)
        return _i32(found), there, which

    def columns(self, sequence: int) -> NDArray[np.int64]:
        """The columns of a sequence's tokens."""
        begin, end = int(self.row_splits[sequence]), int(self.row_splits[sequence + 1])
        if self.places is None:
            return np.arange(end - begin)
        return self.places[begin:end] - sequence * self.shape[1]

    def first_tokens(self) -> I32:
        """The packed row of every sequence's first column; sequences without a token have none."""
        if self.first_rows is not None:
            return self.first_rows
        if self.places is None and self.shape[1]:
            return _i32(self.row_splits[:-1])
        return _i32(self.row_splits[:-1][np.diff(self.row_splits) > 0])


def _i32(array: NDArray[Any]) -> I32:
    return np.ascontiguousarray(array, np.int32)


def _take(array: NDArray[Any] | None, order: Any) -> I32 | None:
    return None if array is None else _i32(array.reshape(-1)[order])
