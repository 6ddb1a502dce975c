"""Writes tests/fixtures/tables: Parquet and Arrow files, and data sets that `datasets` saved.

Beside every table is the same content as JSONL, where the integers of a ClassLabel are names and -1 is null: what the test reads of
both must be equal.
"""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Sequence, Value

from common import FIXTURES, fresh

OUT = FIXTURES / "tables"
CLASSES = ["negative", "neutral", "positive"]
TAGS = ["O", "B-PER", "I-PER", "B-LOC"]


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def stream(path, table, rows=None):
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)


def file(path, table, rows=None, compression=None):
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)


def types():
    """Every type that is read, and some that are not (`when`, `bytes`)."""
    rows = [
        dict(text="plain", pair="Élan é 日本", label="a", small=-1, big=2**63, value=0.1, half=0.5, yes=True, none=None,
             labels=["a", "c"], words=["x", "y"], fixed=[1, 2], answers=dict(text=["la"], answer_start=[1])),
        dict(text='"quoted"\n\ttab', pair="two", label="b", small=127, big=0, value=-2.5, half=3.0, yes=False, none=None,
             labels=[], words=["\u00a0z"], fixed=[-3, 4], answers=dict(text=[], answer_start=[])),
        dict(text="three", pair=None, label=None, small=None, big=None, value=None, half=None, yes=None, none=None,
             labels=None, words=None, fixed=None, answers=None),
        dict(text="four", pair="4", label="a", small=0, big=7, value=12345.75, half=-0.25, yes=True, none=None,
             labels=["b", "b", "c"], words=["q", "r", "s"], fixed=[0, 0], answers=dict(text=["a", "b"], answer_start=[0, 3])),
    ]  # fmt: skip
    jsonl(OUT / "types.jsonl", rows)
    answers = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])
    plain = dict(text=pa.string(), pair=pa.string(), label=pa.string(), small=pa.int8(), big=pa.uint64(), value=pa.float64(),
                 half=pa.float16(), yes=pa.bool_(), none=pa.null(), labels=pa.list_(pa.string()), words=pa.list_(pa.string()),
                 fixed=pa.list_(pa.int16(), 2), answers=answers)  # fmt: skip
    other = plain | dict(text=pa.large_string(), pair=pa.string_view(), label=pa.dictionary(pa.int8(), pa.string()),
                         small=pa.int64(), half=pa.float32(), labels=pa.large_list(pa.large_string()),
                         words=pa.list_(pa.dictionary(pa.int32(), pa.string())), fixed=pa.list_view(pa.int64()))  # fmt: skip
    for name, schema in [("plain", plain), ("other", other)]:
        columns = {key: pa.array([row[key] for row in rows], type) for key, type in schema.items()}
        when = pa.array([0] * len(rows), pa.timestamp("ms"))
        table = pa.table(columns | dict(when=when, bytes=pa.array([b"\xff"] * len(rows))))
        stream(OUT / f"{name}.stream.arrow", table, rows=3)
        file(OUT / f"{name}.file.arrow", table, rows=3)
        if name == "plain":
            pq.write_table(table, OUT / f"{name}.parquet", row_group_size=3)
        else:
            unlike = table.drop(["fixed"])  # there are no such lists in Parquet
            pq.write_table(unlike, OUT / f"{name}.parquet", use_dictionary=False, data_page_version="2.0")
    infinite = pa.table(dict(text=["a", "b"], label=[1.0, float("nan")]))
    pq.write_table(infinite, OUT / "infinite.parquet")
    empty = pa.table(dict(text=pa.array([], pa.string()), label=pa.array([], pa.string())))
    pq.write_table(empty, OUT / "empty.parquet")
    stream(OUT / "empty.arrow", empty)
    file(OUT / "packed-lz4.arrow", table, compression="lz4")
    file(OUT / "packed-zstd.arrow", table, compression="zstd")


def codecs():
    folder = fresh(OUT / "codecs")
    rows = [dict(text=f"row {i} " + "very " * (i % 7) + "long", label="ab"[i % 2]) for i in range(60)]
    jsonl(folder / "rows.jsonl", rows)
    for codec in ["none", "snappy", "gzip", "lz4", "zstd", "brotli"]:
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{codec}.parquet", compression=codec, data_page_size=256)


def named(rows, **names):
    """The same with names in the place of numbers of classes."""

    def one(value, names):
        if isinstance(value, list):
            return [one(each, names) for each in value]
        return None if value == -1 else names[value]

    return [row | {key: one(row[key], names[key]) for key in names} for row in rows]


def saved():
    """A dict of data sets with classes, of which train has two files, and one data set by itself with tags."""
    features = Features(text=Value("string"), label=ClassLabel(names=CLASSES))
    splits = {
        "train": [dict(text=f"train {i}", label=[0, 2, 2, 0, 0][i]) for i in range(5)],
        "validation": [dict(text="held out", label=2), dict(text="and another", label=0), dict(text="none", label=-1)],
        "test": [dict(text="not to be guessed", label=-1)],
    }
    folder = fresh(OUT / "saved")
    data = {name: Dataset.from_list(rows, features=features) for name, rows in splits.items()}
    DatasetDict(data).save_to_disk(str(folder / "dict"), num_shards=dict(train=2, validation=1, test=1))
    for name, rows in splits.items():
        jsonl(folder / f"{name}.jsonl", named(rows, label=CLASSES))
    words = [
        dict(tokens=["Ada", "Lovelace", "wrote"], ner_tags=[1, 2, 0]),
        dict(tokens=["in", "London"], ner_tags=[0, 3]),
        dict(tokens=["so", "what"], ner_tags=[0, -1]),
    ]
    features = Features(tokens=List(Value("string")), ner_tags=List(ClassLabel(names=TAGS)))
    Dataset.from_list(words, features=features).save_to_disk(str(folder / "tags"))
    Dataset.from_list(words, features=features).to_parquet(folder / "tags.parquet")
    jsonl(folder / "tags.jsonl", named(words, ner_tags=TAGS))
    sets = [dict(text="a", label=[0, 2]), dict(text="b", label=[]), dict(text="c", label=[1])]
    features = Features(text=Value("string"), label=Sequence(ClassLabel(names=CLASSES)))
    Dataset.from_list(sets, features=features).to_parquet(folder / "sets.parquet")
    jsonl(folder / "sets.jsonl", named(sets, label=CLASSES))
    wrong = pa.table(dict(text=["a", "b"], label=pa.array([1, 3], pa.int64())), Features(
        text=Value("string"), label=ClassLabel(names=CLASSES)).arrow_schema)  # fmt: skip
    pq.write_table(wrong, folder / "beyond.parquet")


def questions():
    folder = fresh(OUT / "questions")
    context = "Björk was born in Reykjavík, and sings."
    rows = [
        dict(id="a", question="Where was she born?", context=context, answers=dict(text=["Reykjavík"], answer_start=[18])),
        dict(id="b", question="Who?", context=context, answers=dict(text=["Björk", "Björk was"], answer_start=[0, 0])),
        dict(id="c", question="When?", context=context, answers=dict(text=[], answer_start=[])),
    ]
    jsonl(folder / "squad.jsonl", rows)
    features = Features(id=Value("string"), question=Value("string"), context=Value("string"),
                        answers=dict(text=List(Value("string")), answer_start=List(Value("int32"))))  # fmt: skip
    data = Dataset.from_list(rows, features=features)
    data.to_parquet(folder / "squad.parquet")
    data.save_to_disk(str(folder / "squad"))
    choices = [
        dict(question="Which?", choices=dict(text=["x", "y"], label=["A", "B"]), answerKey="B", label=1),
        dict(question="And now?", choices=dict(text=["one", "two", "three"], label=["A", "B", "C"]), answerKey="A", label=0),
    ]
    jsonl(folder / "choices.jsonl", choices)
    features = Features(question=Value("string"), answerKey=Value("string"), label=ClassLabel(names=["1st", "2nd", "3rd"]),
                        choices=dict(text=List(Value("string")), label=List(Value("string"))))  # fmt: skip
    Dataset.from_list(choices, features=features).to_parquet(folder / "choices.parquet")


def main():
    fresh(OUT)
    types()
    codecs()
    saved()
    questions()
    for path in OUT.rglob("state.json"):  # a fingerprint differs from run to run
        state = json.loads(path.read_text())
        path.write_text(json.dumps(state | dict(_fingerprint="0"), indent=2, sort_keys=True))


if __name__ == "__main__":
    main()
