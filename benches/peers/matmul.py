"""engraft's f32 matrix multiply beside torch's, matrixmultiply's and gemm's, and the processor's peak.

The products are those of frozen linear layers with W (N, K): `forward` y = x Wᵀ and `gradient` dx = dy W, on M
tokens. Every round times each side for 20 ms, after as much to warm up, one after the other, and the peak of multiply-adds in
registers among them, so that whatever else the machine does falls on all. Shares of the peak and ratios are
taken within a round; medians over the rounds are reported. torch's number is the better of `mm(out=)` and, forward,
`linear`. `2 T / 1 T` is engraft with all threads over engraft with one, in the same round.

    matmul.py [--model bert-base|minilm] [--tokens 700 2048 64] [--rounds 15]     # builds ./matmul first
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent
BATCH = 0.02  # seconds, as in matmul/src/main.rs
SHAPES = {  # (N, K)
    "bert-base": [(768, 768), (2304, 768), (3072, 768), (768, 3072)],
    "minilm": [(384, 384), (1536, 384), (384, 1536)],
}
OTHERS = ("torch", "matrixmultiply", "gemm")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", choices=SHAPES, default="bert-base")
    p.add_argument("--tokens", type=int, nargs="+", default=[2048, 700, 64])
    p.add_argument("--rounds", type=int, default=15)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--program", type=Path, help="the built program in ./matmul; default: cargo builds it")
    p.add_argument("--json", type=Path, help="also write every reading here")
    return p.parse_args()


def build():
    done = subprocess.run(["cargo", "build", "--release", "--manifest-path", HERE / "matmul/Cargo.toml",
                           "--message-format", "json"], stdout=subprocess.PIPE, text=True, check=True)
    made = (json.loads(line).get("executable") for line in done.stdout.splitlines())
    return Path([m for m in made if m][-1])


class Program:
    """The Rust side, with a fixed number of threads."""

    def __init__(self, path, threads):
        self.process = subprocess.Popen([path, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, side, op, m, n, k):
        self.process.stdin.write(f"{side} {op} {m} {n} {k}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        if not answer:
            sys.exit(f"the program stopped at {side} {op} {m} {n} {k}")
        return float(answer[0]), float(answer[1])


def numbers(rows, cols):
    """What the Rust side makes."""
    return ((torch.arange(rows * cols) * 7919) % 1009 / 1009 - 0.5).float().reshape(rows, cols)


class Torch:
    def __init__(self):
        self.size = None

    def __call__(self, op, m, n, k):
        if self.size != (m, n, k):
            self.size = m, n, k
            self.w, self.x, self.dy = numbers(n, k), numbers(m, k), numbers(m, n)
            self.y, self.dx = torch.empty(m, n), torch.empty(m, k)
        if op == "forward":
            best = max(rate(lambda: torch.mm(self.x, self.w.t(), out=self.y), 2 * m * n * k),
                       rate(lambda: F.linear(self.x, self.w), 2 * m * n * k))
            return best, self.y[-1, -1].item()
        return rate(lambda: torch.mm(self.dy, self.w, out=self.dx), 2 * m * n * k), self.dx[-1, -1].item()


def rate(f, flops):
    """The second of two batches."""
    for _ in range(2):
        start, calls = time.perf_counter(), 0
        while (seconds := time.perf_counter() - start) < BATCH:
            f()
            calls += 1
    return calls * flops / seconds


def round_of(program, single, torch_side, shape):
    """Operations in a second, by side."""
    sides = {
        "engraft": lambda: program("engraft", *shape),
        "peak": lambda: program("peak", *shape),
        "torch": lambda: torch_side(*shape),
        "matrixmultiply": lambda: program("matrixmultiply", *shape),
        "gemm": lambda: program("gemm", *shape),
        "engraft, 1 thread": lambda: single("engraft", *shape),
    }
    out, last = {}, {}
    for side, run in sides.items():
        time.sleep(0.02)  # threads that still wait, spinning, for more of the last side's work go to sleep
        out[side], last[side] = run()
    del last["peak"]
    if any(abs(x - last["torch"]) > 1e-3 * max(1, abs(x)) for x in last.values()):
        sys.exit(f"the sides disagree on {shape}: {last}")
    return out


def row(shape, rounds):
    op, m, n, k = shape
    median = lambda f: statistics.median(f(r) for r in rounds)
    cells = [f"{median(lambda r: r['engraft']) / 1e9:.0f}", f"{median(lambda r: r['engraft'] / r['peak']):.0%}"]
    cells += [f"{median(lambda r: r['engraft'] / r[o]):.2f}" for o in OTHERS]
    cells += [f"{median(lambda r: r['engraft'] / max(r[o] for o in OTHERS)):.2f}",
              f"{median(lambda r: r['engraft'] / r['engraft, 1 thread']):.2f}"]
    return f"| {op} | {m} | {k if op == 'forward' else n} -> {n if op == 'forward' else k} | " + " | ".join(cells) + " |"


def main():
    args = arguments()
    os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))
    torch.set_num_threads(args.threads)
    path = args.program or build()
    program, single, torch_side = Program(path, args.threads), Program(path, 1), Torch()
    print("| product | tokens | layer | GFLOP/s | of the peak | / torch | / matrixmultiply | / gemm "
          f"| / the best of them | {args.threads} T / 1 T |")
    print("|---|" + "---|" * 9)
    readings = []
    for m in args.tokens:
        for n, k in SHAPES[args.model]:
            for op in ("forward", "gradient"):
                shape = op, m, n, k
                rounds = [round_of(program, single, torch_side, shape) for _ in range(args.rounds)]
                readings.append(dict(op=op, m=m, n=n, k=k, rounds=rounds))
                print(row(shape, rounds), flush=True)
    if args.json:
        args.json.write_text(json.dumps(dict(torch=torch.__version__, threads=args.threads, readings=readings)) + "\n")


if __name__ == "__main__":
    main()
