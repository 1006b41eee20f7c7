"""Data sets, the loader and the file readers; the loader against torch's when torch is installed."""

import gzip
import json
import lzma
from collections import namedtuple

import numpy as np
import pytest

from govlm.data import (
    ConcatDataset,
    DataError,
    DataLoader,
    Dataset,
    Subset,
    default_collate,
    permutation,
    read_examples,
    read_rows,
)


class Numbers(Dataset):
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"x": np.full(2, index, np.float32), "labels": np.int64(index), "text": f"第{index}条"}


def order(loader):
    return [int(i) for batch in loader for i in batch["labels"]]


def test_batches_in_order_with_a_short_last_one():
    batches = list(DataLoader(Numbers(5), batch_size=2))
    assert [b["labels"].tolist() for b in batches] == [[0, 1], [2, 3], [4]]
    assert batches[0]["x"].shape == (2, 2) and batches[0]["x"].dtype == np.float32
    assert batches[0]["labels"].dtype == np.int64 and batches[2]["text"] == ["第4条"]
    assert len(DataLoader(Numbers(5), batch_size=2)) == 3


def test_drop_last():
    loader = DataLoader(Numbers(5), batch_size=2, drop_last=True)
    assert order(loader) == [0, 1, 2, 3] and len(loader) == 2


def test_shuffle_is_a_function_of_seed_and_epoch():
    a, b = (DataLoader(Numbers(50), batch_size=7, shuffle=True, seed=3) for _ in range(2))
    first, second = order(a), order(a)
    assert sorted(first) == list(range(50)) == sorted(second)
    assert first != second and [order(b), order(b)] == [first, second]
    a.set_epoch(0)
    assert order(a) == first
    assert order(DataLoader(Numbers(50), batch_size=7, shuffle=True, seed=4)) != first
    assert first == permutation(50, 3, 0).tolist()


def test_generator_and_sampler():
    one = order(DataLoader(Numbers(20), shuffle=True, generator=np.random.default_rng(1)))
    two = order(DataLoader(Numbers(20), shuffle=True, generator=np.random.default_rng(1)))
    assert one == two
    assert order(DataLoader(Numbers(20), batch_size=2, sampler=[3, 1, 2])) == [3, 1, 2]
    assert order(DataLoader(Numbers(20), batch_sampler=[[5, 6], [7]])) == [5, 6, 7]
    assert [s["labels"] for s in DataLoader(Numbers(2), batch_size=None)] == [0, 1]


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 0},
        {"batch_size": 2.0},
        {"num_workers": 2},
        {"shuffle": True, "sampler": [0]},
        {"batch_sampler": [[0]], "batch_size": 3},
        {"batch_size": None, "drop_last": True},
    ],
)
def test_arguments_that_do_not_go_together(arguments):
    with pytest.raises(ValueError, match=r"batch_size|num_workers|sampler"):
        DataLoader(Numbers(3), **arguments)


def test_empty_data_set():
    assert list(DataLoader(Numbers(0), batch_size=4)) == []
    assert list(DataLoader(Numbers(0), batch_size=4, shuffle=True)) == []


def test_subset_and_concatenation():
    both = Subset(Numbers(9), [8, 0]) + Numbers(2)
    assert isinstance(both, ConcatDataset) and len(both) == 4
    assert [int(both[i]["labels"]) for i in range(4)] == [8, 0, 0, 1] and int(both[-1]["labels"]) == 1
    with pytest.raises(IndexError):
        both[4]


Pair = namedtuple("Pair", "a b")
SAMPLES = [
    [1, 2, 3],
    [1.5, 2.5],
    [True, False],
    [np.float32(1), np.float32(2)],
    [np.arange(3), np.arange(3)],
    ["a", "文"],
    [(1, "x"), (2, "y")],
    [[1, 2.0], [3, 4.0]],
    [{"a": 1, "b": (np.ones(2), "s")}, {"a": 2, "b": (np.zeros(2), "t")}],
    [Pair(1, "x"), Pair(2, "y")],
]


def plain(value):
    if hasattr(value, "numpy"):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return ("array", str(value.dtype), value.tolist())
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return (type(value).__name__, *map(plain, value))
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


@pytest.mark.parametrize("samples", SAMPLES, ids=range(len(SAMPLES)))
def test_collate_as_torch_does(samples):
    torch_data = pytest.importorskip("torch.utils.data", reason="torch is not installed")
    assert plain(default_collate(samples)) == plain(torch_data.default_collate(samples))


def test_collate_names_what_does_not_fit():
    with pytest.raises(ValueError, match="different shapes"):
        default_collate([np.ones(2), np.ones(3)])
    with pytest.raises(ValueError, match="different keys"):
        default_collate([{"a": 1}, {"b": 1}])
    with pytest.raises(ValueError, match="different lengths"):
        default_collate([[1, 2], [1]])
    with pytest.raises(TypeError, match="object"):
        default_collate([object()])


ROWS = [("社保,怎么查", "社保"), ('他说"要办"', "户籍"), ("", "其他")]


def write(path, text):
    data = text if isinstance(text, bytes) else text.encode()
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with opener(path, "wb") as handle:
        handle.write(data)
    return path


JSONL = "".join(json.dumps({"id": i, "t": t, "l": c}, ensure_ascii=False) + "\n" for i, (t, c) in enumerate(ROWS))
CSV = 't,l\n"社保,怎么查",社保\n"他说""要办""",户籍\n"",其他\n'
TSV = 't\tl\n社保,怎么查\t社保\n他说"要办"\t户籍\n\t其他\n'


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz", "a.jsonl.xz", "a.csv", "a.csv.gz", "a.tsv", "a.tsv.xz"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_formats(tmp_path, name, mark, end):
    text = {"jsonl": JSONL, "json": JSONL, "csv": CSV, "tsv": TSV}[name.split(".")[1]]
    path = write(tmp_path / name, mark + text.replace("\n", end))
    assert [tuple(e) for e in read_examples(path, "t", "l")] == ROWS


def test_columns_by_number_need_no_header(tmp_path):
    path = write(tmp_path / "a.tsv", "app\t打开相机\nmap\t去西站\n")
    assert [tuple(e) for e in read_examples(path, "1", "0")] == [("打开相机", "app"), ("去西站", "map")]
    path = write(tmp_path / "b.tsv", "0\t1\nx\ty\n")
    assert [tuple(e) for e in read_examples(path, "1", "0")] == [("y", "x")]


def test_other_name_with_a_format(tmp_path):
    path = write(tmp_path / "titles.txt", "t\tl\na\tb\n")
    assert [tuple(e) for e in read_examples(path, "t", "l", "tsv")] == [("a", "b")]
    with pytest.raises(DataError, match=r"titles\.txt: cannot tell the format"):
        list(read_examples(path, "t", "l"))


def test_labels(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text":"a","label":3}\n{"text":"b","label":["x","y"]}\n{"text":"c","label":[]}\n')
    assert [e.label for e in read_examples(path)] == ["3", ["x", "y"], []]
    assert [e.label for e in read_examples(path, label_field=None)] == [None] * 3


def test_csv_field_over_several_lines(tmp_path):
    path = write(tmp_path / "a.csv", 'text,label\n"第一行\n第二行",x\nb\n')
    with pytest.raises(DataError, match=r"a\.csv:4: field 'label' is missing"):
        list(read_examples(path))
    assert next(read_examples(path)).text == "第一行\n第二行"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"text":"a","label":"b"}\n{"text":"a"}\n', r"a\.jsonl:2: field 'label' is missing \(the line has: text\)"),
        ("a.jsonl", '{"text":"a","label":null}\n', r"a\.jsonl:1: field 'label' is null"),
        ("a.jsonl", '{"text":5,"label":"b"}\n', r"a\.jsonl:1: field 'text' must be a string, not int"),
        ("a.jsonl", '{"text":"a","label":1.5}\n', r"a\.jsonl:1: field 'label' must be a label .* not float"),
        ("a.jsonl", '{"text":"a","label":""}\n', r"a\.jsonl:1: field 'label' must be a label .* not an empty string"),
        ("a.jsonl", '{"text":"a","label":"b"}\n{"text":\n', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", "[\n]\n", r"a\.jsonl:1: a JSON array over several lines"),
        ("a.jsonl", "3\n", r"a\.jsonl:1: a JSON object is expected, not int"),
        ("a.jsonl", b'{"text":"a","label":"b"}\n\n{"text":"\xff"}\n', r"a\.jsonl:3: byte 10 of the line \(0xff\) is not UTF-8"),
        ("a.csv", "text,other\na,b\n", r"a\.csv:2: field 'label' is missing \(the line has: text, other\)"),
        ("a.csv", "text,text\na,b\n", r"a\.csv:1: the header names the column 'text' twice"),
        ("a.csv", "text,label\na,b,c\n", r"a\.csv:2: 3 columns, the header has 2"),
        ("a.csv", 'text,label\n"a"b,c\n', r"a\.csv:2: not CSV"),
        ("a.tsv", "text\tlabel\na\n", r"a\.tsv:2: field 'label' is missing"),
        ("a.jsonl.gz", None, r"a\.jsonl\.gz: the compressed file is damaged after line 0"),
    ],
)
def test_one_line_that_names_file_line_and_field(tmp_path, name, text, message):
    path = tmp_path / name
    if text is None:
        path.write_bytes(b"no gzip")
    else:
        write(path, text)
    with pytest.raises(DataError, match=message) as caught:
        list(read_examples(path))
    assert "\n" not in str(caught.value)


def test_a_cut_off_compressed_file_is_damaged(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(JSONL.encode() * 50)[:-12])
    with pytest.raises(DataError, match="damaged"):
        list(read_rows(path))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(read_rows(tmp_path / "no.jsonl"))


def test_large_csv_field(tmp_path):
    path = write(tmp_path / "a.csv", f"text,label\n{'长' * 200_000},x\n")
    assert len(next(read_examples(path)).text) == 200_000
