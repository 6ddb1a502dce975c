"""Writes the corpus: inputs for the fuzzers to begin with. Needs nothing but Python: `python3 tests/fuzz/seeds.py`.

Some are files of tests/fixtures, some are made here. Several files in one input stand apart by a line of `=====`.
"""

import base64
import gzip
import hashlib
import json
import pathlib
import shutil
import struct

HERE = pathlib.Path(__file__).parent
CORPUS = HERE / "corpus"
FIXTURES = HERE.parent / "fixtures"
BETWEEN = b"\n=====\n"


def put(target, name, *parts):
    """An input of one part or several; what is no bytes is a text or becomes JSON."""
    raw = [p if isinstance(p, bytes) else p.encode() if isinstance(p, str) else json.dumps(p).encode() for p in parts]
    (CORPUS / target).mkdir(parents=True, exist_ok=True)
    (CORPUS / target / name).write_bytes(BETWEEN.join(raw))


def fixture(path):
    return (FIXTURES / path).read_bytes()


def safetensors(tensors, note=None):
    """A file of {name: (dtype, shape, bytes)}."""
    header, data = {}, b""
    if note:
        header["__metadata__"] = note
    for name, (dtype, shape, values) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def floats(*shape):
    n = 1
    for s in shape:
        n *= s
    return ("F32", list(shape), b"".join(struct.pack("<f", (i % 7 - 3) / 8) for i in range(n)))


def bert(c, f, layers, vocabulary, positions):
    t = {}

    def linear(path, inputs, outputs):
        t[path + ".weight"], t[path + ".bias"] = floats(outputs, inputs), floats(outputs)

    def norm(path):
        t[path + ".weight"], t[path + ".bias"] = floats(c), floats(c)

    e = "embeddings."
    t[e + "word_embeddings.weight"] = floats(vocabulary, c)
    t[e + "position_embeddings.weight"] = floats(positions, c)
    t[e + "token_type_embeddings.weight"] = floats(2, c)
    norm(e + "LayerNorm")
    for i in range(layers):
        p = f"encoder.layer.{i}."
        for name in ["query", "key", "value"]:
            linear(p + "attention.self." + name, c, c)
        linear(p + "attention.output.dense", c, c)
        norm(p + "attention.output.LayerNorm")
        linear(p + "intermediate.dense", c, f)
        linear(p + "output.dense", f, c)
        norm(p + "output.LayerNorm")
    return t


def gpt2(c, layers, vocabulary, positions):
    t = {"wte.weight": floats(vocabulary, c), "wpe.weight": floats(positions, c)}

    def linear(path, inputs, outputs):
        t[path + ".weight"], t[path + ".bias"] = floats(inputs, outputs), floats(outputs)

    def norm(path):
        t[path + ".weight"], t[path + ".bias"] = floats(c), floats(c)

    for i in range(layers):
        p = f"h.{i}."
        norm(p + "ln_1")
        linear(p + "attn.c_attn", c, 3 * c)
        linear(p + "attn.c_proj", c, c)
        norm(p + "ln_2")
        linear(p + "mlp.c_fc", c, 4 * c)
        linear(p + "mlp.c_proj", 4 * c, c)
    norm("ln_f")
    return t


def models():
    b = {"model_type": "bert", "hidden_size": 2, "intermediate_size": 3, "max_position_embeddings": 2,
         "num_attention_heads": 1, "num_hidden_layers": 1, "vocab_size": 2, "hidden_act": "gelu"}
    g = {"model_type": "gpt2", "n_embd": 2, "n_head": 1, "n_layer": 1, "n_positions": 2, "vocab_size": 2,
         "activation_function": "gelu_new", "n_inner": None, "scale_attn_weights": True}
    put("model", "bert", b, safetensors(bert(2, 3, 1, 2, 2)))
    put("model", "gpt2", g, safetensors(gpt2(2, 1, 2, 2)))
    for path in ["bert/model", "gpt2/model", "gpt2/untied", "gpt2/inverse-layer", "files/model-bin"]:
        put("config", path.replace("/", "-"), fixture(path + "/config.json"))
    put("config", "tiny-bert", b)
    put("config", "tiny-gpt2", g)


def checkpoints():
    quantised = {
        "w": ("I8", [2, 4], bytes([1, 255, 3, 4, 127, 129, 0, 7])),
        "w.scale": ("F32", [2], struct.pack("<2f", 0.5, 0.25)),
        "v": ("U8", [2, 2], bytes([0x12, 0xF0, 0x7E, 0x88])),
        "v.scale": ("U8", [2, 1], bytes([3, 255])),
        "v.range": ("F32", [1, 2], struct.pack("<2f", 0.0, 0.125)),
    }
    put("safetensors", "quantised", safetensors(quantised))
    kinds = {"a": floats(2, 3), "b": ("BF16", [2], b"\x80\x3f\x00\x40"), "c": ("F16", [1, 2], b"\x00\x3c\x00\x40"),
             "d": ("I64", [2], struct.pack("<2q", 1, -1)), "e": ("F32", [0, 3], b""), "f": ("F32", [], b"\0\0\0\0")}
    put("safetensors", "kinds", safetensors(kinds, {"format": "pt"}))
    put("safetensors", "head", fixture("files/bert-class/model_head.safetensors"))
    for name in ["legacy", "zip", "module", "negated"]:
        put("torch", name, fixture(f"files/torch/{name}.bin"))
    one, two = safetensors({"a": floats(2)}), safetensors({"b": floats(1, 2)})
    index = {"metadata": {"total_size": 16}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    put("shards", "safetensors", index, one, two)
    header = fixture("files/torch/contiguous.safetensors")
    names = json.loads(header[8 : 8 + struct.unpack("<Q", header[:8])[0]])
    index = {"weight_map": {name: "1.bin" for name in names if name != "__metadata__"}}
    put("shards", "torch", index, fixture("files/torch/legacy.bin"))


def adapters():
    for case in ["bert-class", "no-config", "string"]:
        at = "files/" + case
        put("adapter", case, fixture(at + "/adapter_config.json"), fixture(at + "/adapter.safetensors"))
    put("adapter", "lora", fixture("lora/feed-forward/adapter_config.json"),
        fixture("lora/feed-forward/adapter.safetensors"))
    put("adapter", "torch", fixture("files/no-head/adapter_config.json"), fixture("files/no-head/pytorch_adapter.bin"))
    put("adapter", "peft", fixture("files/peft-bin/adapter_config.json"), fixture("files/peft-bin/adapter_model.bin"))
    for case in ["files/bert-class", "files/bert-tags", "heads/one-layer"]:
        tensors = fixture(case + "/model_head.safetensors")
        if len(tensors) > 2000:
            tensors = b""
        put("head", case.replace("/", "-"), fixture(case + "/head_config.json"), tensors)
    peft = {"peft_type": "LORA", "task_type": "SEQ_CLS", "r": 1}
    root = "base_model.model.classifier"
    put("head", "peft", b"", safetensors({root + ".weight": floats(2, 32), root + ".bias": floats(2)}), peft)
    for name, text in {
        "bottleneck": "seq_bn[reduction_factor={'default': 8, 2: 16.0}, non_linearity=gelu, ln_before=True]",
        "lora": "lora[r=2, alpha=4, attn_matrices=[q, 'v'], dropout=1e-1, init_weights=lora]",
        "union": "lora[r=1]|double_seq_bn[reduction_factor=2, leave_out=[0, 1]]",
        "fusion": "static[value_before_softmax=True]",
        "values": "par_bn[scaling=4.0, inv_adapter=None, mh_adapter=false, x=(1, -2)]",
        "ia3": "ia3|prefix_tuning[prefix_length=3, bottleneck_size=2]|prompt_tuning",
    }.items():
        put("grammar", name, text)
    for name, text in {
        "stack": "Stack(a, Fuse(b, 'c d', name='e'))",
        "average": "Average(a, b, weights=[0.25, 2], normalize_weights=False)",
        "split": "Split(a, None, splits=[1, 2])",
        "batch": "Parallel(BatchSplit(a, b, batch_sizes=1), Stack(c))",
        "json": json.dumps({"type": "Average", "children": [{"type": "single", "children": ["a"]},
                            {"type": "single", "children": [None]}], "kwargs": {"weights": [1, 2.5]}}),
    }.items():
        put("setup", name, text)


def texts():
    files = {
        "tsv": "sentence\tlabel\n\"Hi\" he said\tpos\r\n\r\nit's \"\tneg\n",
        "tsv-quotes": "text\tlabel\n\"a\tb \"\"c\"\"\nd\"\tx\n e \ty\n",
        "tsv-no-header": "a long enough sentence .\tpos\nbad\tneg\n",
        "csv": "\n\r\nlabel,text\r\n0,\"a \"\"b\"\", c\"\r\n\n1,\"two\nlines\"\n\n2,last",
        "pairs": "sentence1,sentence2,label\na,b,1\nc,\"d\",0\n",
        "jsonl": "{\"text\":\"a\",\"label\":1}\n\n{\"label\":true,\"text\":\"b\\u00e9\"}\r\n{\"text\":\"c\",\"label\":0.5}\n",
        "jsonl-words": "{\"tokens\":[\"a\",\"b\"],\"ner_tags\":[\"O\",\"B-X\"]}\n{\"words\":[\"c\"],\"tags\":[1]}\n",
        "squad": '{"version":"2.0","data":[{"paragraphs":[{"context":"a b","qas":[{"id":"x","question":"b?","answers":'
                 '[{"text":"b","answer_start":2}]},{"question":"c?","answers":[],"is_impossible":true}]}]}]}\n',
        "questions": '{"id":3,"question":"b?","context":"\u00e9 b","answers":{"text":["b"],"answer_start":[2]}}\n',
        "choices": '{"context":"a","question":"b","choices":["c","d"],"label":"B"}\n{"question":"a","choices":{"text":["b"],'
                   '"label":["1"]},"answerKey":"1"}\n',
        "swag": "sent1,sent2,ending0,ending1,label\na,b,c,d,1\n",
        "conll": "-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nrejects VBZ I-VP O\n\nPeter\tB-PER\n",
        "conllu": "# sent_id = 1\n1\tThe\tthe\tDET\tDT\t_\t2\tdet\t_\t_\n2-3\tof\t_\t_\t_\t_\t_\t_\t_\t_\n"
                  "2\ta\ta\tX\t_\t_\t0\troot\t_\t_\n2.1\tb\t_\t_\t_\t_\t_\t_\t_\t_\n\n",
        "documents": "one document\n\n= Title =\n\nanother\none\r\n",
        "bom": "\ufefftext\tlabel\n\u00e9\tx\n\U0001f469\ty\n",
        "tags": "a B-X\nb I-X\nc S-Y\nd E-Y\n\ne O\n",
    }
    for name, text in files.items():
        put("data", name, text)
        if name in ["tsv", "tsv-no-header", "bom"]:
            put("gzip", name, gzip.compress(text.encode(), mtime=0))
    for name in ["codecs/snappy.parquet", "codecs/gzip.parquet", "codecs/lz4.parquet", "saved/tags.parquet", "questions/squad.parquet",
                 "plain.parquet", "other.stream.arrow", "plain.file.arrow", "saved/tags/data-00000-of-00001.arrow"]:
        put("tables", name.replace("/", "-"), fixture(f"tables/{name}"))
    put("gzip", "members", gzip.compress(b"text\tla", mtime=0) + gzip.compress(b"bel\na\tx\nb\ty\n", mtime=0))
    put("gzip", "long", gzip.compress(b"text\tlabel\n" + b"a" * 50000 + b"\tx\n", mtime=0))
    tokenizers()
    sentencepieces()


def charsmap():
    """A table of SentencePiece's that replaces `a` by `b`: a trie of 512 units, and the replacements."""
    units = [0] * 512
    units[0], units[256 ^ 97], units[256] = 256 << 10, 97 | 1 << 8 | 97 << 10, 1 << 31 | 2
    return base64.b64encode(struct.pack("<I512I", 2048, *units) + b"a\0b\0").decode()


def sentencepieces():
    def varint(n):
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])

    def field(number, value):
        if isinstance(value, bytes):
            return varint(number << 3 | 2) + varint(len(value)) + value
        return varint(number << 3) + varint(value)

    def piece(text, score, kind=1):
        return field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + field(3, kind))

    # in both orders, for the classes differ in what their first pieces are
    special = [piece("<pad>", 0, 3), piece("</s>", 0, 3), piece("<unk>", 0, 2), piece("[CLS]", 0, 3), piece("[SEP]", 0, 3)]
    words = [piece("\u2581", -2), piece("\u2581a", -3), piece("a", -4), piece("b", -5), piece("ab", -6), piece("9,", -7), piece("<new>", 0, 4)]
    # a table that makes `A` an `a`
    units = [0] * 512
    units[0], units[256 ^ 65], units[256] = 256 << 10, 65 | 1 << 8 | 65 << 10, 1 << 31
    table = struct.pack("<I512I", 2048, *units) + b"a\0"
    unigram = b"".join(special + words) + field(2, field(3, 1) + field(40, 2)) + field(3, field(2, table))
    put("sentencepiece", "unigram", {"extra_ids": 5, "legacy": False}, "a Ab 9,9", unigram)
    llama = [piece("<unk>", 0, 2), piece("<s>", 0, 3), piece("</s>", 0, 3)] + [piece(f"<0x{i:02X}>", 0, 6) for i in range(256)]
    bpe = b"".join(llama + words) + field(2, field(3, 2) + field(35, 1) + field(40, 0) + field(45, b"<unk>"))
    put("sentencepiece", "bpe", {"legacy": False, "add_prefix_space": True, "add_eos_token": True}, "a ab \u00e9", bpe)
    put("sentencepiece", "legacy", {"added_tokens_decoder": {"0": {"content": "<unk>"}, "9": {"content": "ab"}}}, "ab", bpe)
    put("sentencepiece", "cut", b"", "a", unigram[:-700])
    put("sentencepiece", "no-unknown", b"", "a", b"".join(words))


def tokenizers():
    def special(word, n):
        return {"id": word, "ids": [n], "tokens": [word]}

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##c", "hello", "12", ",", "!"]
    piece = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
             {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]
    pair = piece + [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
    wordpiece = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": 0, "content": "[PAD]", "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True}],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": piece, "pair": pair,
                           "special_tokens": {"[CLS]": special("[CLS]", 2), "[SEP]": special("[SEP]", 3)}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {w: i for i, w in enumerate(words)}},
    }
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 64,
              "cls_token": "[CLS]", "added_tokens_decoder": {"0": {"content": "[PAD]", "special": True}}}
    put("tokenizer", "wordpiece", wordpiece, config, {"unk_token": "[UNK]"}, b"", {"model_type": "bert"}, "Hello, a bc!")
    bpe = {
        "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {"H": 0, "e": 1, "l": 2, "o": 3, "ll": 4, "\u0120": 5, "a": 6, "ell": 7}, "merges": ["l l", ["e", "ll"]]},
    }
    put("tokenizer", "bpe", bpe, {"tokenizer_class": "GPT2Tokenizer", "eos_token": {"__type": "AddedToken", "content": "</s>",
        "lstrip": True}}, b"", {"</s>": 8}, {"model_type": "gpt2", "eos_token_id": 3}, "Hello all")
    level = {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "<unk>": 2}, "unk_token": "<unk>"}
    unigram = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["\u2581", -1.5], ["a", -2.0], ["\u2581a", -1.0]],
               "byte_fallback": False}
    normalizers = [
        {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Strip", "strip_left": True, "strip_right": True},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}, {"type": "Lowercase"}]},
        {"type": "Prepend", "prepend": "\u2581"},
        {"type": "Precompiled", "precompiled_charsmap": charsmap()},
        {"type": "ByteLevel"}, {"type": "Nmt"}, {"type": "StripAccents"},
    ]
    splitters = [
        {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
        {"type": "Split", "pattern": {"Regex": "\\s+|(?=a)"}, "behavior": "Isolated", "invert": False},
        {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Digits", "individual_digits": True},
            {"type": "Punctuation", "behavior": "Removed"}, {"type": "CharDelimiterSplit", "delimiter": "a"}]},
        {"type": "UnicodeScripts"}, {"type": "FixedLength", "length": 2}, {"type": "Whitespace"},
    ]
    processors = [
        None, {"type": "BertProcessing", "sep": ["b", 1], "cls": ["a", 0]},
        {"type": "RobertaProcessing", "sep": ["b", 1], "cls": ["a", 0], "trim_offsets": True, "add_prefix_space": True},
        {"type": "Sequence", "processors": [{"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}]},
    ]
    for i, normalizer in enumerate(normalizers):
        file = {"version": "1.0", "truncation": {"direction": "Left", "max_length": 4, "strategy": "OnlyFirst", "stride": 1},
                "padding": {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": 2, "pad_id": 0,
                            "pad_type_id": 0, "pad_token": "<pad>"},
                "added_tokens": [], "normalizer": normalizer, "pre_tokenizer": splitters[i],
                "post_processor": processors[i % 4], "decoder": None, "model": [level, unigram][i % 2]}
        put("tokenizer", f"part-{i}", file)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def u32s(*n):
    return struct.pack(f"<{len(n)}I", *n)


def u64(n):
    return struct.pack("<Q", n)


def data_hash():
    """What a state says of the examples of its run: those of `runs.rs`, and of none to evaluate on."""
    parts = [u64(4)]
    for n in range(4):
        for values in [(n, 2), (0, 0), (n % 2,)]:
            parts += [u64(len(values)), u32s(*values)]
        parts.append(u64(0))  # no numbers to be found
    return sha256(*parts).hex() + " "


def runs():
    put("options", "few", 'model = "m"\ntrain = ["a.tsv"]\neval = "b.tsv"\nlr = 1e-3\nepochs = 2\nlayers = "0-1,3"\n')
    put("options", "shape", 'adapter = "seq_bn[ln_before=True]"\nreduction-factor = "8,2=16"\nscaling = "learned"\n'
        'placement = "both"\nadapter-init = "bert"\n')
    put("options", "memory", 'memory-budget = "1.5 GB"\nbatch-tokens = 512\nwarmup-steps = 3\nschedule = "cosine"\n'
        'backbone-dtype = "bf16"\nheader = "no"\ntext-column = 0\nlabel-column = "label"\n')
    put("options", "init", 'init = "out"\nhead = "linear"\nmax-steps = 10\npatience = 2\nmetric = "f1"\nseed = 7\n')
    epoch = {"loss": 0.5, "metrics": None, "seconds": 0.1, "tokens": 8}
    held = {"backbone": 9, "adapter": 8, "gradient": 7, "optimiser": 6, "saved": 5, "scratch": 4}
    log = {"history": [], "examples": 0, "over": 1.0, "in_epoch": 2, "of_epoch": 4, "losses": 2.1,
           "since": {"steps": 0, "losses": 0.0, "bytes": held}, "best": None, "hardest": [], "written": [0, 0]}
    note = {"version": 2, "passes": 3, "steps": 3, "data": data_hash(),
            "state": {"epochs": [epoch], "epoch": epoch, "taken": 1, "rounds": 3, "seen": 2, "best": None, "worse": 0, "evaluated": 2,
                      "stopped": False, "seconds": 1.5, "log": log}}
    put("state", "early", note)
    training = {"loss": 0.6, "norm": 0.9, "rate": 1e-4, "bytes": held}
    log["history"] = [{"step": 2, "epoch": 0.5, "time": 1.7e9, "of": {"training": training}}]
    log["best"] = [2, {"scores": {"loss": 0.7, "accuracy": None}, "examples": 4, "batches": 1, "seconds": 0.1}]
    log["hardest"] = [{"id": "1", "line": 2, "input": "a", "truth": "b", "prediction": "a", "loss": 0.9,
                       "statistics": {"accuracy": {"mean": [0.0, 1.0]}}}]
    metrics = {"loss": 0.7, "accuracy": 0.5, "examples": 4, "classes": {"a": 1}}
    note["state"]["best"] = metrics
    put("state", "evaluated", note)
    rows = floats(3, 32)[2]
    texts = [sha256(u32s(1, 2), u32s(0, 0)), sha256(u32s(3), u32s(0))]
    sums = [sha256(rows[:256])[:8], sha256(rows[256:])[:8]]
    index = {"texts": ("I64", [2, 4], b"".join(texts)), "sums": ("I64", [2], b"".join(sums)),
             "starts": ("I64", [3], u64(0) + u64(2) + u64(3))}
    put("cache", "two", safetensors(index), rows)
    index = {"texts": ("I64", [0, 4], b""), "sums": ("I64", [0], b""), "starts": ("I64", [1], u64(0))}
    put("cache", "none", safetensors(index))
    put("commit", "placed", ".commit/report.json\n{}", ".commit/.removed\nold.txt\n../other/notes\n", "old.txt\nx", ".files\na\nb\n")
    put("commit", "prepared", ".preparing-abc/x\n1", ".lock\n", ".run.toml\nseed = 1\n", "state.safetensors\nx")
    put("commit", "directories", ".commit/a/b\n1", "a\nx", ".files/\n", "report.json/\n")
    put("commit", "links", "a@", ".files\nnotes\n")



if __name__ == "__main__":
    shutil.rmtree(CORPUS, ignore_errors=True)
    for make in [models, checkpoints, adapters, texts, runs]:
        make()
    sizes = {d.name: sum(f.stat().st_size for f in d.iterdir()) for d in sorted(CORPUS.iterdir())}
    print("\n".join(f"{name}: {size} bytes" for name, size in sizes.items()))
