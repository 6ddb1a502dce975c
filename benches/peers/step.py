"""engraft and PyTorch side by side: time per training step, tokens per second and peak memory.

Both train the same Houlsby adapters (bottleneck 64) and linear head on the same weights, with the same
batches in the same order, the same dropout and the same number of threads; both count their training loop
only, not start-up or tokenisation, and not the first epoch, in which either touches its memory for the first
time. They run in turn, in processes of their own, for several rounds, so that
whatever else the machine does falls on both; a ratio is taken within a round, and the median over rounds is
reported. PyTorch is torch_train.py, beside this file. Run it on a machine that does nothing else. On a
busy one PyTorch's threads, which wait for each other by spinning, would suffer more than their share (three
times slower with one competitor), so there they are told to sleep instead (OMP_WAIT_POLICY).

    step.py --minilm DIR --train TSV --engraft PATH     # --only torch needs no --engraft
    step.py ... --variant "int8=--backbone-compute int8"  # engraft once more, with other flags
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

HERE = Path(__file__).resolve().parent
LENGTH = 128
WIDTH = 64  # of the adapters
CASES = ("minilm", "base-dropout", "base")
MEASURES = dict(step_seconds="s/step", tokens_per_second="tokens/s", peak_rss_bytes="peak RSS")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minilm", type=Path, required=True, help="MiniLM-L6-H384 as a Hugging Face directory")
    p.add_argument("--train", type=Path, required=True, help="TSV of real sentences: text, label")
    p.add_argument("--steps", type=int, help="per epoch; default: 20 on MiniLM, 3 on BERT-base")
    add_common(p, CASES)
    return checked(p)


def add_common(p, cases):
    """What every run of two sides has."""
    p.add_argument("--engraft", type=Path, help="the program")
    p.add_argument("--only", choices=["torch", "engraft"])
    p.add_argument("--case", action="append", choices=cases, help="default: all")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--epochs", type=int, default=3, help="the first is not counted")
    p.add_argument("--variant", action="append", default=[], help="NAME=FLAGS: engraft again with these flags")
    p.add_argument("--grouped", action="store_true", help="PyTorch once more, with batches of texts of like lengths")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="of both sides")
    p.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="of PyTorch: bf16 is autocast")
    p.add_argument("--work", type=Path, help="keeps the random model between runs (BERT-base: 440 MB)")
    p.add_argument("--json", type=Path, help="also write the result here")


def checked(p):
    args = p.parse_args()
    if args.only != "torch" and not args.engraft:
        p.error("--engraft PATH is needed, or --only torch")
    if args.epochs < 2 or not all("=" in v for v in args.variant):
        p.error("--epochs is at least 2, and a --variant is NAME=FLAGS")
    return args


def cases(args, work):
    """name: what to run. Only what is asked for is made, since BERT-base is large."""
    for name in args.case or CASES:
        if name == "minilm":
            model, batch, steps, dropout = args.minilm, 32, args.steps or 20, None
            train = head(args.train, batch * steps, work / "sentences.tsv")
        else:
            model, batch, steps = base_directory(args.minilm, work), 16, args.steps or 3
            dropout = None if name == "base-dropout" else 0
            train = long_lines(model, batch * steps, work / "long.tsv")
        yield name, dict(model=model, train=train, batch=batch, steps=steps, dropout=dropout, tokens=count_tokens(model, train))


def head(source, n, out):
    """The first n sentences: exactly the batches of one run."""
    with open(source, encoding="utf-8") as f:
        out.write_text("".join(islice(f, n + 1)), encoding="utf-8")
    return out


def base_directory(minilm, work):
    """BERT-base with random weights. Its tokenizer is MiniLM's (the same vocabulary)."""
    out = work / "bert-base-random"
    if not (out / "model.safetensors").exists():
        import torch
        from transformers import BertConfig, BertModel

        torch.manual_seed(0)
        BertModel(BertConfig()).save_pretrained(out)
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
            if (minilm / name).exists():
                shutil.copy(minilm / name, out)
    return out


def read_tokenizer(model):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def count_tokens(model, train):
    """Real tokens of one epoch: every line of its file, once."""
    with open(train, encoding="utf-8") as f:
        texts = [line.split("\t")[0] for line in islice(f, 1, None)]
    return sum(min(len(e.ids), LENGTH) for e in read_tokenizer(model).encode_batch(texts))


def long_lines(model, n, out, length=LENGTH):
    """n lines of exactly `length` tokens with [CLS] and [SEP]: words that are one token each."""
    tokenizer = read_tokenizer(model)
    words = sorted(w for w in tokenizer.get_vocab() if w.isascii() and w.isalpha() and w.islower() and len(w) > 3)
    lines = [" ".join(words[(i * 131 + j * 17) % len(words)] for j in range(length - 2)) for i in range(n)]
    assert all(len(e.ids) == length for e in tokenizer.encode_batch(lines))
    out.write_text("text\tlabel\n" + "".join(f"{x}\t{'ab'[i % 2]}\n" for i, x in enumerate(lines)), encoding="utf-8")
    return out


def common(case, args):
    flags = ["--model", case["model"], "--train", case["train"], "--batch-size", case["batch"], "--epochs", args.epochs,
             "--no-shuffle", "--seed", 0, "--threads", args.threads, "--max-length", LENGTH, "--device", args.device]
    return flags + (["--dropout", case["dropout"]] if case["dropout"] is not None else [])


def torch_command(case, args, _out):
    return [sys.executable, HERE / "torch_train.py", "--bottleneck", WIDTH, "--dtype", args.dtype, *common(case, args)]


def engraft_command(flags):
    return lambda case, args, out: [args.engraft.resolve(), "train", "--adapter", "houlsby", "--bottleneck", WIDTH,
                                    "--head", "linear", "--json", "--out", out, *common(case, args), *flags]


def last_line(command):
    """Runs it and reads the JSON object on its last line."""
    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([str(c) for c in command], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(command, steps, tokens):
    """Tokens are counted here, the same for both."""
    said = last_line(command)
    seconds = statistics.mean(e["seconds"] for e in said["epochs"][1:])
    return dict(step_seconds=seconds / steps, tokens_per_second=tokens / seconds, peak_rss_bytes=said["peak_rss_bytes"])


def processor():
    info = Path("/proc/cpuinfo")
    names = [x for x in info.read_text().splitlines() if x.startswith("model name")] if info.exists() else []
    return names[0].split(":")[1].strip() if names else platform.processor() or platform.machine()


def summary(runs):
    """Medians of each side, and of its ratio to PyTorch taken within each round."""
    out = {"runs": runs}
    for m in MEASURES:
        values = {side: [r[m] for r in rs] for side, rs in runs.items()}
        out[m] = {side: dict(median=statistics.median(v)) for side, v in values.items()}
        for side in values.keys() - {"PyTorch"} if "PyTorch" in values else ():
            pairs = zip(values[side], values["PyTorch"])
            out[m][side]["ratio"] = statistics.median(e / t for e, t in pairs)
    return out


def table(results):
    show = dict(step_seconds=lambda v: f"{v:.3f} s", tokens_per_second=lambda v: f"{v:,.0f}",
                peak_rss_bytes=lambda v: f"{v / 2**20:,.0f} MiB")
    sides = list(next(iter(results.values()))["runs"])
    yield "| case | measure | " + " | ".join(sides) + " |"
    yield "|---|---|" + "---|" * len(sides)
    for name, r in results.items():
        for m, title in MEASURES.items():
            cells = (r[m][side] for side in sides)
            cells = (show[m](c["median"]) + (f" (x {c['ratio']:.2f})" if "ratio" in c else "") for c in cells)
            yield f"| {name} | {title} | " + " | ".join(cells) + " |"


def side_by_side(cases, sides, args, scratch):
    """Runs the sides in turn, round after round; {case: summary}."""
    results = {}
    for name, case in cases:
        runs = {side: [] for side in sides}
        for i in range(args.rounds):
            for n, (side, command) in enumerate(sides.items()):
                line = command(case, args, scratch / f"{name}-{i}-{n}")
                runs[side].append(measure(line, case["steps"], case["tokens"]))
                print(f"{name} round {i + 1} {side}: {runs[side][-1]}", file=sys.stderr, flush=True)
        results[name] = summary(runs)
    return results


def load_before():
    """The machine's load. On a busy one PyTorch's threads are told to sleep while they wait."""
    load = os.getloadavg()[0]
    if load > 0.5:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        print(f"warning: the machine is busy (load {load:.1f}); expect noise", file=sys.stderr)
    return load


def report(results, args, load):
    print("\n".join(table(results)))
    text = json.dumps(dict(machine=processor(), threads=args.threads, load_before=load,
                           omp_wait_policy=os.environ.get("OMP_WAIT_POLICY"), cases=results))
    if args.json:
        args.json.write_text(text + "\n")
    print(text)


def sides_of(args, torch_command, engraft_command):
    """name: a function of a case that gives a command line."""
    sides = {} if args.only == "engraft" else {"PyTorch": torch_command}
    if args.grouped:
        sides["PyTorch, grouped"] = lambda *case: [*torch_command(*case), "--group-by-length"]
    if args.only != "torch":
        sides["engraft"] = engraft_command([])
        for variant in args.variant:
            name, flags = variant.split("=", 1)
            sides[name] = engraft_command(flags.split())
    return sides


def run(args, cases, torch_command, engraft_command):
    """Measures what `args` asks for and reports it. `cases(args, folder)` gives the cases, the commands their command lines."""
    load = load_before()
    with tempfile.TemporaryDirectory() as scratch:
        work = args.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        sides = sides_of(args, torch_command, engraft_command)
        report(side_by_side(cases(args, work), sides, args, Path(scratch)), args, load)


if __name__ == "__main__":
    run(arguments(), cases, torch_command, engraft_command)
